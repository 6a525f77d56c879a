"""Samples of pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

WIDE = (torch.float64, torch.float32)  # no kernel in bfloat16
LINE = ("n 2 7",)
PLANE = ("n 2 5 6",)
SPACE = ("n 2 3 4 5",)


def middle(a: Tensor, dims: int) -> Tensor:
    """Where the regions of a fractional pool start: random in general, fixed here."""
    return a.new_full((a.shape[0], a.shape[1], dims), 0.4)


def places(a: Tensor, dims: int) -> Tensor:
    """Indices as a max pool of 2 gives them: the first entry of each window."""
    sizes = a.shape[-dims:]
    flat = torch.arange(torch.Size(2 * s for s in sizes).numel(), device=a.device)
    windows = flat.view([2 * s for s in sizes])[(slice(None, None, 2),) * dims]
    return windows.expand(a.shape).contiguous()


SAMPLES = (
    # -- averages ----------------------------------------------------------------------------------
    Sample("AvgPool2DBackward0", lambda a: F.avg_pool2d(a, 2), PLANE),
    Sample("AvgPool2DBackward0", lambda a: F.avg_pool2d(a, (3, 2), (2, 1), 1), PLANE,
        label="overlap"),
    Sample("AvgPool2DBackward0", lambda a: F.avg_pool2d(a, 3, 2, 1, True, False), PLANE,
        label="ceil-inside"),
    Sample("AvgPool2DBackward0", lambda a: F.avg_pool2d(a, 2, divisor_override=3), PLANE,
        label="divisor"),
    Sample("AvgPool2DBackward0", lambda a: F.avg_pool2d(a, 2), ("n 4 4",), label="unbatched"),
    Sample("AvgPool2DBackward0", lambda a: F.avg_pool1d(a, 3, 2), LINE, label="wrapped-1d"),
    Sample("AvgPool3DBackward0", lambda a: F.avg_pool3d(a, 2), SPACE, dtypes=WIDE),
    Sample("AvgPool3DBackward0", lambda a: F.avg_pool3d(a, 3, 2, 1, False, False), SPACE,
        dtypes=WIDE, label="inside"),
    Sample("AdaptiveAvgPool2DBackward0", lambda a: F.adaptive_avg_pool2d(a, (2, 4)), PLANE),
    Sample("AdaptiveAvgPool2DBackward0", lambda a: F.adaptive_avg_pool2d(a, (None, 2)), PLANE,
        label="kept"),
    Sample("AdaptiveAvgPool3DBackward0", lambda a: F.adaptive_avg_pool3d(a, (2, 2, 3)), SPACE),
    # -- maxima ------------------------------------------------------------------------------------
    Sample("MaxPool2DWithIndicesBackward0", lambda a: F.max_pool2d(a, 2), PLANE, "distinct"),
    Sample("MaxPool2DWithIndicesBackward0", lambda a: F.max_pool2d(a, 3, 2, 1, 1, True), PLANE,
        "distinct", label="overlap-ceil"),
    Sample("MaxPool2DWithIndicesBackward0", lambda a: F.max_pool2d(a, 2, 1, 0, 2), PLANE,
        "distinct", label="dilation"),
    Sample("MaxPool2DWithIndicesBackward0", lambda a: F.max_pool2d(a, 2, return_indices=True),
        PLANE, "distinct", label="indices"),
    Sample("MaxPool2DWithIndicesBackward0", lambda a: F.max_pool1d(a, 3, 2), LINE, "distinct",
        label="wrapped-1d"),
    Sample("MaxPool3DWithIndicesBackward0", lambda a: F.max_pool3d(a, 2, 1), SPACE, "distinct"),
    Sample("AdaptiveMaxPool2DBackward0", lambda a: F.adaptive_max_pool2d(a, (2, 4)), PLANE,
        "distinct"),
    Sample("AdaptiveMaxPool3DBackward0", lambda a: F.adaptive_max_pool3d(a, (2, 2, 3)), SPACE,
        "distinct"),
    Sample("FractionalMaxPool2DBackward0",
        lambda a: F.fractional_max_pool2d(a, 2, (2, 3), _random_samples=middle(a, 2)), PLANE,
        "distinct", dtypes=WIDE),
    Sample("FractionalMaxPool3DBackward0",
        lambda a: F.fractional_max_pool3d(a, (1, 2, 2), (2, 2, 3), _random_samples=middle(a, 3)), SPACE,
        "distinct", dtypes=WIDE),
    # -- back to where the maxima were -------------------------------------------------------------
    Sample("MaxUnpool2DBackward0", lambda a: F.max_unpool2d(a, places(a, 2), [2, 2]), ("n 2 2 3",),
        dtypes=WIDE),
    Sample("MaxUnpool3DBackward0", lambda a: F.max_unpool3d(a, places(a, 3), [2, 2, 2]), ("n 1 2 2 1",),
        dtypes=WIDE),
)  # fmt: skip
