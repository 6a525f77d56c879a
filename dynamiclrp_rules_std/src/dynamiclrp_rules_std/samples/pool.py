"""Samples of pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample

WIDE = (torch.float64, torch.float32)  # no kernel in bfloat16
LINE = ("n 2 7",)
PLANE = ("n 2 5 6",)
SPACE = ("n 2 3 4 5",)

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
)  # fmt: skip
