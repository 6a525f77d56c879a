"""Batch, group and weight norm. Only the scale 1/std is held constant; centring by the mean is linear.

``y = gamma * rstd * (x - mean) + beta``, so ``c_x = h - mean(h)`` with ``h = gamma * rstd * c`` where
the mean is x's own, and ``c_x = h`` where it is a running statistic.
"""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.families import norm
from dynamiclrp_core.numerics import spare
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from torch import Tensor

from .elsewhere import CUDA, ROCM


def _per_channel(t: Tensor, dims: int) -> Tensor:
    return t.view(1, -1, *[1] * (dims - 2))


# -- batch norm -------------------------------------------------------------------------------------


def _batch_dims(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.dim()))


# What the node's kernel decides, where it saves no field for it.
_TRAINING = {
    "NativeBatchNormLegitNoTrainingBackward0": False,
    "BatchNormNoUpdateBackward0": False,
    "BatchNormWithUpdateBackward0": True,
}
_SAVE_EPSILON = ("CudnnBatchNormBackward0", "MiopenBatchNormBackward0")


def _training(op: Op) -> bool:
    known = _TRAINING.get(op.row.node)
    return op.saved.training if known is None else known


def _eps(op: Op) -> float:
    return op.saved.epsilon if op.row.node in _SAVE_EPSILON else op.saved.eps


def _batch_scale(op: Op, dims: int) -> Tensor:
    """1/std per channel. With create_graph it is computed from x: it is held for relevance only."""
    s = op.saved
    if not _training(op):
        rstd = (s.running_var + _eps(op)).rsqrt()
    elif torch.is_grad_enabled() or op.sweep.dtype is not None:
        x = op.input(0)
        rstd = (x.var(_batch_dims(x), correction=0) + _eps(op)).rsqrt()
    else:
        rstd = s.result2
    return _per_channel(rstd, dims)


def _batch_norm(op: Op, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    s = op.saved
    if _training(op):
        mean = x.mean(_batch_dims(x), True)
        k = (x.var(_batch_dims(x), correction=0, keepdim=True) + _eps(op)).rsqrt()
    else:
        mean, k = _per_channel(s.running_mean, x.dim()), _batch_scale(op, x.dim())
    k = k if weight is None else k * _per_channel(weight, x.dim())
    t = -mean * k
    y = x * k
    return torch.add(y, t if bias is None else t + _per_channel(bias, x.dim()), out=spare(y))


def _batch_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == 2:
        return c.sum(_batch_dims(c))
    if i == 1:
        weight = at(1)
        plain = _batch_norm(op, at(0), torch.ones_like(weight), None)
        return (c * plain).sum(_batch_dims(c))
    k = _batch_scale(op, c.dim())
    h = c * (k if op.saved.weight is None else k * _per_channel(at(1), c.dim()))
    return h - h.mean(_batch_dims(h), True) if _training(op) else h


def _batch_shift(op: Op) -> Tensor | None:
    dims = len(op.shape)
    s = op.saved
    bias, weight = op.optional(2), op.optional(1)
    shift = None if bias is None else _per_channel(bias, dims)
    if _training(op) or not op.live[0]:
        return shift
    # The running mean is constant in x; with weight live too, x takes half of the product.
    centre = _per_channel(s.running_mean, dims) * _batch_scale(op, dims) / op.live_factors
    if weight is not None:
        centre = centre * _per_channel(weight, dims)
    return -centre if shift is None else shift - centre


def _batch_channelwise(op: Op) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel, statistics held: gamma / sigma and beta - mu gamma / sigma."""
    s = op.saved
    k = _batch_scale(op, 2).view(-1)
    if not _training(op):
        mean = s.running_mean
    elif torch.is_grad_enabled() or op.sweep.dtype is not None:
        x = op.input(0)
        mean = x.mean(_batch_dims(x))
    else:
        mean = s.result1
    weight, bias = op.optional(1), op.optional(2)
    k = k if weight is None else k * weight
    return k, -mean * k if bias is None else bias - mean * k


# -- group norm -------------------------------------------------------------------------------------


def _groups(op: Op, t: Tensor) -> Tensor:
    s = op.saved
    return t.reshape(s.N, s.group, s.C // s.group * s.HxW)


def _group_scale(op: Op, grouped: Tensor) -> Tensor:
    # Not Tensor.var, which warns of a batch without samples.
    variance = (grouped - grouped.mean(-1, True)).square().mean(-1, True)
    scale: Tensor = (variance + op.saved.eps).rsqrt()
    return scale


def _group_norm(op: Op, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    grouped = _groups(op, x)
    centred = grouped - grouped.mean(-1, True)
    y = (centred * _group_scale(op, grouped)).view(x.shape)
    y = y if weight is None else y * _per_channel(weight, x.dim())
    return y if bias is None else y + _per_channel(bias, x.dim())


def _group_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == 2:
        return c.sum(_batch_dims(c))
    if i == 1:
        plain = _group_norm(op, at(0), None, None)
        return (c * plain).sum(_batch_dims(c))
    h = c if op.saved.weight is None else c * _per_channel(at(1), c.dim())
    if torch.is_grad_enabled() or op.sweep.dtype is not None:
        rstd = _group_scale(op, _groups(op, at(0)))
    else:
        rstd = op.saved.result2.unsqueeze(-1)
    h = _groups(op, h) * rstd
    return (h - h.mean(-1, True)).view(c.shape)


def _group_shift(op: Op) -> Tensor | None:
    bias = op.optional(2)
    return None if bias is None else _per_channel(bias, len(op.shape))


# -- weight norm ------------------------------------------------------------------------------------


def _length(op: Op, v: Tensor) -> Tensor:
    """The norm of v over all dimensions but the saved one (over all, if that is -1)."""
    others = [d for d in range(v.dim()) if d != op.saved.dim]
    return v.square().sum(others, keepdim=True).sqrt()


def _weight_norm_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    v = op.input(0).to(c.dtype)
    if i == 0:
        return c * at(1) / _length(op, v)  # the length is held, as the scale of any norm
    g = c * v / _length(op, v)
    return g.sum_to_size(op.operand_shape(1))


def _batch(node: str, where: str = "") -> Row:
    return norm(node, forward=_batch_norm, pull=_batch_pull, shift=_batch_shift,
        channelwise=_batch_channelwise, unexecuted=where)  # fmt: skip


ROWS = (
    _batch("NativeBatchNormBackward0"),
    _batch("NativeBatchNormLegitBackward0"),
    _batch("NativeBatchNormLegitBackward1"),  # without running statistics
    _batch("NativeBatchNormLegitNoTrainingBackward0"),
    _batch("BatchNormWithUpdateBackward0"),
    _batch("BatchNormNoUpdateBackward0"),
    _batch("CudnnBatchNormBackward0", CUDA),
    _batch("MiopenBatchNormBackward0", ROCM),
    norm("NativeGroupNormBackward0", forward=_group_norm, pull=_group_pull, shift=_group_shift),
    norm("WeightNormInterfaceBackward0", "v g", bias=None, optional=(), pull=_weight_norm_pull,
        forward=lambda op, v, g: v * (g / _length(op, v))),
)  # fmt: skip
