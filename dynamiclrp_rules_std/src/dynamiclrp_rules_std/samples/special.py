"""Samples of elementwise functions of one tensor."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

special = torch.special
NO_HALF = (torch.float64, torch.float32)
ONE = ("n 4",)


def pairs(a: Tensor) -> Tensor:
    """The last dimension as real and imaginary part."""
    return torch.view_as_complex(a.contiguous())


def steps(a: Tensor) -> Tensor:
    """Between -1.5 and 1.5 times as far apart: values on both sides of several integers."""
    return a * 3


SAMPLES = (
    # -- trigonometric and hyperbolic --------------------------------------------------------------
    Sample("SinBackward0", torch.sin),
    Sample("SinBackward0", lambda a: a.clone().sin_(), label="in-place"),
    Sample("CosBackward0", torch.cos),
    Sample("TanBackward0", lambda a: (a / 4).tan()),
    Sample("AsinBackward0", torch.asin, domain="unit"),
    Sample("AcosBackward0", torch.acos, domain="unit"),
    Sample("AtanBackward0", torch.atan),
    Sample("SinhBackward0", torch.sinh),
    Sample("CoshBackward0", torch.cosh),
    Sample("AsinhBackward0", torch.asinh),
    Sample("AcoshBackward0", lambda a: (a + 1).acosh(), domain="positive"),
    Sample("AtanhBackward0", torch.atanh, domain="unit"),
    Sample("Deg2RadBackward0", torch.deg2rad),
    Sample("Rad2DegBackward0", torch.rad2deg),
    # -- logarithms and powers ---------------------------------------------------------------------
    Sample("Log2Backward0", torch.log2, domain="positive"),
    Sample("Log10Backward0", torch.log10, domain="positive"),
    Sample("LogitBackward0", lambda a: torch.logit(a.abs() * 0.9), domain="unit"),
    Sample("LogitBackward0", lambda a: torch.logit(a.abs(), 0.1), domain="unit", label="eps"),
    Sample("Exp2Backward0", torch.exp2),
    # -- steps -------------------------------------------------------------------------------------
    Sample("FloorBackward0", lambda a: steps(a).floor()),
    Sample("CeilBackward0", lambda a: steps(a).ceil()),
    Sample("RoundBackward0", lambda a: steps(a).round()),
    Sample("TruncBackward0", lambda a: steps(a).trunc()),
    Sample("FracBackward0", lambda a: steps(a).frac()),
    Sample("SignBackward0", torch.sign),
    Sample("SgnBackward0", torch.sgn),
    Sample("SgnBackward0", lambda a: torch.sgn(pairs(a)), ("n 3 2",), dtypes=NO_HALF, label="complex"),
    Sample("FakeQuantizePerTensorAffineCachemaskBackward0",
        lambda a: torch.fake_quantize_per_tensor_affine(a, 0.25, 1, -6, 7), dtypes=(torch.float32,)),
    Sample("FrexpBackward0", lambda a: torch.frexp(a)),
    Sample("AngleBackward0", torch.angle, dtypes=NO_HALF),
    Sample("AngleBackward0", lambda a: pairs(a).angle(), ("n 3 2",), dtypes=NO_HALF,
        label="complex"),
    Sample("AbsBackward0", lambda a: pairs(a).abs(), ("n 3 2",), dtypes=NO_HALF,
        label="complex"),
    Sample("NanToNumBackward0", torch.nan_to_num),
    Sample("NanToNumBackward0", lambda a: torch.nan_to_num(
        a.masked_fill(torch.arange(4, device=a.device) == 1, torch.inf), posinf=3.0), label="inf"),
    # -- error function and normal distribution ----------------------------------------------------
    Sample("ErfcBackward0", torch.erfc),
    Sample("ErfinvBackward0", torch.erfinv, domain="unit"),
    Sample("SpecialErfcxBackward0", special.erfcx, dtypes=NO_HALF),
    Sample("SpecialNdtriBackward0", lambda a: special.ndtri(a.abs() + 0.01), domain="unit", dtypes=NO_HALF),
    Sample("SpecialLogNdtrBackward0", special.log_ndtr, dtypes=NO_HALF),
    # -- gamma and Bessel functions, entropy, cardinal sine ----------------------------------------
    Sample("LgammaBackward0", torch.lgamma, domain="positive"),
    Sample("DigammaBackward0", torch.digamma, domain="positive"),
    Sample("PolygammaBackward0", lambda a: torch.polygamma(1, a), domain="positive", label="1"),
    Sample("PolygammaBackward0", lambda a: torch.polygamma(2, a), domain="positive", label="2"),
    Sample("I0Backward0", torch.i0),
    Sample("SpecialI0EBackward0", special.i0e),
    Sample("SpecialI1Backward0", special.i1, dtypes=NO_HALF),
    Sample("SpecialI1EBackward0", special.i1e, dtypes=NO_HALF),
    Sample("SincBackward0", torch.sinc),
    Sample("SpecialEntrBackward0", special.entr, domain="positive"),
    Sample("DivBackward2", lambda a, b: torch.div(a, b, rounding_mode="floor"), ("n 4", "n 4"), "positive"),
    Sample("DivBackward2", lambda a, b: torch.div(a, b, rounding_mode="trunc"), ("n 2 3", "3"), "positive",
        label="trunc-right"),
    Sample("DivBackward2", lambda a: torch.div(a, 0.3, rounding_mode="floor"), label="scalar"),
)  # fmt: skip
