"""Layer and RMS norm: 1/std and 1/rms are held constant, centring by the mean is linear."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.families import norm
from dynamiclrp_core.op import Op
from torch import Tensor


def dims_of(op: Op) -> tuple[int, ...]:
    """The normalised dimensions."""
    return tuple(range(-len(op.saved.normalized_shape), 0))


def _plain(op: Op, x: Tensor) -> Tensor:
    """(x - mean) / std."""
    return torch.nn.functional.layer_norm(x, op.saved.normalized_shape, eps=eps_of(op))


def eps_of(op: Op) -> float:
    """Epsilon of a layer norm. Not saved; 1/rstd^2 - var gives it back, and a median shrugs off rounding."""
    x, rstd = op.saved.input, op.saved.result2
    if not x.numel():
        return 1e-5
    var = x.detach().to(rstd.dtype).var(dims_of(op), correction=0, keepdim=True)
    eps = (rstd.detach().double() ** -2 - var.double()).reshape(-1)
    return max(float(eps.median()), 0.0) if eps.numel() else 1e-5


def _layer_norm(op: Op, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = _plain(op, x)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == 2:
        return c
    if i == 1:
        return c * _plain(op, at(0))
    h = c if op.saved.weight is None else c * at(1)
    if torch.is_grad_enabled():  # held for relevance, but a function of x for its derivative
        x = at(0)
        variance = x.var(dims_of(op), correction=0, keepdim=True)
        h = h * (variance + eps_of(op)).rsqrt()
    else:
        h = h * op.saved.result2.to(h.dtype)
    return h - h.mean(dims_of(op), True)


def _shift(op: Op) -> Tensor | None:
    return op.optional(2)


# -- RMS norm (a node of its own on accelerators; elsewhere torch spells it out) ----------------------


def _rms(op: Op, x: Tensor) -> Tensor:
    """1/rms of ``x``. The saved one has eps in it, which gives eps back."""
    mean = x.square().mean(dims_of(op), True)
    return (mean + _rms_eps(op)).rsqrt()


def _rms_eps(op: Op) -> float:
    x, rms = op.saved.input.detach(), op.saved.result1.detach()
    if not x.numel():
        return 1e-5
    eps = rms.double() ** -2 - x.double().square().mean(dims_of(op), True)
    return max(float(eps.median()), 0.0)


def _rms_norm(op: Op, x: Tensor, weight: Tensor | None) -> Tensor:
    y = x * _rms(op, x)
    return y if weight is None else y * weight


def _rms_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == 1:
        x = at(0)
        return c * x * _rms(op, x)
    h = c if op.saved.weight is None else c * at(1)
    held = _rms(op, at(0)) if torch.is_grad_enabled() else op.saved.result1.to(h.dtype)
    return h * held


ROWS = (
    norm("NativeLayerNormBackward0", forward=_layer_norm, pull=_pull, shift=_shift),
    norm(
        "FusedRmsNormBackward0",
        "input weight",
        forward=_rms_norm,
        pull=_rms_pull,
        bias=None,
        optional=(1,),
        unexecuted="needs CUDA or Metal",
    ),
)
