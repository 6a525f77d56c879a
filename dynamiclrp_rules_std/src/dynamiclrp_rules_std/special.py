"""Elementwise functions of one tensor: trigonometric, logarithmic, rounding, special.

Each is the secant from 0 (``Elementwise`` in dynamiclrp_core.rules.defaults), with (f(x) - f(0)) / x written
so that it does not cancel near 0. Where f has a pole at 0, or is not real there, it is f(x)/x (``at_zero``
infinite). Steps (floor, sign) have a gradient of 0 and a secant all the same: their operand makes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from dynamiclrp_core.families import composite, custom, elementwise, scaling
from dynamiclrp_core.node import metadata
from dynamiclrp_core.numerics import dot, quotient, secant
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Row, Value
from dynamiclrp_core.rules.defaults import Moving, book_or_not
from dynamiclrp_core.rules.euler import Homogeneous
from dynamiclrp_core.subgraph import Composite
from torch import Tensor

special = torch.special


def complex_operand(op: Op) -> bool:
    """Whether operand 0 is complex."""
    node, nr = op.edges[0]
    return node is not None and bool(metadata(node)[nr].dtype.is_complex)


def _from_zero(node: str, f: Callable[[Tensor], Tensor], limit: float, **facts: Any) -> Row:
    """f(0) = 0, f'(0) = limit."""
    return elementwise(
        node,
        forward=lambda op, x: f(x),
        slope=lambda op: secant(f(op.input(0)), op.input(0), limit),
        **facts,
    )


def _with_pole(node: str, f: Callable[[Op, Tensor], Tensor], **facts: Any) -> Row:
    """f(0) infinite or not real: all of f(x), not of a difference."""
    return elementwise(
        node,
        forward=f,
        slope=lambda op: quotient(f(op, op.input(0)), op.input(0)),
        at_zero=math.inf,
        **facts,
    )


def _offset(
    node: str, at_zero: float, f: Callable[[Tensor], Tensor], rise: Callable[[Tensor], Tensor], limit: float,
    **facts: Any,
) -> Row:  # fmt: skip
    """f(0) = at_zero, f(x) - f(0) = rise(x), f'(0) = limit."""
    return elementwise(
        node,
        forward=lambda op, x: f(x),
        slope=lambda op: secant(rise(op.input(0)), op.input(0), limit),
        at_zero=at_zero,
        **facts,
    )


def _scaled(node: str, f: Callable[[Tensor], Tensor]) -> Row:
    """A constant factor."""
    return scaling(node, forward=lambda op, x: f(x))


def _logit(op: Op, x: Tensor) -> Tensor:
    return torch.logit(x, op.saved.eps)


def _logit_at_zero(op: Op) -> float:
    eps = op.saved.eps
    return math.inf if not eps else math.log(eps / (1 - eps))


def _logit_slope(op: Op) -> Tensor:
    x, offset = op.input(0), _logit_at_zero(op)
    return quotient(_logit(op, x) - (offset if math.isfinite(offset) else 0.0), x)


def _angle(op: Op, x: Tensor) -> Tensor:
    return torch.atan2(x.imag, x.real) if x.is_complex() else torch.angle(x)


def _fake_quantized(op: Op, x: Tensor) -> Tensor:
    scale, point = op.constant("scale"), op.constant("zero_point")
    made: Tensor = torch.fake_quantize_per_tensor_affine(
        x.float(), scale, point, op.constant("quant_min"), op.constant("quant_max")
    )
    return made.to(x.dtype)


