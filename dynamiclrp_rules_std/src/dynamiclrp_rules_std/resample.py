"""Resampling to another grid: linear in the image, with weights that only positions decide."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from dynamiclrp_core.families import custom, linear, moving
from dynamiclrp_core.numerics import dot
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Conserves, Entries, Row, Rule
from dynamiclrp_core.rules.defaults import Linear, book_or_not
from torch import Tensor


class AtPositions(Rule):
    """All to the sampled image: positions are indices, and relevance does not pass an index.

    ``c_in = J^T c`` for the image, the grid held: bilinear weights sum to 1, so it conserves up to the
    zeros that ``padding_mode="zeros"`` brings in, which take nothing. Where only the grid is live, what
    arrives is booked as stopped.
    """

    conserves: ClassVar[Conserves] = "absorbed"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None and not op.live[0]:
            book_or_not(op, "stopped", lambda: dot(op.output(), ci))
        return [op.pull(ci, 0) if op.wanted[0] else None, None]


def _scales(op: Op) -> list[float | None]:
    names = ("scales",) if len(op.saved.output_size) == 1 else ("scales_d", "scales_h", "scales_w")
    return [getattr(op.saved, n) for n in names[-len(op.saved.output_size) :]]


def _resample(name: str) -> Any:
    """``aten.<name>`` to the saved size, by the saved scales."""

    def forward(op: Op, x: Tensor) -> Tensor:
        function: Any = getattr(torch.ops.aten, name)
        corners = () if "nearest" in name else (op.saved.align_corners,)
        made: Tensor = function(x, op.saved.output_size, *corners, *_scales(op))
        return made

    return forward


def _repeating(name: str, node: str) -> Row:
    """Entries change place, each as often as it is wide."""
    wide = _resample(name)

    def forward(op: Op, x: Tensor) -> Tensor:
        made: Tensor = wide(op, x.double()).to(x.dtype) if x.dtype == torch.long else wide(op, x)
        return made  # matchers number entries, and torch has no kernel for integers

    return moving(f"Upsample{node}Backward0", forward=forward)


def _resampling(name: str, node: str) -> Row:
    return linear(f"Upsample{node}Backward0", forward=_resample(name))


def _with_negative_weights(name: str, node: str) -> Row:
    # Not of the family "linear": a ratio of absolute values needs weights >= 0.
    return custom(
        f"Upsample{node}Backward0", Linear(), "self", family="resampling", degree=1.0,
        forward=_resample(name),
    )  # fmt: skip


def _at(function: Any) -> Any:
    """The image at positions in (-1, 1), by the saved modes."""

    def forward(op: Op, x: Tensor, grid: Tensor) -> Tensor:
        s = op.saved
        made: Tensor = function(x, grid, s.interpolation_mode, s.padding_mode, s.align_corners)
        return made

    return forward


def _sampling(node: str, forward: Any) -> Row:
    return custom(node, AtPositions(), "input grid", family="resampling", forward=forward)


ROWS = (
    _repeating("upsample_nearest1d", "Nearest1D"),
    _repeating("upsample_nearest2d", "Nearest2D"),
    _repeating("upsample_nearest3d", "Nearest3D"),
    _repeating("_upsample_nearest_exact1d", "NearestExact1D"),
    _repeating("_upsample_nearest_exact2d", "NearestExact2D"),
    _repeating("_upsample_nearest_exact3d", "NearestExact3D"),
    _resampling("upsample_linear1d", "Linear1D"),
    _resampling("upsample_bilinear2d", "Bilinear2D"),
    _resampling("_upsample_bilinear2d_aa", "Bilinear2DAa"),
    _resampling("upsample_trilinear3d", "Trilinear3D"),
    _with_negative_weights("upsample_bicubic2d", "Bicubic2D"),
    _with_negative_weights("_upsample_bicubic2d_aa", "Bicubic2DAa"),
    _with_negative_weights("_upsample_lanczos2d_aa", "Lanczos2DAa"),
    _sampling("GridSampler2DBackward0", _at(torch.grid_sampler_2d)),
    _sampling("GridSampler3DBackward0", _at(torch.grid_sampler_3d)),
    _sampling("GridSampler2DCpuFallbackBackward0", _at(torch.grid_sampler_2d)),
    custom("AffineGridGeneratorBackward0", Linear(), "theta", family="resampling", degree=1.0,
        forward=lambda op, theta: torch.ops.aten.affine_grid_generator(
            theta, op.saved.size, op.saved.align_corners)),
)  # fmt: skip
