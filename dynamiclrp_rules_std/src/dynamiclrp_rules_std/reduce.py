"""Reductions, scans and selections over dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch
from dynamiclrp_core.families import custom, homogeneous, linear, softmax, winner
from dynamiclrp_core.numerics import dot
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Rule, Value
from torch import Tensor


def _dims(op: Op) -> Any:
    return op.saved.dim


def _sum(op: Op, x: Tensor) -> Tensor:
    return x.sum(_dims(op), op.saved.keepdim)


def _mean(op: Op, x: Tensor) -> Tensor:
    return x.mean(_dims(op) or None, op.saved.keepdim)


def picked(op: Op, x: Tensor) -> Tensor:
    """Values at the saved indices, as max/min/median/kthvalue over a dim give them."""
    dim, indices = op.saved.dim, op.saved.indices
    wide = indices if op.saved.keepdim else indices.unsqueeze(dim)
    values = x.gather(dim, wide)
    return values if op.saved.keepdim else values.squeeze(dim)


def _gathered(op: Op, x: Tensor) -> Tensor:
    """Sort and topk: the indices keep the dim."""
    return x.gather(op.saved.dim, op.saved.indices)


def _norm(op: Op, x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, op.saved.ord, op.saved.dim, op.saved.keepdim)


def _var(op: Op, x: Tensor) -> Tensor:
    return x.var(_dims(op), correction=op.saved.correction, keepdim=op.saved.keepdim)


def _std(op: Op, x: Tensor) -> Tensor:
    return x.std(_dims(op), correction=op.saved.correction, keepdim=op.saved.keepdim)


def _prod_degree(op: Op) -> float:
    shape = op.operand_shape(0)
    return max(1.0, math.prod(shape))  # of nothing: 1, and no entry to give to


class TheLarger(Rule):
    """Each entry to the operand it came from. A constant absorbs its wins.

    ``tie``: what the first takes of an entry where both are equal: a half, or all where the second only
    bounds the first (torch's own gradients do the same).
    """

    sign: int = 1
    tie: float = 0.5

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        shares = self._shares(op)
        if op.ledger is not None:
            for i, live in enumerate(op.live):
                if not live:
                    op.book("constants", dot(op.input(i), ci * shares[i]))
        return [ci * s if w else None for s, w in zip(shares, op.wanted)]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        shares = self._shares(op)
        if op.ledger is not None:
            for s, live in zip(shares, op.live):
                if not live:
                    op.book("constants", (ri * s).sum())
        return [Value(ri * s) if w else None for s, w in zip(shares, op.wanted)]

    def _shares(self, op: Op) -> tuple[Tensor, Tensor]:
        a, b = op.input(0) * self.sign, op.input(1) * self.sign
        first = ((a > b) | b.isnan()).to(a.dtype) + (a == b).to(a.dtype) * self.tie  # fmax passes over NaN
        return first, 1 - first


ROWS = (
    linear("SumBackward0", reduces=True, forward=lambda op, x: x.sum()),
    linear("SumBackward1", reduces=True, forward=_sum),
    linear("MeanBackward0", reduces=True, forward=lambda op, x: x.mean()),
    linear("MeanBackward1", reduces=True, forward=_mean),
    linear("CumsumBackward0", forward=lambda op, x: x.cumsum(op.saved.dim)),
    linear("TraceBackward0", reduces=True, forward=lambda op, x: x.trace()),
    # -- select by value ----------------------------------------------------------------------------
    winner("MaxBackward0", reduces=True, forward=picked),
    winner("MinBackward0", reduces=True, forward=picked),
    winner("MaxBackward1", reduces=True, results="result", forward=lambda op, x: x.max()),
    winner("MinBackward1", reduces=True, results="result", forward=lambda op, x: x.min()),
    winner("AmaxBackward0", reduces=True, results="result",
        forward=lambda op, x: x.amax(op.saved.dim, op.saved.keepdim)),
    winner("AminBackward0", reduces=True, results="result",
        forward=lambda op, x: x.amin(op.saved.dim, op.saved.keepdim)),
    winner("MedianBackward1", reduces=True, forward=picked),
    winner("KthvalueBackward0", reduces=True, forward=picked),
    winner("SortBackward0", forward=_gathered),
    winner("SortBackward1", forward=_gathered),
    winner("TopkBackward0", reduces=True, forward=_gathered),
    custom("MaximumBackward0", TheLarger(), "self other", family="entrywise",
        forward=lambda op, a, b: torch.maximum(a, b)),
    custom("MinimumBackward0", TheLarger(sign=-1), "self other", family="entrywise",
        forward=lambda op, a, b: torch.minimum(a, b)),
    # -- homogeneous --------------------------------------------------------------------------------
    # The norm of order 0 counts: scaling x changes nothing.
    homogeneous("LinalgVectorNormBackward0", degree=lambda op: float(op.saved.ord != 0), reduces=True,
        results="result", forward=_norm),
    homogeneous("VarBackward0", degree=2.0, reduces=True, forward=_var),
    homogeneous("StdBackward0", degree=1.0, reduces=True, results="result", forward=_std),
    homogeneous("ProdBackward0", degree=_prod_degree, reduces=True, results="result",
        forward=lambda op, x: x.prod()),
    homogeneous("ProdBackward1", degree=lambda op: max(1.0, op.operand_shape(0)[op.saved.dim]), reduces=True,
        results="result", forward=lambda op, x: x.prod(op.saved.dim, op.saved.keepdim)),
    # -- softmax's relative -------------------------------------------------------------------------
    softmax("LogsumexpBackward0", results="result",
        forward=lambda op, x: x.logsumexp(op.saved.dim, op.saved.keepdim)),
)  # fmt: skip
