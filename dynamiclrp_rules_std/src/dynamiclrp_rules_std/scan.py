"""Scans, distances, moments and other reductions over dimensions."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import custom, homogeneous, linear, norm, softmax, winner
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Value
from dynamiclrp_core.rules.defaults import Moving
from torch import Tensor

from .reduce import picked


def _positions(op: Op) -> Tensor:
    """1, 2, 3 ... along the dimension of a scan, in the output's number of dimensions."""
    dims = len(op.shape)
    if not dims:
        return torch.ones(())
    dim = op.saved.dim % dims
    made = torch.arange(1, op.shape[dim] + 1, dtype=op.dtype)
    return made.view([-1 if d == dim else 1 for d in range(dims)])


def _on_device(op: Op, t: Tensor) -> Tensor:
    return t.to(op.saved.self.device)


def _scanned(op: Op, x: Tensor) -> Tensor:
    return x.gather(op.saved.dim, op.saved.indices) if x.dim() else x.clone()


def _middle(x: Tensor) -> Tensor:
    return x.reshape(-1).median()


def p_norm(op: Op, x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, op.saved.p)


def p_norm_of_dims(op: Op, x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, op.saved.p, op.saved.dim, op.saved.keepdim)


def counts(op: Op) -> float:
    """Degree of a norm or distance: of order 0 it counts entries, which scaling does not change."""
    return float(op.saved.p != 0)


def _moments(spread: str) -> object:
    """var_mean, std_mean."""

    def forward(op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
        s = op.saved
        dims = s.dim or None
        made: Tensor = getattr(x, spread)(dims, correction=s.correction, keepdim=s.keepdim)
        return made, x.mean(dims, s.keepdim)

    return forward


def _extremes(op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
    s = op.saved
    low, high = torch.aminmax(x, dim=s.dim, keepdim=s.keepdim)
    return low, high


def _scale(op: Op, x: Tensor) -> Tensor:
    """What renorm multiplies each sub-tensor by."""
    s = op.saved
    rest = [d for d in range(x.dim()) if d != s.dim % x.dim()]
    length = torch.linalg.vector_norm(x, s.p, rest, keepdim=True)
    return torch.where(length > s.maxnorm, s.maxnorm / (length + 1e-7), 1.0)


def _segments(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    return torch.segment_reduce(
        x, s.reduce, lengths=s.lengths, offsets=s.offsets, axis=s.axis, unsafe=True, initial=s.initial
    )


def _segment_degree(op: Op) -> float | Tensor:
    """Sums, means and extremes: 1. Products: the number of factors (1 where there are none)."""
    s = op.saved
    if s.reduce != "prod":
        return 1.0
    lengths = s.lengths if s.lengths is not None else s.offsets.diff(dim=-1)
    rest = len(op.shape) - lengths.dim()
    return lengths.clamp(min=1).to(op.dtype).view(*lengths.shape, *[1] * rest)


class SharedByEquals(Moving):
    """``unique``: a value goes to all entries that have it, in equal parts."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return [self._back(op, self.only(c))]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        x = op.input(0)
        return [Value(self._back(op, self.only(r)))] if x.numel() else [Value(torch.zeros_like(x))]

    @staticmethod
    def _back(op: Op, arriving: Tensor) -> Tensor:
        x = op.input(0)
        same = x.reshape(-1, 1) == op.output()
        return (same.to(arriving.dtype) @ (arriving / same.sum(0))).view(x.shape)


def _unique(op: Op, x: Tensor) -> Tensor:
    made: Tensor = torch.ops.aten._unique2(x, op.constant("sorted"))[0]
    return made


ROWS = (
    linear("NansumBackward0", reduces=True, selects=True,  # what is not NaN
        forward=lambda op, x: x.nansum(op.saved.dim, op.saved.keepdim)),
    # -- select by value ----------------------------------------------------------------------------
    winner("MedianBackward0", reduces=True, results="result", forward=lambda op, x: _middle(x)),
    winner("NanmedianBackward1", reduces=True, forward=picked),
    winner("ModeBackward0", reduces=True, forward=picked),
    winner("AminmaxBackward0", reduces=True, results="min max", forward=_extremes),
    winner("CummaxBackward0", forward=_scanned),
    winner("CumminBackward0", forward=_scanned),
    custom("Unique2Backward0", SharedByEquals(), "self", family="moving", selects=True,
        degree=1.0, forward=_unique),
    # -- homogeneous --------------------------------------------------------------------------------
    homogeneous("VarMeanBackward0", degree=(2.0, 1.0), straight=(1,), reduces=True,
        forward=_moments("var")),
    homogeneous("StdMeanBackward0", degree=1.0, straight=(1,), reduces=True, results="result0",
        forward=_moments("std")),
    # The k-th product has k factors.
    homogeneous("CumprodBackward0", degree=lambda op: _on_device(op, _positions(op)),
        results="result", forward=lambda op, x: x.cumprod(op.saved.dim)),
    homogeneous("NormBackward0", degree=counts, reduces=True, results="result", forward=p_norm),
    homogeneous("NormBackward1", degree=counts, reduces=True, results="result",
        forward=p_norm_of_dims),
    homogeneous("DistBackward0", "self other", degree=counts, reduces=True, results="result",
        forward=lambda op, x, y: p_norm(op, x - y)),
    homogeneous("SegmentReduceBackward0", "data", degree=_segment_degree, reduces=True,
        results="result", forward=_segments),
    # -- the scale is held, as a norm's is ----------------------------------------------------------
    norm("RenormBackward0", "self", factors=(0,), bias=None, optional=(),
        forward=lambda op, x: x * _scale(op, x), pull=lambda op, c, i, at: c * _scale(op, op.saved.self)),
    # -- softmax's relative -------------------------------------------------------------------------
    softmax("LogcumsumexpBackward0", results="result",
        forward=lambda op, x: x.logcumsumexp(op.saved.dim)),
)  # fmt: skip