class Replaced(Moving):
    """``nan_to_num``: finite entries pass, what stands for the others is constant."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None:
            book_or_not(op, "constants", lambda: dot(torch.where(_finite(op), 0.0, op.output()), ci))
        return op.backward(ci)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        if op.ledger is not None:
            op.book("constants", torch.where(_finite(op), 0.0, ri).sum())
        return [Value(torch.where(_finite(op), ri, 0.0))]


def _finite(op: Op) -> Tensor:
    return cast(Tensor, op.saved.self).isfinite()


def _finite_only(op: Op, x: Tensor) -> Tensor:
    return torch.nan_to_num(x, op.constant("nan"), op.constant("posinf"), op.constant("neginf"))


ROWS = (
    # -- trigonometric and hyperbolic ---------------------------------------------------------------
    _from_zero("SinBackward0", torch.sin, 1.0),
    _from_zero("TanBackward0", torch.tan, 1.0, results="result"),
    _from_zero("AsinBackward0", torch.asin, 1.0),
    _from_zero("AtanBackward0", torch.atan, 1.0),
    _from_zero("SinhBackward0", torch.sinh, 1.0),
    _from_zero("AsinhBackward0", torch.asinh, 1.0),
    _from_zero("AtanhBackward0", torch.atanh, 1.0),
    _offset("CosBackward0", 1.0, torch.cos, lambda x: -2 * (x / 2).sin() ** 2, 0.0),
    _offset("CoshBackward0", 1.0, torch.cosh, lambda x: 2 * (x / 2).sinh() ** 2, 0.0),
    _offset("AcosBackward0", math.pi / 2, torch.acos, lambda x: -x.asin(), -1.0),
    _with_pole("AcoshBackward0", lambda op, x: x.acosh()),  # real from 1 on only
    _scaled("Deg2RadBackward0", torch.deg2rad),
    _scaled("Rad2DegBackward0", torch.rad2deg),
    # -- logarithms and powers ----------------------------------------------------------------------
    _with_pole("Log2Backward0", lambda op, x: x.log2(), inverse=lambda op, y: y.exp2()),
    _with_pole("Log10Backward0", lambda op, x: x.log10(), inverse=lambda op, y: 10**y),
    elementwise("LogitBackward0", forward=_logit, slope=_logit_slope, at_zero=_logit_at_zero),
    _offset("Exp2Backward0", 1.0, torch.exp2, lambda x: torch.expm1(x * math.log(2)), math.log(2),
        results="result", inverse=lambda op, y: y.log2()),
    # -- steps --------------------------------------------------------------------------------------
    _from_zero("FloorBackward0", torch.floor, 0.0),
    _from_zero("CeilBackward0", torch.ceil, 0.0),
    _from_zero("RoundBackward0", torch.round, 0.0),
    _from_zero("TruncBackward0", torch.trunc, 0.0),
    _from_zero("FracBackward0", torch.frac, 1.0),
    _from_zero("SignBackward0", torch.sign, 0.0, degree=0.0),
    # Also of complex x, x/|x| with |x| held as a norm is: relevance passes unchanged.
    elementwise("SgnBackward0", results="result", forward=lambda op, x: x.sgn(), degree=0.0,
        slope=lambda op: quotient(op.input(0).abs().sign(), op.input(0).abs())),
    elementwise("FakeQuantizePerTensorAffineCachemaskBackward0", forward=_fake_quantized,
        slope=lambda op: secant(op.output(), op.input(0), 1.0)),
    # The mantissa: the power of two is held.
    elementwise("FrexpBackward0", forward=lambda op, x: torch.frexp(x).mantissa,
        slope=lambda op: torch.exp2(-op.saved.exponent.to(op.dtype))),
    # Of a real x: 0 or pi. Of a complex one: atan2, whose numerator, the imaginary part, takes all.
    elementwise("AngleBackward0", cases=((complex_operand, Composite()),), forward=_angle,
        slope=lambda op: quotient(op.input(0).angle(), op.input(0)), degree=0.0),
    elementwise("AbsBackward0", cases=((complex_operand, Homogeneous()),),
        forward=lambda op, x: x.abs(), degree=1.0),
    custom("NanToNumBackward0", Replaced(), "self", family="moving", selects=True, degree=1.0,
        forward=_finite_only, pull=lambda op, c, i, at: torch.where(_finite(op), c, 0.0)),
    # -- error function and normal distribution -----------------------------------------------------
    _offset("ErfcBackward0", 1.0, torch.erfc, lambda x: -x.erf(), -2 / math.sqrt(math.pi)),
    _from_zero("ErfinvBackward0", torch.erfinv, math.sqrt(math.pi) / 2),
    _offset("SpecialErfcxBackward0", 1.0, special.erfcx, lambda x: special.erfcx(x) - 1,
        -2 / math.sqrt(math.pi), results="result"),
    _with_pole("SpecialNdtriBackward0", lambda op, x: special.ndtri(x), results="result",
        inverse=lambda op, y: special.ndtr(y)),
    _offset("SpecialLogNdtrBackward0", -math.log(2), special.log_ndtr,
        lambda x: special.log_ndtr(x) + math.log(2), math.sqrt(2 / math.pi), results="result"),
    # -- gamma and Bessel functions, entropy, cardinal sine -----------------------------------------
    _with_pole("LgammaBackward0", lambda op, x: x.lgamma()),
    _with_pole("DigammaBackward0", lambda op, x: x.digamma()),
    _with_pole("PolygammaBackward0", lambda op, x: torch.polygamma(op.saved.n, x)),
    _offset("I0Backward0", 1.0, torch.i0, lambda x: torch.i0(x) - 1, 0.0),
    _offset("SpecialI0EBackward0", 1.0, special.i0e, lambda x: special.i0e(x) - 1, 0.0,
        results="result"),
    _from_zero("SpecialI1Backward0", special.i1, 0.5, results="result"),
    _from_zero("SpecialI1EBackward0", special.i1e, 0.5, results="result"),
    _offset("SincBackward0", 1.0, torch.sinc, lambda x: torch.sinc(x) - 1, 0.0),
    _from_zero("SpecialEntrBackward0", special.entr, 0.0),  # -x log x: no finite slope at 0
    # -- rounded quotients --------------------------------------------------------------------------
    composite("DivBackward2", "self other",
        forward=lambda op, a, b: getattr(a / b, op.saved.rounding_mode)()),
)  # fmt: skip
