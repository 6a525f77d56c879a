"""Convolutions of single backends: the same operation as ``ConvolutionBackward0`` on other saved fields.

A backend's node saves only the settings it knows; the others have the value that does nothing.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from dynamiclrp_core.families import affine
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from torch import Tensor

from .elsewhere import CUDA, METAL, OTHER, ROCM
from .linalg import At


def _backend(
    node: str,
    settings: str,
    where: str = "",
    *,
    image: str = "self",
    transposed: bool | None = False,
    depthwise: bool = False,
) -> Row:
    """A row of ``node``, which saves ``settings`` and the image; ``where`` it runs, if not on a CPU."""
    saved = settings.split()

    def setting(op: Op, name: str, other: Any) -> Any:
        return getattr(op.saved, name) if name in saved else other

    def arguments(op: Op) -> tuple[Any, ...]:
        n = len(op.shape) - 2
        # Depthwise: each input channel is a group, and the weight has one channel per group.
        groups = getattr(op.saved, image).shape[1] if depthwise else setting(op, "groups", 1)
        return (
            setting(op, "stride", [1] * n), op.saved.padding, setting(op, "dilation", [1] * n),
            op.saved.transposed if transposed is None else transposed,
            setting(op, "output_padding", [0] * n), groups,
        )  # fmt: skip

    def forward(op: Op, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        return torch.ops.aten.convolution.default(x, w, bias, *arguments(op))

    def pull(op: Op, c: Tensor, i: int, at: At) -> Tensor:
        if i == 2:
            return c.sum((0, *range(2, c.dim())))
        x, w = (getattr(op.saved, image), at(1)) if i == 0 else (at(0), op.saved.weight)
        made = torch.ops.aten.convolution_backward.default(
            c, x.to(c.dtype), w, None, *arguments(op), [i == 0, i == 1, False]
        )
        return cast(Tensor, made[i])

    def shift(op: Op) -> Tensor | None:
        bias = op.optional(2) if len(op.edges) > 2 else None
        return None if bias is None else bias.view(1, -1, *[1] * (len(op.shape) - 2))

    return affine(
        node, f"{image} weight bias", factors=(0, 1), bias=2, optional=(2,), forward=forward, pull=pull,
        shift=shift, unexecuted=where,
    )  # fmt: skip


def _time_batch_channel(op: Op, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    """conv_tbc: time, batch, channels; the weight is taps, input, output channels."""
    made = torch.conv1d(x.permute(1, 2, 0), w.permute(2, 1, 0), bias, padding=op.saved.pad)
    return made.permute(2, 0, 1)


def _time_batch_channel_pull(op: Op, c: Tensor, i: int, at: At) -> Tensor:
    if i == 2:
        return c.sum((0, 1))
    x, w = (op.saved.self.to(c.dtype), at(1)) if i == 0 else (at(0), op.saved.weight.to(c.dtype))
    made = torch.ops.aten.convolution_backward.default(
        c.permute(1, 2, 0), x.permute(1, 2, 0), w.permute(2, 1, 0), None, [1], [op.saved.pad], [1],
        False, [0], 1, [i == 0, i == 1, False],
    )  # fmt: skip
    return made[i].permute(2, 0, 1) if i == 0 else made[i].permute(2, 1, 0)


EVERY = "stride padding dilation groups output_padding"

ROWS = (
    _backend("SlowConv2DBackward0", "stride padding"),
    _backend("SlowConv3DBackward0", "stride padding"),
    _backend("SlowConvDilated2DBackward0", "stride padding dilation"),
    _backend("SlowConvDilated3DBackward0", "stride padding dilation"),
    _backend("SlowConvTranspose2DBackward0", "stride padding dilation output_padding", transposed=True),
    _backend("SlowConvTranspose3DBackward0", "stride padding dilation output_padding", transposed=True),
    _backend("MkldnnConvolutionBackward0", "stride padding dilation groups"),
    affine("ConvTbcBackward0", "self weight bias", factors=(0, 1), bias=2, forward=_time_batch_channel,
        pull=_time_batch_channel_pull, shift=lambda op: op.input(2)),
    # -- not on every CPU -----------------------------------------------------------------------------------
    _backend("NnpackSpatialConvolutionBackward0", "stride padding", "needs NNPACK, which not every CPU has",
        image="input"),
    _backend("CudnnConvolutionBackward0", "stride padding dilation groups", CUDA),
    _backend("CudnnConvolutionTransposeBackward0", EVERY, CUDA, transposed=True),
    _backend("ConvDepthwise2DBackward0", "stride padding dilation", CUDA, depthwise=True),
    _backend("ConvDepthwise3DBackward0", "stride padding dilation", CUDA, depthwise=True),
    _backend("MiopenConvolutionBackward0", "stride padding dilation groups", ROCM),
    _backend("MiopenConvolutionTransposeBackward0", EVERY, ROCM, transposed=True),
    _backend("MiopenDepthwiseConvolutionBackward0", "stride padding dilation groups", ROCM),
    _backend("ConvolutionOverrideableBackward0", EVERY, OTHER, image="input", transposed=None),
    _backend("MpsConvolutionBackward0", "stride padding dilation groups", METAL),
    _backend("MpsConvolutionTransposeBackward0", EVERY, METAL, transposed=True),
)  # fmt: skip
