"""Reductions, scans and selections over dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch
from dynamiclrp_core.families import homogeneous, linear, softmax, winner
from dynamiclrp_core.op import Op
from torch import Tensor


def _dims(op: Op) -> Any:
    return op.saved.dim


def _sum(op: Op, x: Tensor) -> Tensor:
    dim = _dims(op)
    return x.sum() if dim == () else x.sum(dim, op.saved.keepdim)


def _mean(op: Op, x: Tensor) -> Tensor:
    return x.mean(_dims(op) or None, op.saved.keepdim)


def _picked(op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values at the saved indices, as max/min/median/mode/kthvalue over a dim give them."""
    dim, indices = op.saved.dim, op.saved.indices
    wide = indices if op.saved.keepdim else indices.unsqueeze(dim)
    values = x.gather(dim, wide)
    return (values if op.saved.keepdim else values.squeeze(dim)), indices


def _gathered(op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
    """Sort and topk: the indices keep the dim."""
    return x.gather(op.saved.dim, op.saved.indices), op.saved.indices


def _won(op: Op) -> Tensor | None:
    """Maximum and minimum: the output where an operand won that is not live, half of it at a tie."""
    if all(op.live):
        return None
    operands = op.inputs()
    top: Tensor = op.forward(*operands)
    hits = [(x == top).to(top.dtype) for x in operands]
    return top * hits[op.live.index(False)] / (hits[0] + hits[1])


def _norm(op: Op, x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, op.saved.ord, op.saved.dim, op.saved.keepdim)


def _var(op: Op, x: Tensor) -> Tensor:
    return x.var(_dims(op), correction=op.saved.correction, keepdim=op.saved.keepdim)


def _std(op: Op, x: Tensor) -> Tensor:
    return x.std(_dims(op), correction=op.saved.correction, keepdim=op.saved.keepdim)


def _prod_degree(op: Op) -> float:
    shape = op.operand_shape(0)
    return float(math.prod(shape))


ROWS = (
    linear("SumBackward0", reduces=True, forward=lambda op, x: x.sum()),
    linear("SumBackward1", reduces=True, forward=_sum),
    linear("MeanBackward0", reduces=True, forward=lambda op, x: x.mean()),
    linear("MeanBackward1", reduces=True, forward=_mean),
    linear("CumsumBackward0", forward=lambda op, x: x.cumsum(op.saved.dim)),
    linear("TraceBackward0", reduces=True, forward=lambda op, x: x.trace()),
    # -- select by value ----------------------------------------------------------------------------
    winner("MaxBackward0", reduces=True, forward=_picked),
    winner("MinBackward0", reduces=True, forward=_picked),
    winner("MaxBackward1", reduces=True, results="result", forward=lambda op, x: x.max()),
    winner("MinBackward1", reduces=True, results="result", forward=lambda op, x: x.min()),
    winner("AmaxBackward0", reduces=True, results="result",
        forward=lambda op, x: x.amax(op.saved.dim, op.saved.keepdim)),
    winner("AminBackward0", reduces=True, results="result",
        forward=lambda op, x: x.amin(op.saved.dim, op.saved.keepdim)),
    winner("MedianBackward1", reduces=True, forward=_picked),
    winner("KthvalueBackward0", reduces=True, forward=_picked),
    winner("SortBackward0", forward=_gathered),
    winner("SortBackward1", forward=_gathered),
    winner("TopkBackward0", reduces=True, forward=_gathered),
    winner("MaximumBackward0", "self other", shift=_won, forward=lambda op, a, b: torch.maximum(a, b)),
    winner("MinimumBackward0", "self other", shift=_won, forward=lambda op, a, b: torch.minimum(a, b)),
    # -- homogeneous --------------------------------------------------------------------------------
    homogeneous("LinalgVectorNormBackward0", degree=1.0, reduces=True, results="result", forward=_norm),
    homogeneous("VarBackward0", degree=2.0, reduces=True, forward=_var),
    homogeneous("StdBackward0", degree=1.0, reduces=True, results="result", forward=_std),
    homogeneous("ProdBackward0", degree=_prod_degree, reduces=True, results="result",
        forward=lambda op, x: x.prod()),
    homogeneous("ProdBackward1", degree=lambda op: float(op.operand_shape(0)[op.saved.dim]), reduces=True,
        results="result", forward=lambda op, x: x.prod(op.saved.dim, op.saved.keepdim)),
    # -- softmax's relative -------------------------------------------------------------------------
    softmax("LogsumexpBackward0", results="result",
        forward=lambda op, x: x.logsumexp(op.saved.dim, op.saved.keepdim)),
)  # fmt: skip
