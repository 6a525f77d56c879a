"""Samples of convolutions by kernels of single backends."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten: Any = torch.ops.aten

WIDE = (torch.float64, torch.float32)
SINGLE = (torch.float32,)
PLANE = ("n 2 4 5", "3 2 2 3", "3")
SPACE = ("n 2 3 4 3", "3 2 2 1 2", "3")
UP = ("n 2 3 2", "2 3 2 2", "3")
UP3 = ("n 2 2 3 2", "2 3 1 2 2", "3")


def overload(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """What the older overload builds."""
    made: Tensor = aten._convolution(
        x, w, b, [2, 1], [1, 0], [1, 1], False, [0, 0], 1, False, False, False, False
    )
    return made


def slow(name: str, *settings: list[int]) -> Any:
    """A kernel by name: image, weight, kernel size, bias, settings."""

    def call(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        made: Tensor = getattr(aten, name)(x, w, w.shape[2:], b, *settings)
        return made

    return call


def dense(*tensors: Tensor | None) -> list[Tensor | None]:
    """Each contiguous."""
    return [None if t is None else t.contiguous() for t in tensors]


def mkldnn(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """oneDNN's kernel, which reads no strides."""
    made: Tensor = aten.mkldnn_convolution(*dense(x, w, b), [1, 0], [2, 1], [1, 1], 1)
    return made


def both(node: str, call: Any, shapes: tuple[str, ...], dtypes: tuple[torch.dtype, ...]) -> list[Sample]:
    """With a bias and without."""
    return [
        Sample(node, call, shapes, dtypes=dtypes),
        Sample(node, call, shapes[:2], dtypes=dtypes, label="no-bias"),
    ]


SAMPLES = (
    *both("ConvolutionBackward1", overload, PLANE, WIDE),
    *both("SlowConv2DBackward0", slow("_slow_conv2d_forward", [2, 1], [1, 0]), PLANE, WIDE),
    *both("SlowConv3DBackward0", slow("slow_conv3d_forward", [1, 2, 1], [0, 1, 0]), SPACE, WIDE),
    *both("SlowConvDilated2DBackward0", slow("slow_conv_dilated2d", [1, 1], [1, 1], [2, 1]), PLANE, WIDE),
    *both("SlowConvDilated3DBackward0", slow("slow_conv_dilated3d", [1, 1, 1], [0, 0, 1], [1, 2, 1]),
        SPACE, WIDE),
    *both("SlowConvTranspose2DBackward0", slow("slow_conv_transpose2d", [2, 1], [1, 0], [1, 0]), UP, WIDE),
    *both("SlowConvTranspose3DBackward0", slow("slow_conv_transpose3d", [1, 2, 1]), UP3, WIDE),
    *both("MkldnnConvolutionBackward0", mkldnn, PLANE, SINGLE),
    Sample("ConvTbcBackward0", lambda x, w, b: torch.conv_tbc(x, w, b, 1), ("4 n 2", "3 2 3", "3"),
        dtypes=WIDE),
)  # fmt: skip
