"""Samples of scans, distances, moments and other reductions."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten = torch.ops.aten
NO_HALF = (torch.float64, torch.float32)
CUBE = ("n 2 3",)


def segments(a: Tensor, reduce: str, *lengths: int) -> Tensor:
    """Segments of the middle dimension."""
    each = torch.tensor(lengths, device=a.device).expand(a.shape[0], -1).contiguous()
    made: Tensor = torch.segment_reduce(a, reduce, lengths=each, axis=1)
    return made


def with_nan(a: Tensor) -> Tensor:
    """NaN at the last entry of each row."""
    return a.masked_fill(torch.arange(a.shape[-1], device=a.device) == a.shape[-1] - 1, torch.nan)


def in_pairs(a: Tensor) -> Tensor:
    """Each row's first two entries twice."""
    return torch.cat([a, a[:, :2]], 1)


SAMPLES = (
    Sample("NansumBackward0", lambda a: a.nansum(-1)),
    Sample("NansumBackward0", lambda a: with_nan(a).nansum(1, keepdim=True), label="nan-keepdim"),
    # -- select by value ---------------------------------------------------------------------------
    Sample("MedianBackward0", lambda a: a.median(), domain="distinct", batched=False),
    Sample("NanmedianBackward1", lambda a: a.nanmedian(-1), domain="distinct"),
    Sample("NanmedianBackward1", lambda a: with_nan(a).nanmedian(1, True), domain="distinct", label="nan"),
    Sample("ModeBackward0", lambda a: in_pairs(a).mode(1), domain="distinct"),
    Sample("AminmaxBackward0", lambda a: torch.aminmax(a, dim=-1), domain="distinct"),
    Sample("AminmaxBackward0", lambda a: torch.aminmax(a, dim=1, keepdim=True), CUBE, "distinct",
        label="keepdim"),
    Sample("AminmaxBackward0", lambda a: torch.aminmax(a), domain="distinct", batched=False, label="all"),
    Sample("CummaxBackward0", lambda a: a.cummax(1), domain="distinct"),
    Sample("CummaxBackward0", lambda a: a.cummax(-2), CUBE, "distinct", label="negative"),
    Sample("CumminBackward0", lambda a: a.cummin(1), domain="distinct"),
    Sample("Unique2Backward0", lambda a: in_pairs(a).unique(), domain="distinct", batched=False),
    # -- homogeneous -------------------------------------------------------------------------------
    Sample("VarMeanBackward0", lambda a: torch.var_mean(a, 1)),
    Sample("VarMeanBackward0", lambda a: torch.var_mean(a, (1, -1), correction=0, keepdim=True), CUBE,
        label="keepdim"),
    Sample("StdMeanBackward0", lambda a: torch.std_mean(a, 1), domain="distinct"),
    Sample("StdMeanBackward0", lambda a: torch.std_mean(a), domain="distinct", batched=False, label="all"),
    Sample("CumprodBackward0", lambda a: a.cumprod(1)),
    Sample("CumprodBackward0", lambda a: a.cumprod(-2), CUBE, label="negative"),
    Sample("NormBackward0", lambda a: aten.norm.Scalar(a, 2), batched=False),
    Sample("NormBackward0", lambda a: aten.norm.Scalar(a, 3), batched=False, label="3"),
    Sample("NormBackward1", lambda a: aten.norm.ScalarOpt_dim(a, 2, [1])),
    Sample("NormBackward1", lambda a: aten.norm.ScalarOpt_dim(a, 1, [1, 2], True), CUBE, label="keepdim"),
    Sample("DistBackward0", lambda a, b: torch.dist(a, b), ("n 4", "n 4"), batched=False),
    Sample("DistBackward0", lambda a, b: torch.dist(a, b, 3), ("n 2 3", "3"), batched=False, label="3"),
    Sample("SegmentReduceBackward0", lambda a: segments(a, "sum", 1, 3), ("n 4 2",), dtypes=NO_HALF),
    Sample("SegmentReduceBackward0", lambda a: segments(a, "mean", 2, 2), ("n 4 2",), dtypes=NO_HALF,
        label="mean"),
    Sample("SegmentReduceBackward0", lambda a: segments(a, "max", 2, 2), ("n 4 2",), "distinct",
        dtypes=NO_HALF, label="max"),
    Sample("SegmentReduceBackward0", lambda a: segments(a, "prod", 1, 3), ("n 4 2",), dtypes=NO_HALF,
        label="prod"),
    # -- the scale is held -------------------------------------------------------------------------
    Sample("RenormBackward0", lambda a: torch.renorm(a, 2, 0, 1.0)),
    Sample("RenormBackward0", lambda a: torch.renorm(a, 1, -1, 1.5), CUBE, batched=False, label="last"),
    Sample("LogcumsumexpBackward0", lambda a: a.logcumsumexp(1)),
)  # fmt: skip
