"""Samples of reductions, scans and selections over dimensions."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

norm = torch.linalg.vector_norm

CUBE = ("n 2 3",)
TWO = ("n 4", "n 4")


def twins(a: Tensor) -> Tensor:
    """Every value twice."""
    return torch.stack([a, a], -1)


SAMPLES = (
    # -- linear ------------------------------------------------------------------------------------
    Sample("SumBackward0", lambda a: a.sum(), batched=False),
    Sample("SumBackward1", lambda a: a.sum(-1)),
    Sample("SumBackward1", lambda a: a.sum(1, keepdim=True), CUBE, label="keepdim"),
    Sample("SumBackward1", lambda a: a.sum((1, -1)), CUBE, label="two"),
    Sample("SumBackward1", lambda a: a.sum((-1, 1), keepdim=True), CUBE, label="two-keepdim"),
    Sample("SumBackward1", lambda a: a.sum(0), batched=False, label="rows"),
    Sample("SumBackward1", lambda a: a.sum(()), batched=False, label="all"),
    Sample("SumBackward1", lambda a: a.sum((), keepdim=True), batched=False, label="all-keepdim"),
    Sample("MeanBackward0", lambda a: a.mean(), batched=False),
    Sample("MeanBackward1", lambda a: a.mean(-1)),
    Sample("MeanBackward1", lambda a: a.mean(1, keepdim=True), CUBE, label="keepdim"),
    Sample("MeanBackward1", lambda a: a.mean((1, -1)), CUBE, label="two"),
    Sample("MeanBackward1", lambda a: a.mean(()), batched=False, label="all"),
    Sample("MeanBackward1", lambda a: a.mean((), True), batched=False, label="all-keepdim"),
    Sample("CumsumBackward0", lambda a: a.cumsum(1)),
    Sample("CumsumBackward0", lambda a: a.cumsum(-2), CUBE, label="negative"),
    Sample("TraceBackward0", lambda a: a.trace(), ("3 4",), batched=False),
    # -- select by value ---------------------------------------------------------------------------
    Sample("MaxBackward0", lambda a: a.max(-1), domain="distinct"),
    Sample("MaxBackward0", lambda a: a.max(1, keepdim=True), CUBE, "distinct", label="keepdim"),
    Sample("MaxBackward0", lambda a: twins(a).max(-1), label="ties"),
    Sample("MinBackward0", lambda a: a.min(-1), domain="distinct"),
    Sample("MinBackward0", lambda a: a.min(1, keepdim=True), CUBE, "distinct", label="keepdim"),
    Sample("MaxBackward1", lambda a: a.max(), domain="distinct", batched=False),
    Sample("MaxBackward1", lambda a: twins(a).max(), batched=False, label="ties"),
    Sample("MinBackward1", lambda a: a.min(), domain="distinct", batched=False),
    Sample("AmaxBackward0", lambda a: a.amax(-1), domain="distinct"),
    Sample("AmaxBackward0", lambda a: a.amax((1, -1), True), CUBE, "distinct", label="two-keepdim"),
    Sample("AmaxBackward0", lambda a: a.amax(), domain="distinct", batched=False, label="all"),
    Sample("AmaxBackward0", lambda a: twins(a).amax(-1), label="ties"),
    Sample("AminBackward0", lambda a: a.amin(-1), domain="distinct"),
    Sample("AminBackward0", lambda a: a.amin((1, -1), True), CUBE, "distinct", label="two-keepdim"),
    Sample("MedianBackward1", lambda a: a.median(-1), domain="distinct"),
    Sample("MedianBackward1", lambda a: a.median(1, True), CUBE, "distinct", label="keepdim"),
    Sample("KthvalueBackward0", lambda a: a.kthvalue(2, -1), domain="distinct"),
    Sample("KthvalueBackward0", lambda a: a.kthvalue(2, 1, True), CUBE, "distinct",
        label="keepdim"),
    Sample("SortBackward0", lambda a: a.sort(-1), domain="distinct"),
    Sample("SortBackward0", lambda a: a.sort(1, descending=True), CUBE, "distinct", label="down"),
    Sample("SortBackward1", lambda a: a.sort(dim=-1, stable=True)),
    Sample("TopkBackward0", lambda a: a.topk(2), domain="distinct"),
    Sample("TopkBackward0", lambda a: a.topk(1, 1, False), CUBE, "distinct", label="smallest"),
    Sample("MaximumBackward0", lambda a, b: torch.maximum(a, b), TWO, "distinct"),
    Sample("MaximumBackward0", lambda a, b: torch.maximum(a, b), ("n 2 3", "2 1"), label="right"),
    Sample("MaximumBackward0", lambda a: torch.maximum(a, a), label="ties"),
    Sample("MaximumBackward0", lambda a: torch.maximum(torch.zeros_like(a), a), label="constant"),
    Sample("MinimumBackward0", lambda a, b: torch.minimum(a, b), TWO, "distinct"),
    Sample("MinimumBackward0", lambda a, b: torch.minimum(a, b), ("3", "n 2 3"), label="left"),
    Sample("MinimumBackward0", lambda a: torch.minimum(a, torch.ones_like(a)), label="constant"),
    # -- homogeneous -------------------------------------------------------------------------------
    Sample("LinalgVectorNormBackward0", lambda a: norm(a, dim=-1)),
    Sample("LinalgVectorNormBackward0", lambda a: norm(a, 1, (1, -1), True), CUBE, label="1"),
    Sample("LinalgVectorNormBackward0", lambda a: norm(a, 3, 1, True), CUBE, label="3"),
    Sample("LinalgVectorNormBackward0", lambda a: norm(a, torch.inf, -1), domain="distinct",
        label="inf"),
    Sample("LinalgVectorNormBackward0", lambda a: norm(a), batched=False, label="all"),
    Sample("LinalgVectorNormBackward0", lambda a: norm(a, keepdim=True), batched=False,
        label="all-keepdim"),
    Sample("VarBackward0", lambda a: a.var(-1)),
    Sample("VarBackward0", lambda a: a.var((1, -1), correction=0, keepdim=True), CUBE,
        label="keepdim"),
    Sample("VarBackward0", lambda a: a.var(), batched=False, label="all"),
    Sample("StdBackward0", lambda a: a.std(-1), domain="distinct"),
    Sample("StdBackward0", lambda a: a.std((1, -1), correction=0, keepdim=True), CUBE, "distinct",
        label="keepdim"),
    Sample("StdBackward0", lambda a: a.std(), domain="distinct", batched=False, label="all"),
    Sample("ProdBackward0", lambda a: a.prod(), batched=False),
    Sample("ProdBackward1", lambda a: a.prod(-1)),
    Sample("ProdBackward1", lambda a: a.prod(1, keepdim=True), CUBE, label="keepdim"),
    # -- softmax's relative ------------------------------------------------------------------------
    Sample("LogsumexpBackward0", lambda a: a.logsumexp(-1), decomposed=lambda a: a.exp().sum(-1).log()),
    Sample("LogsumexpBackward0", lambda a: a.logsumexp((1, -1), True), CUBE, label="two-keepdim"),
)  # fmt: skip
