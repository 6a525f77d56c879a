"""Samples of overloads, in-place twins, deprecated spellings and quantisation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

from .decomposition import near, of, symmetric
from .scan import with_nan

aten = torch.ops.aten
linalg = torch.linalg
NO_HALF = (torch.float64, torch.float32)
SINGLE = (torch.float32,)
CUBE = ("n 2 3",)
RIGHT = ("n 3 3", "n 3 2")


def quietly(call: Callable[..., Any]) -> Callable[..., Any]:
    """A deprecated call without its warning."""

    def made(*xs: Tensor) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*xs)

    return made


def drawn(a: Tensor, rrelu: Callable[[Tensor], Tensor]) -> Tensor:
    """With the same noise at every call."""
    with torch.random.fork_rng(devices=[a.device] if a.is_cuda else []):
        torch.manual_seed(7)
        made: Tensor = rrelu(a)
    return made


def grid(a: Tensor, *shape: int) -> tuple[Tensor, Tensor]:
    """A scale and a zero point."""
    scale = torch.linspace(0.2, 0.3, torch.Size(shape).numel(), device=a.device).view(shape)
    return scale, torch.ones(shape, dtype=torch.int32, device=a.device)


def learned(a: Tensor, which: str, *shape: int) -> Tensor:
    """A learned grid, trained or not."""
    scale, point = (t.float() for t in grid(a, *shape))
    f = getattr(torch, f"_fake_quantize_learnable_per_{which}_affine")
    made: Tensor = f(a, scale, point, *((1,) if which == "channel" else ()), -6, 7, 1.0)
    return made


SAMPLES = (
    # -- linear algebra ----------------------------------------------------------------------------
    of("CholeskyBackward0", quietly(lambda a: torch.cholesky(symmetric(a)))),
    of("CholeskyBackward0", quietly(lambda a: torch.cholesky(symmetric(a), upper=True)), label="upper"),
    of("LinalgLuSolveBackward0", lambda a, b: linalg.lu_solve(*linalg.lu_factor(near(a)), b), *RIGHT),
    of("LinalgLuSolveBackward0", lambda a, b: linalg.lu_solve(*linalg.lu_factor(near(a)), b.mT, left=False,
        adjoint=True), *RIGHT, label="right"),
    of("LuUnpackBackward0", lambda a: torch.lu_unpack(a, torch.ones(len(a), 3, dtype=torch.int32))[1:]),
    of("LuUnpackBackward0", lambda a: torch.lu_unpack(a, torch.ones(len(a), 2, dtype=torch.int32))[1:],
        "n 3 2", label="tall"),
    of("TriangularSolveBackward0", quietly(lambda b, a: torch.triangular_solve(b, near(a))),
        "n 3 2", "n 3 3"),
    of("TriangularSolveBackward0", quietly(lambda b, a: torch.triangular_solve(
        b, near(a), upper=False, transpose=True)[0]), "n 3 2", "n 3 3", label="transposed"),
    of("OrmqrBackward0", torch.ormqr, "n 3 3", "n 3", "n 3 2"),
    of("OrmqrBackward0", lambda a, t, c: torch.ormqr(a, t, c.mT, left=False, transpose=True),
        "n 3 3", "n 3", "n 3 2", label="right-transposed"),
    of("OrmqrBackward0", lambda a, t, c: torch.ormqr(a, t, c, transpose=True),
        "n 3 2", "n 2", "n 3 2", label="tall"),
    # -- quantisation ------------------------------------------------------------------------------
    Sample("FakeQuantizePerTensorAffineCachemaskTensorQparamsBackward0",
        lambda a: torch.fake_quantize_per_tensor_affine(a, *grid(a, 1), -6, 7), dtypes=SINGLE),
    Sample("FakeQuantizePerChannelAffineCachemaskBackward0",
        lambda a: torch.fake_quantize_per_channel_affine(a, *grid(a, 4), 1, -6, 7), dtypes=SINGLE),
    Sample("FakeQuantizeLearnablePerTensorAffineBackward0", lambda a: learned(a, "tensor", 1), dtypes=SINGLE),
    Sample("FakeQuantizeLearnablePerChannelAffineBackward0", lambda a: learned(a, "channel", 4),
        dtypes=SINGLE),
    Sample("RoundBackward1", lambda a: a.round(decimals=1), dtypes=NO_HALF),
    # -- in place ----------------------------------------------------------------------------------
    Sample("CeluBackward1", lambda a: F.celu(a.clone(), 0.7, inplace=True)),
    Sample("RreluWithNoiseBackward1",
        lambda a: drawn(a, lambda x: F.rrelu(x.clone(), training=True, inplace=True)), batched=False),
    Sample("ThresholdBackward1", lambda a: F.threshold(a.clone(), 0.1, 2.0, inplace=True)),
    Sample("PolygammaBackward1", lambda a: a.clone().polygamma_(1), domain="positive"),
    Sample("ConjPhysicalBackward0", lambda a: torch.complex(a, a.flip(-1)).conj_physical(), dtypes=NO_HALF),
    Sample("ConjPhysicalBackward1", lambda a: torch.complex(a, a.flip(-1)).conj_physical_(), dtypes=NO_HALF),
    # -- a number for an operand -------------------------------------------------------------------
    Sample("CopysignBackward1", lambda a: aten.copysign.Scalar(a, -1.0)),
    Sample("DivBackward3", lambda a: aten.div.Scalar_mode(a, 0.3, rounding_mode="floor")),
    Sample("XlogyBackward1", lambda a: aten.xlogy.Scalar_Self(2.0, a), domain="positive"),
    Sample("XlogyBackward2", lambda a: aten.xlogy.Scalar_Other(a, 2.5)),
    Sample("SpecialXlog1PyBackward1", lambda a: aten.special_xlog1py.self_scalar(2.0, a), domain="positive"),
    Sample("SpecialXlog1PyBackward2", lambda a: aten.special_xlog1py.other_scalar(a, 2.5)),
    Sample("SpecialZetaBackward1", lambda q: aten.special_zeta.self_scalar(2.5, q), domain="positive",
        dtypes=NO_HALF),
    Sample("MvlgammaBackward0", lambda a: torch.mvlgamma(a + 1, 2), domain="positive"),
    # -- selections and norms ----------------------------------------------------------------------
    Sample("NanmedianBackward0", lambda a: with_nan(a).nanmedian(), domain="distinct", batched=False),
    Sample("NormBackward2", lambda a: aten.norm.ScalarOpt_dtype(a, 3, dtype=a.dtype), batched=False),
    Sample("NormBackward3", lambda a: aten.norm.ScalarOpt_dim_dtype(a, 2, [1], True, dtype=a.dtype), CUBE),
)  # fmt: skip
