"""Samples of resampling and sampling at positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten: Any = torch.ops.aten

WIDE = (torch.float64, torch.float32)  # no kernel in bfloat16
LINE = ("n 2 4",)
PLANE = ("n 2 3 4",)
SPACE = ("n 1 2 3 2",)


def resize(a: Tensor, mode: str, *size: int, **options: Any) -> Tensor:
    """To a size."""
    return F.interpolate(a, size, mode=mode, **options)


def scale(a: Tensor, mode: str, by: float, **options: Any) -> Tensor:
    """By a factor, which the kernel then uses instead of the ratio of sizes."""
    return F.interpolate(a, scale_factor=by, mode=mode, **options)


def both(node: str, mode: str, shape: tuple[str, ...], *size: int, **options: Any) -> tuple[Sample, ...]:
    """Up and down to a size, and by a factor."""
    dtypes = WIDE if options else (*WIDE, torch.bfloat16)
    down = [max(s // 3, 1) for s in size]
    return (
        Sample(node, lambda a: resize(a, mode, *size, **options), shape, dtypes=dtypes),
        Sample(node, lambda a: resize(a, mode, *down, **options), shape, dtypes=dtypes, label="down"),
        Sample(node, lambda a: scale(a, mode, 1.7, **options), shape, dtypes=dtypes, label="factor"),
    )


def lanczos(a: Tensor) -> Tensor:
    """Antialiased, by sinc."""
    made: Tensor = aten._upsample_lanczos2d_aa(a, [5, 3], False, None, None)
    return made


def grid(a: Tensor, g: Tensor, mode: str = "bilinear", padding: str = "zeros") -> Tensor:
    """``a`` at the positions ``g`` in (-1, 1)."""
    return F.grid_sample(a, g.tanh() * 1.2, mode, padding, align_corners=False)


def plain(a: Tensor, g: Tensor) -> Tensor:
    """The same without a step before."""
    return F.grid_sample(a, g, align_corners=True)


def fallback(a: Tensor, g: Tensor) -> Tensor:
    """The kernel for sizes beyond 32 bits."""
    made: Tensor = aten._grid_sampler_2d_cpu_fallback(a, g, 0, 0, False)
    return made


IMAGE, VOLUME = ("n 2 3 4", "n 2 2 2"), ("n 1 2 3 2", "n 1 2 2 3")

SAMPLES = (
    *both("UpsampleNearest1DBackward0", "nearest", LINE, 7),
    *both("UpsampleNearest2DBackward0", "nearest", PLANE, 5, 6),
    *both("UpsampleNearest3DBackward0", "nearest", SPACE, 3, 5, 3),
    *both("UpsampleNearestExact1DBackward0", "nearest-exact", LINE, 7),
    *both("UpsampleNearestExact2DBackward0", "nearest-exact", PLANE, 5, 6),
    *both("UpsampleNearestExact3DBackward0", "nearest-exact", SPACE, 3, 5, 3),
    *both("UpsampleLinear1DBackward0", "linear", LINE, 7),
    *both("UpsampleBilinear2DBackward0", "bilinear", PLANE, 5, 6),
    Sample("UpsampleBilinear2DBackward0", lambda a: resize(a, "bilinear", 5, 3, align_corners=True),
        PLANE, label="corners"),
    *both("UpsampleBilinear2DAaBackward0", "bilinear", PLANE, 5, 6, antialias=True),
    *both("UpsampleTrilinear3DBackward0", "trilinear", SPACE, 3, 5, 3),
    *both("UpsampleBicubic2DBackward0", "bicubic", PLANE, 5, 6),
    *both("UpsampleBicubic2DAaBackward0", "bicubic", PLANE, 5, 6, antialias=True),
    Sample("UpsampleLanczos2DAaBackward0", lanczos, PLANE, dtypes=WIDE),
    # -- at positions ------------------------------------------------------------------------------
    Sample("GridSampler2DBackward0", plain, IMAGE, "unit", dtypes=WIDE),
    Sample("GridSampler2DBackward0", partial(grid, mode="nearest"), IMAGE, dtypes=WIDE, live=((0,),),
        label="nearest"),
    Sample("GridSampler2DBackward0", partial(grid, padding="border"), IMAGE, dtypes=WIDE, label="border"),
    Sample("GridSampler2DBackward0", partial(grid, mode="bicubic", padding="reflection"), IMAGE,
        dtypes=WIDE, label="bicubic"),
    Sample("GridSampler3DBackward0", plain, VOLUME, "unit", dtypes=WIDE),
    Sample("GridSampler2DCpuFallbackBackward0", fallback, IMAGE, "unit", dtypes=WIDE[1:]),
    Sample("AffineGridGeneratorBackward0",
        lambda t: F.affine_grid(t, [t.shape[0], 1, 2, 3], align_corners=False), ("n 2 3",), dtypes=WIDE),
    Sample("AffineGridGeneratorBackward0",
        lambda t: F.affine_grid(t, [t.shape[0], 1, 2, 3, 2], align_corners=True), ("n 3 4",),
        dtypes=WIDE, label="3d"),
)  # fmt: skip
