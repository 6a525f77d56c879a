"""Sums, products, powers: elementwise arithmetic of one or two tensors."""

from __future__ import annotations

import math

import torch
from dynamiclrp_core.families import (
    adding,
    constant_part,
    copying,
    elementwise,
    product,
    quotient,
    scaling,
)
from dynamiclrp_core.matching.softmax_by_hand import logsumexp_by_hand, softmax_by_hand
from dynamiclrp_core.numerics import quotient as divide
from dynamiclrp_core.numerics import secant, within
from dynamiclrp_core.op import Op
from dynamiclrp_core.rules.defaults import Gradient
from torch import Tensor


def _power_slope(op: Op) -> Tensor:
    """x**(p-1), 0 at 0 where it has no finite limit (p = 1: 1; p = 0: constant, so 0)."""
    x, p = op.input(0), op.saved.exponent
    if p in (0, 1):
        return torch.full_like(x, p)
    return x ** (p - 1) if p > 1 else divide(x**p, x)


def _power_at_zero(op: Op) -> float:
    p = op.saved.exponent
    return 0.0 if p > 0 else 1.0 if p == 0 else math.inf


def _lerp_weights(op: Op) -> tuple[float, float]:
    w = op.saved.weight
    return 1 - w, w


def _exp_slope(op: Op) -> Tensor:
    """expm1(x) / x. The result gives x unless it over- or underflowed, or has too few digits."""
    y = op.output()
    if y.dtype in (torch.float32, torch.float64) and within(y, 1e-30, 1e30):
        return secant(y - 1, y.log(), 1.0)
    x = op.input(0)
    return secant(x.expm1(), x, 1.0)


def _base_slope(op: Op) -> Tensor:
    """(b**x - 1) / x for a number b."""
    x, base = op.input(0), float(op.saved.self)
    if base <= 0:
        return divide(base**x - 1, x)
    return secant(torch.expm1(x * math.log(base)), x, math.log(base))


def _scalar(op: Op) -> float:
    """The number that aten.add.Scalar added."""
    other: float = op.constant("alpha") * op.constant("other")
    return other


ROWS = (
    # -- sums ---------------------------------------------------------------------------------------
    adding("AddBackward0", weights=lambda op: (1, op.saved.alpha)),
    adding("AddBackward1", "self", weights=lambda op: (1,), shift=constant_part,
        forward=lambda op, x: x + _scalar(op)),
    adding("SubBackward0", weights=lambda op: (1, -op.saved.alpha)),
    adding("SubBackward1", "self", weights=lambda op: (1,), shift=constant_part,
        forward=lambda op, x: x - _scalar(op)),
    adding("RsubBackward0", weights=lambda op: (-op.saved.alpha, 1)),
    adding(
        "RsubBackward1",
        "self",
        weights=lambda op: (-op.saved.alpha,),
        shift=constant_part,
        forward=lambda op, x: op.constant("other") - op.saved.alpha * x,
    ),
    adding("LerpBackward0", "self end", weights=_lerp_weights),
    # -- products -----------------------------------------------------------------------------------
    product(
        "MulBackward0",
        forward=lambda op, a, b: a * b,
        pull=lambda op, c, i, at: c * at(1 - i).conj(),
    ),
    scaling("MulBackward1", forward=lambda op, x: x * op.saved.other),
    quotient(
        "DivBackward0",
        forward=lambda op, a, b: a / b,
        pull=lambda op, c, i, at: c / at(1).conj() if i == 0 else -c * (at(0) / at(1) ** 2).conj(),
    ),
    scaling("DivBackward1", forward=lambda op, x: x / op.saved.other),
    # -- one operand --------------------------------------------------------------------------------
    scaling("NegBackward0", forward=lambda op, x: -x, inverse=lambda op, y: -y),
    elementwise(
        "ReciprocalBackward0",
        results="result",
        forward=lambda op, x: x.reciprocal(),
        slope=lambda op: op.output() ** 2,
        at_zero=math.inf,
        inverse=lambda op, y: 1 / y,
        degree=-1.0,
    ),
    elementwise(
        "SqrtBackward0",
        results="result",
        forward=lambda op, x: x.sqrt(),
        slope=lambda op: divide(torch.ones_like(op.output()), op.output()),
        inverse=lambda op, y: y * y,
        degree=0.5,
    ),
    elementwise(
        "RsqrtBackward0",
        results="result",
        forward=lambda op, x: x.rsqrt(),
        slope=lambda op: op.output() ** 3,
        at_zero=math.inf,
        inverse=lambda op, y: y**-2,
        degree=-0.5,
    ),
    elementwise(
        "PowBackward0",
        forward=lambda op, x: x**op.saved.exponent,
        slope=_power_slope,
        at_zero=_power_at_zero,
        degree=lambda op: float(op.saved.exponent),
    ),
    elementwise(
        "ExpBackward0",
        results="result",
        forward=lambda op, x: x.exp(),
        slope=_exp_slope,
        at_zero=1.0,
        cases=((softmax_by_hand, Gradient()),),
        inverse=lambda op, y: y.log(),
    ),
    elementwise(
        "Expm1Backward0",
        results="result",
        forward=lambda op, x: x.expm1(),
        slope=lambda op: secant(op.output(), op.input(0), 1.0),
        inverse=lambda op, y: y.log1p(),
    ),
    elementwise(
        "LogBackward0",
        forward=lambda op, x: x.log(),
        slope=lambda op: divide(op.input(0).log(), op.input(0)),
        at_zero=math.inf,
        cases=((logsumexp_by_hand, Gradient()),),
        inverse=lambda op, y: y.exp(),
    ),
    elementwise(
        "Log1PBackward0",
        forward=lambda op, x: x.log1p(),
        slope=lambda op: secant(op.input(0).log1p(), op.input(0), 1.0),
    ),
    elementwise("ClampMinBackward0", forward=lambda op, x: x.clamp_min(op.saved.min),
        at_zero=lambda op: max(0.0, float(op.saved.min)), degree=1.0,
        slope=lambda op: secant(
            op.input(0).clamp_min(op.saved.min) - max(0.0, float(op.saved.min)),
            op.input(0), float(op.saved.min <= 0))),
    elementwise("ClampMaxBackward0", forward=lambda op, x: x.clamp_max(op.saved.max),
        at_zero=lambda op: min(0.0, float(op.saved.max)), degree=1.0,
        slope=lambda op: secant(
            op.input(0).clamp_max(op.saved.max) - min(0.0, float(op.saved.max)),
            op.input(0), float(op.saved.max >= 0))),
    elementwise("PowBackward2", "exponent", results="result", at_zero=1.0,
        forward=lambda op, x: op.saved.self**x, slope=_base_slope),
    copying("CloneBackward0", forward=lambda op, x: x.clone()),
    copying("ToCopyBackward0", inverse=None,
        forward=lambda op, x: x.to(op.sweep.dtype or op.dtype)),
)  # fmt: skip
