"""Pooling: average pools are linear, max pools select."""

from __future__ import annotations

import torch.nn.functional as F
from dynamiclrp_core.families import linear, moving, winner
from dynamiclrp_core.op import Op
from torch import Tensor


def _avg(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    pool = F.avg_pool2d if len(s.kernel_size) == 2 else F.avg_pool3d
    return pool(x, s.kernel_size, s.stride, s.padding, s.ceil_mode, s.count_include_pad, s.divisor_override)


def _at_indices(n: int) -> object:
    """Max pools: the values at the saved flat indices of the last n dimensions."""

    def forward(op: Op, x: Tensor) -> Tensor:
        indices = op.saved.result1
        return x.flatten(-n).gather(-1, indices.flatten(-n)).view(indices.shape)

    return forward


def _adaptive(op: Op, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, (op.shape[-2], op.shape[-1]))


def _adaptive3(op: Op, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool3d(x, (op.shape[-3], op.shape[-2], op.shape[-1]))


def _unpooled(n: int) -> object:
    """Max unpooling: the values go to the saved flat indices of the last n dimensions, 0 elsewhere."""

    def forward(op: Op, x: Tensor) -> Tensor:
        y = x.new_zeros(op.shape).flatten(-n)
        return y.scatter(-1, op.saved.indices.flatten(-n), x.flatten(-n)).view(op.shape)

    return forward


ROWS = (
    linear("AvgPool2DBackward0", forward=_avg),
    linear("AvgPool3DBackward0", forward=_avg),
    linear("AdaptiveAvgPool2DBackward0", forward=_adaptive),
    linear("AdaptiveAvgPool3DBackward0", forward=_adaptive3),
    winner("MaxPool2DWithIndicesBackward0", forward=_at_indices(2)),
    winner("MaxPool3DWithIndicesBackward0", forward=_at_indices(3)),
    winner("AdaptiveMaxPool2DBackward0", forward=_at_indices(2)),
    winner("AdaptiveMaxPool3DBackward0", forward=_at_indices(3)),
    winner("FractionalMaxPool2DBackward0", forward=_at_indices(2)),
    winner("FractionalMaxPool3DBackward0", forward=_at_indices(3)),
    moving("MaxUnpool2DBackward0", fills=True, forward=_unpooled(2)),
    moving("MaxUnpool3DBackward0", fills=True, forward=_unpooled(3)),
)
