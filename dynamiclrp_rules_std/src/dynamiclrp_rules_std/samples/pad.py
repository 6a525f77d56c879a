"""Samples of padding, patches and pixel shuffles."""

from __future__ import annotations

import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

LINE = ("n 2 4",)
PLANE = ("n 2 3 4",)
SPACE = ("n 1 2 3 3",)


def reflect(a: Tensor, *pad: int) -> Tensor:
    """Mirrored at the border, which is not repeated."""
    return F.pad(a, pad, mode="reflect")


def replicate(a: Tensor, *pad: int) -> Tensor:
    """The border repeated."""
    return F.pad(a, pad, mode="replicate")


SAMPLES = (
    Sample("ReflectionPad1DBackward0", lambda a: reflect(a, 3, 1), LINE),
    Sample("ReflectionPad2DBackward0", lambda a: reflect(a, 1, 2, 2, 0), PLANE),
    Sample("ReflectionPad3DBackward0", lambda a: reflect(a, 1, 2, 0, 1, 1, 1), SPACE),
    Sample("ReplicationPad1DBackward0", lambda a: replicate(a, 1, 2), LINE),
    Sample("ReplicationPad1DBackward0", lambda a: replicate(a, -1, 2), LINE, label="crop"),
    Sample("ReplicationPad2DBackward0", lambda a: replicate(a, 1, 2, 3, 0), PLANE),
    Sample("ReplicationPad3DBackward0", lambda a: replicate(a, 1, 0, 0, 2, 1, 1), SPACE),
    # -- patches -----------------------------------------------------------------------------------
    Sample("Im2ColBackward0", lambda a: F.unfold(a, 2), PLANE),
    Sample("Im2ColBackward0", lambda a: F.unfold(a, (2, 3), 1, 1, (1, 2)), PLANE, label="padded"),
    Sample("Im2ColBackward0", lambda a: F.unfold(a, 2, dilation=2), PLANE, label="dilation"),
    Sample("Col2ImBackward0", lambda a: F.fold(a, (3, 4), 2), ("n 4 6",)),
    Sample("Col2ImBackward0", lambda a: F.fold(a, (3, 3), 2, padding=1, stride=2), ("n 8 4",),
        label="padded"),
    # -- channels and pixels -----------------------------------------------------------------------
    Sample("PixelShuffleBackward0", lambda a: F.pixel_shuffle(a, 2), ("n 8 2 3",)),
    Sample("PixelUnshuffleBackward0", lambda a: F.pixel_unshuffle(a, 2), ("n 1 4 6",)),
    Sample("ChannelShuffleBackward0", lambda a: F.channel_shuffle(a, 2), ("n 6 1 2",)),
)  # fmt: skip
