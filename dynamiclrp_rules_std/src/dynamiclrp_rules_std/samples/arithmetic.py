"""Samples of sums, products and powers."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten = torch.ops.aten

TWO = ("n 4", "n 4")
RIGHT = ("n 2 3", "3")
LEFT = ("2 1", "n 2 3")
OUTER = ("n 1 3", "2 1")


def ramp(like: Tensor) -> Tensor:
    """A constant that differs from entry to entry of the last dimension."""
    return torch.arange(1, like.shape[-1] + 1, dtype=like.dtype, device=like.device) / 2


SAMPLES = (
    # -- sums --------------------------------------------------------------------------------------
    Sample("AddBackward0", lambda a, b: a + b, TWO),
    Sample("AddBackward0", lambda a, b: a + b, RIGHT, label="right"),
    Sample("AddBackward0", lambda a, b: a + b, LEFT, label="left"),
    Sample("AddBackward0", lambda a, b: a + b, OUTER, label="outer"),
    Sample("AddBackward0", lambda a, b: a + b, ("n 4", ""), label="0-d"),
    Sample("AddBackward0", lambda a, b: torch.add(a, b, alpha=-0.5), TWO, label="alpha"),
    Sample("AddBackward0", lambda a, b: torch.add(a, b, alpha=3), RIGHT, label="alpha-right"),
    Sample("AddBackward0", lambda a, b: a.clone().add_(b), RIGHT, label="in-place"),
    Sample("AddBackward0", lambda a: a + a, label="twice"),
    Sample("AddBackward0", lambda a: a + 2.0, label="scalar"),
    Sample("AddBackward0", lambda a: a + ramp(a), label="constant"),
    Sample("AddBackward0", lambda a: torch.add(ramp(a), a, alpha=-2), label="constant-first"),
    Sample("AddBackward1", lambda a: aten.add.Scalar(a, 2.0)),
    Sample("AddBackward1", lambda a: aten.add.Scalar(a, 2.0, 3.0), label="alpha"),
    Sample("SubBackward0", lambda a, b: a - b, TWO),
    Sample("SubBackward0", lambda a, b: a - b, RIGHT, label="right"),
    Sample("SubBackward0", lambda a, b: a - b, LEFT, label="left"),
    Sample("SubBackward0", lambda a, b: torch.sub(a, b, alpha=2.5), TWO, label="alpha"),
    Sample("SubBackward0", lambda a, b: a.clone().sub_(b), TWO, label="in-place"),
    Sample("SubBackward0", lambda a: a - 2.0, label="scalar"),
    Sample("SubBackward0", lambda a: ramp(a) - a, label="constant-first"),
    Sample("SubBackward1", lambda a: aten.sub.Scalar(a, 2.0)),
    Sample("SubBackward1", lambda a: aten.sub.Scalar(a, 2.0, 3.0), label="alpha"),
    Sample("RsubBackward0", lambda a, b: torch.rsub(a, b), TWO),
    Sample("RsubBackward0", lambda a, b: torch.rsub(a, b, alpha=-2), RIGHT, label="alpha-right"),
    Sample("RsubBackward1", lambda a: 1.0 - a),
    Sample("RsubBackward1", lambda a: torch.rsub(a, 2.0, alpha=3), label="alpha"),
    Sample("LerpBackward0", lambda a, b: torch.lerp(a, b, 0.3), TWO),
    Sample("LerpBackward0", lambda a, b: torch.lerp(a, b, 1.5), RIGHT, label="right"),
    Sample("LerpBackward0", lambda a: torch.lerp(a, ramp(a), 0.3), label="constant"),
    # -- products ----------------------------------------------------------------------------------
    Sample("MulBackward0", lambda a, b: a * b, TWO),
    Sample("MulBackward0", lambda a, b: a * b, RIGHT, label="right"),
    Sample("MulBackward0", lambda a, b: a * b, LEFT, label="left"),
    Sample("MulBackward0", lambda a, b: a * b, OUTER, label="outer"),
    Sample("MulBackward0", lambda a, b: a * b, ("", "n 4"), label="0-d"),
    Sample("MulBackward0", lambda a, b: a.clone().mul_(b), RIGHT, label="in-place"),
    Sample("MulBackward0", lambda a: a * a, label="square"),
    Sample("MulBackward0", lambda a: a * a.sigmoid(), label="gate"),
    Sample("MulBackward0", lambda a: a * a.flip(-1), label="flipped"),
    Sample("MulBackward0", lambda a: a * (a * a).mean(-1, True).add(1e-3).rsqrt(), label="rms"),
    Sample("MulBackward0", lambda a: a * -3.0, label="scalar"),
    Sample("MulBackward0", lambda a: ramp(a) * a, label="constant-first"),
    Sample("MulBackward1", lambda a: aten.mul.Scalar(a, -3.0)),
    Sample("MulBackward1", lambda a: aten.mul.Scalar(a, 0.0), label="zero"),
    Sample("DivBackward0", lambda a, b: a / b, TWO, "positive"),
    Sample("DivBackward0", lambda a, b: a / b, RIGHT, "positive", label="right"),
    Sample("DivBackward0", lambda a, b: a / b, LEFT, "positive", label="left"),
    Sample("DivBackward0", lambda a, b: a / b, OUTER, "positive", label="outer"),
    Sample("DivBackward0", lambda a, b: a.clone().div_(b), RIGHT, "positive", label="in-place"),
    Sample("DivBackward0", lambda a: a / a.exp().sum(-1, True), label="own-sum"),
    Sample("DivBackward0", lambda a: a / a.norm(dim=-1, keepdim=True), ("n 4",), "positive",
        label="own-norm"),
    Sample("DivBackward0", lambda a: a.exp() / a.exp().sum(-1, True), label="softmax"),
    Sample("DivBackward0", lambda a: a / (1 + (-a).exp()), label="gate"),
    Sample("DivBackward0", lambda a: a / -2.0, label="scalar"),
    Sample("DivBackward0", lambda a: ramp(a) / a, ("n 4",), "positive", label="constant-first"),
    Sample("DivBackward1", lambda a: aten.div.Scalar(a, -2.0)),
    # -- one operand -------------------------------------------------------------------------------
    Sample("NegBackward0", lambda a: -a),
    Sample("NegBackward0", lambda a: a.clone().neg_(), label="in-place"),
    Sample("AbsBackward0", lambda a: a.abs()),
    Sample("ReciprocalBackward0", lambda a: a.reciprocal(), ("n 4",), "positive"),
    Sample("SqrtBackward0", lambda a: a.sqrt(), ("n 4",), "positive"),
    Sample("SqrtBackward0", lambda a: a.clone().sqrt_(), ("n 4",), "positive", label="in-place"),
    Sample("RsqrtBackward0", lambda a: a.rsqrt(), ("n 4",), "positive"),
    Sample("PowBackward0", lambda a: a**2, label="2"),
    Sample("PowBackward0", lambda a: a**3, label="3"),
    Sample("PowBackward0", lambda a: a**1, label="1"),
    Sample("PowBackward0", lambda a: a**0, label="0"),
    Sample("PowBackward0", lambda a: a**0.5, ("n 4",), "positive", label="0.5"),
    Sample("PowBackward0", lambda a: a**1.7, ("n 4",), "positive", label="1.7"),
    Sample("PowBackward0", lambda a: a**-1, ("n 4",), "positive", label="-1"),
    Sample("PowBackward0", lambda a: a**-0.5, ("n 4",), "positive", label="-0.5"),
    Sample("PowBackward0", lambda a: a.clone().pow_(2), label="in-place"),
    Sample("ExpBackward0", lambda a: a.exp()),
    Sample("ExpBackward0", lambda a: a.clone().exp_(), label="in-place"),
    Sample("Expm1Backward0", lambda a: a.expm1()),
    Sample("LogBackward0", lambda a: a.log(), ("n 4",), "positive"),
    Sample("LogBackward0", lambda a: a.exp().sum(-1).log(), label="logsumexp"),
    Sample("Log1PBackward0", lambda a: a.log1p(), ("n 4",), "positive"),
    Sample("Log1PBackward0", lambda a: a.log1p(), ("n 4",), "unit", label="unit"),
    Sample("ClampMinBackward0", lambda a: a.clamp_min(0.3), label="0.3"),
    Sample("ClampMinBackward0", lambda a: a.clamp_min(-0.3), label="-0.3"),
    Sample("ClampMinBackward0", lambda a: a.clamp_min(0), label="0"),
    Sample("ClampMaxBackward0", lambda a: a.clamp_max(0.3), label="0.3"),
    Sample("ClampMaxBackward0", lambda a: a.clamp_max(-0.3), label="-0.3"),
    Sample("ClampMaxBackward0", lambda a: a.clamp_max(0), label="0"),
    Sample("CloneBackward0", lambda a: a.clone()),
    Sample("CloneBackward0", lambda a: a.mT.clone(memory_format=torch.contiguous_format),
        ("n 2 3",), label="contiguous"),
    Sample("ToCopyBackward0", lambda a: aten._to_copy(a)),
    Sample("ToCopyBackward0", lambda a: aten._to_copy(a, dtype=torch.float64), label="float64"),
)  # fmt: skip
