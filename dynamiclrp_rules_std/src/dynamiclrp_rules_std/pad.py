"""Padding by repeated entries, patches and pixel shuffles: every output entry is one input entry."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.families import linear, moving
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from torch import Tensor


def _padding(name: str) -> Row:
    """``name`` is the aten function, ``reflection_pad1d``."""
    pad: Any = getattr(torch.ops.aten, name)
    kind, dims = name.split("_pad")
    return moving(
        f"{kind.capitalize()}Pad{dims[0]}DBackward0", forward=lambda op, x: pad(x, op.saved.padding)
    )


def _patches(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    return F.unfold(x, s.kernel_size, s.dilation, s.padding, s.stride)


def _from_patches(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    return F.fold(x, op.shape[-2:], s.kernel_size, s.dilation, s.padding, s.stride)


def _unshuffled(op: Op, y: Tensor) -> Tensor:
    # torch's own kernels, and so its backward, return an empty batch in another shape.
    return F.pixel_unshuffle(y, op.saved.upscale_factor).reshape(op.operand_shape(0))


def _reshuffled(op: Op, y: Tensor) -> Tensor:
    if not y.numel():
        return y.reshape(op.operand_shape(0))
    return F.pixel_shuffle(y, op.saved.downscale_factor)


def _channels_back(op: Op, y: Tensor) -> Tensor:
    return torch.channel_shuffle(y, y.shape[1] // op.saved.groups)


ROWS = (
    *(_padding(f"{kind}_pad{n}d") for kind in ("reflection", "replication") for n in (1, 2, 3)),
    # -- patches: overlaps copy one way and add up the other ----------------------------------------
    moving("Im2ColBackward0", fills=True, forward=_patches),
    linear("Col2ImBackward0", forward=_from_patches),
    # -- channels and pixels ------------------------------------------------------------------------
    moving("PixelShuffleBackward0", forward=lambda op, x: F.pixel_shuffle(x, op.saved.upscale_factor),
        inverse=_unshuffled, pull=lambda op, c, i, at: _unshuffled(op, c)),
    moving("PixelUnshuffleBackward0",
        forward=lambda op, x: F.pixel_unshuffle(x, op.saved.downscale_factor),
        inverse=_reshuffled, pull=lambda op, c, i, at: _reshuffled(op, c)),
    moving("ChannelShuffleBackward0", forward=lambda op, x: torch.channel_shuffle(x, op.saved.groups),
        inverse=_channels_back),
)  # fmt: skip
