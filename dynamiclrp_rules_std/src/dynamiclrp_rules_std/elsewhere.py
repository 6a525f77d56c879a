"""Nodes that torch builds on other devices only: rows that no sample can build on a CPU.

Convolutions, batch norms and losses of such backends stand beside those of the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.families import affine, copying, custom, scaling, winner
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from dynamiclrp_core.rules.defaults import Linear
from torch import Tensor

from .resample import AtPositions

CUDA, ROCM, METAL = "needs CUDA", "needs ROCm", "needs Apple's Metal"
OTHER = "needs a backend that overrides the operation"


def _linear(op: Op, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight, bias)


def _linear_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == 0:
        return c @ at(1)
    rows = c.reshape(-1, c.shape[-1])
    return rows.sum(0) if i == 2 else rows.mT @ at(0).reshape(-1, op.operand_shape(0)[-1])


def _layer(node: str, image: str, where: str) -> Row:
    return affine(node, f"{image} weight bias", factors=(0, 1), bias=2, optional=(2,), forward=_linear,
        pull=_linear_pull, shift=lambda op: op.optional(2) if len(op.edges) > 2 else None,
        unexecuted=where)  # fmt: skip


def _max_pool(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    return F.max_pool2d(x, s.kernel_size, s.stride, s.padding, s.dilation, s.ceil_mode)


def _cudnn_grid(op: Op, theta: Tensor) -> Tensor:
    s = op.saved
    return torch.affine_grid_generator(theta, [s.N, s.C, s.H, s.W], True)


ROWS = (
    _layer("LinearBackward0", "input", METAL),
    _layer("MkldnnLinearBackward0", "self", "needs a tensor in oneDNN's layout"),
    affine("MatmulBackward0", "self other", factors=(0, 1), forward=lambda op, a, b: a @ b,
        unexecuted=OTHER),
    winner("MaxPool2DBackward0", forward=_max_pool, unexecuted=METAL),
    scaling("FusedDropoutBackward0", unexecuted=CUDA,
        forward=lambda op, x: x * op.saved.result1 / op.saved.p),  # p is the probability to keep
    custom("CudnnGridSamplerBackward0", AtPositions(), "self grid", family="resampling", unexecuted=CUDA,
        forward=lambda op, x, grid: F.grid_sample(x, grid, align_corners=True)),
    custom("CudnnAffineGridGeneratorBackward0", Linear(), "theta", family="resampling", degree=1.0,
        unexecuted=CUDA, forward=_cudnn_grid),
    copying("PinMemoryBackward0", forward=lambda op, x: x, unexecuted=CUDA),
)  # fmt: skip
