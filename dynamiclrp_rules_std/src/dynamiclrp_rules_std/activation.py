"""Activations. ``slope`` is (f(x) - f(0)) / x in the form that does not cancel near 0."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from dynamiclrp_core.families import composite, custom, elementwise, scaling
from dynamiclrp_core.numerics import secant, within
from dynamiclrp_core.op import Op
from dynamiclrp_core.subgraph import Composite
from torch import Tensor


def _gelu_slope(op: Op) -> Tensor:
    x = op.input(0)
    if op.saved.approximate == "tanh":
        # (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps its digits where it is small.
        k = math.sqrt(8 / math.pi)
        return torch.sigmoid(x * (x * x).mul_(0.044715 * k).add_(k))
    return torch.erf(x * math.sqrt(0.5)).add_(1).mul_(0.5)


def _clamped(op: Op, low: float, high: float) -> Tensor:
    """Slope of clamp(x, low, high)."""
    x = op.input(0)
    offset = min(max(0.0, low), high)
    return secant(x.clamp(low, high) - offset, x, float(low <= 0 <= high))


def _hardtanh_at_zero(op: Op) -> float:
    return min(max(0.0, float(op.saved.min_val)), float(op.saved.max_val))


def _clamp_bounds(op: Op) -> tuple[float, float]:
    low, high = op.saved.min, op.saved.max
    return (-math.inf if low is None else float(low), math.inf if high is None else float(high))


def _softplus_slope(op: Op) -> Tensor:
    # (softplus(x) - log 2) / x = log((1 + e^x) / 2) / x, which log1p(expm1(x) / 2) keeps exact near 0.
    x, beta = op.input(0), op.saved.beta
    bx = x * beta
    near = torch.log1p(torch.expm1(bx.clamp(max=20)) / 2) / beta
    far = F.softplus(x, beta, op.saved.threshold) - math.log(2) / beta
    return secant(torch.where((bx.abs() < 1) & (bx <= op.saved.threshold), near, far), x, 0.5)


def _unsaturated(d: Tensor) -> bool:
    """Whether atanh(d) keeps its digits: then x need not be asked for, which may mean recomputing it."""
    return d.dtype in (torch.float32, torch.float64) and within(d, -0.999, 0.999)


def _tanh_slope(op: Op) -> Tensor:
    y = op.output()
    return secant(y, y.atanh() if _unsaturated(y) else op.input(0), 1.0)


def _sigmoid_slope(op: Op) -> Tensor:
    # (sigmoid(x) - 1/2) / x with sigmoid(x) = (1 + tanh(x/2)) / 2
    d = 2 * op.output() - 1
    if _unsaturated(d):
        return secant(d, d.atanh(), 1.0) / 4
    x = op.input(0)
    return secant((x / 2).tanh() / 2, x, 0.25)


def _logsigmoid_slope(op: Op) -> Tensor:
    # -(softplus(-x) - log 2) / x, near 0 as in _softplus_slope.
    x = op.input(0)
    near = -torch.log1p(torch.expm1(-x.clamp(min=-20)) / 2)
    return secant(torch.where(x.abs() < 1, near, F.logsigmoid(x) + math.log(2)), x, 0.5)


def _elu_inverse(op: Op, y: Tensor) -> Tensor:
    s = op.saved
    below = torch.log1p((y / (s.scale * s.alpha)).clamp(min=-1 + torch.finfo(y.dtype).eps)) / s.input_scale
    return torch.where(y > 0, y / s.scale, below)


def _elu_slope(op: Op) -> Tensor:
    s, y = op.saved, op.output()
    x = _elu_inverse(op, y) if _unsaturated(y.clamp(max=0) / (s.scale * s.alpha)) else op.input(0)
    return secant(y, x, float(s.alpha * s.scale * s.input_scale))


ROWS = (
    # The derivative is the slope: own backward.
    elementwise(
        "ReluBackward0",
        results="result",
        forward=lambda op, x: x.relu(),
        degree=1.0,
        stands_in=True,
    ),
    elementwise(
        "LeakyReluBackward0",
        forward=lambda op, x: F.leaky_relu(x, op.saved.negative_slope),
        degree=1.0,
    ),
    elementwise(
        "LeakyReluBackward1",
        results="result",
        forward=lambda op, x: F.leaky_relu(x, op.saved.negative_slope),
        inverse=lambda op, y: torch.where(y > 0, y, y / op.saved.negative_slope),
        degree=1.0,
    ),
    # Closed slopes.
    elementwise(
        "SigmoidBackward0",
        results="result",
        forward=lambda op, x: x.sigmoid(),
        slope=_sigmoid_slope,
        at_zero=0.5,
        inverse=lambda op, y: y.logit(torch.finfo(y.dtype).eps / 2),
    ),
    elementwise(
        "TanhBackward0",
        results="result",
        forward=lambda op, x: x.tanh(),
        slope=_tanh_slope,
        inverse=lambda op, y: y.clamp(-1 + torch.finfo(y.dtype).eps, 1 - torch.finfo(y.dtype).eps).atanh(),
    ),
    elementwise("GeluBackward0", forward=lambda op, x: F.gelu(x, approximate=op.saved.approximate),
        slope=_gelu_slope),
    elementwise("SiluBackward0", forward=lambda op, x: F.silu(x), slope=lambda op: op.input(0).sigmoid()),
    elementwise("MishBackward0", forward=lambda op, x: F.mish(x),
        slope=lambda op: F.softplus(op.input(0)).tanh()),
    elementwise("HardswishBackward0", forward=lambda op, x: F.hardswish(x),
        slope=lambda op: F.hardsigmoid(op.input(0))),
    elementwise("HardsigmoidBackward0", forward=lambda op, x: F.hardsigmoid(x), at_zero=0.5,
        slope=lambda op: secant((op.input(0) / 6).clamp(-0.5, 0.5), op.input(0), 1 / 6)),
    elementwise("HardtanhBackward0", at_zero=_hardtanh_at_zero,
        forward=lambda op, x: F.hardtanh(x, op.saved.min_val, op.saved.max_val),
        slope=lambda op: _clamped(op, float(op.saved.min_val), float(op.saved.max_val))),
    elementwise("ClampBackward1", forward=lambda op, x: x.clamp(*_clamp_bounds(op)),
        at_zero=lambda op: min(max(0.0, _clamp_bounds(op)[0]), _clamp_bounds(op)[1]),
        slope=lambda op: _clamped(op, *_clamp_bounds(op))),
    elementwise("SoftplusBackward0", at_zero=lambda op: math.log(2) / op.saved.beta,
        forward=lambda op, x: F.softplus(x, op.saved.beta, op.saved.threshold),
        slope=_softplus_slope),
    elementwise("EluBackward0",
        forward=lambda op, x: _elu(op, x),
        slope=lambda op: secant(_elu(op, op.input(0)), op.input(0),
            float(op.saved.alpha * op.saved.scale * op.saved.input_scale))),
    elementwise("EluBackward1", results="result", inverse=_elu_inverse,
        forward=lambda op, x: _elu(op, x), slope=_elu_slope),
    elementwise("CeluBackward0", forward=lambda op, x: F.celu(x, op.saved.alpha),
        slope=lambda op: secant(F.celu(op.input(0), op.saved.alpha), op.input(0), 1.0)),
    elementwise("ErfBackward0", forward=lambda op, x: x.erf(),
        slope=lambda op: secant(op.input(0).erf(), op.input(0), 2 / math.sqrt(math.pi))),
    elementwise("HardshrinkBackward0", forward=lambda op, x: F.hardshrink(x, op.saved.lambd),
        slope=lambda op: (op.input(0).abs() > op.saved.lambd).to(op.input(0).dtype)),
    elementwise("SoftshrinkBackward0", forward=lambda op, x: F.softshrink(x, op.saved.lambd),
        slope=lambda op: secant(F.softshrink(op.input(0), op.saved.lambd), op.input(0),
            float(op.saved.lambd == 0))),
    elementwise("ThresholdBackward0", at_zero=lambda op: threshold_at_zero(op),
        forward=lambda op, x: F.threshold(x, op.saved.threshold, op.constant("value")),
        slope=lambda op: secant(op.output() - threshold_at_zero(op), op.input(0),
            float(op.saved.threshold < 0))),
    elementwise("LogSigmoidBackward0", at_zero=-math.log(2), forward=lambda op, x: F.logsigmoid(x),
        slope=_logsigmoid_slope),
    # The noise is 1 where x > 0.
    elementwise("RreluWithNoiseBackward0", degree=1.0, forward=lambda op, x: rrelu(op, x)),
    composite("GluBackward0", forward=lambda op, x: _glu(*x.chunk(2, op.saved.dim))),
    custom("PreluKernelBackward0", Composite(), "self weight", family="entrywise",
        forward=lambda op, x, weight: x.clamp_min(0) + weight * x.clamp_max(0)),
    scaling("NativeDropoutBackward0", forward=lambda op, x: _dropout(op, x)),
)  # fmt: skip


def _elu(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    below: Tensor = s.alpha * torch.expm1((x * s.input_scale).clamp(max=0))
    return s.scale * torch.where(x > 0, x, below)


def threshold_at_zero(op: Op) -> float:
    return float(op.constant("value")) if op.saved.threshold >= 0 else 0.0


def rrelu(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    below: Tensor = s.noise if s.training else torch.full_like(x, (s.lower + s.upper) / 2)
    return torch.where(x > 0, x, x * below)


def _glu(a: Tensor, b: Tensor) -> Tensor:
    return a * b.sigmoid()


def _dropout(op: Op, x: Tensor) -> Tensor:
    # The node alone knows the factor of what it kept: 1 / (1 - p), 0 for p = 1, 1 out of training.
    ones = torch.ones(op.shape, dtype=op.dtype, device=x.device)
    factor = op.sweep.call(op.node, [ones])[0]
    assert factor is not None
    return x * factor
