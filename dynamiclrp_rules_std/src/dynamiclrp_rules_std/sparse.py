"""Sparse tensors: what is not stored is 0, and relevance of one is that of the dense tensor it stands for.

So entries are dense, and every pull here is written on dense ones: torch's own gradients keep the pattern of
a tensor in some operations and drop it in others. Products with a sparse matrix are what graph
networks call with their adjacency.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dynamiclrp_core.families import custom
from dynamiclrp_core.matching.matchers import bilinear
from dynamiclrp_core.numerics import dense
from dynamiclrp_core.op import Op
from dynamiclrp_core.refusal import Refused
from dynamiclrp_core.rule import Row, Rule
from dynamiclrp_core.rules.defaults import Affine, Linear, Moving, Product
from torch import Tensor

Pull = Callable[[Op, Tensor, int, Any], Tensor]
LAYOUTS = {"Csr": torch.sparse_csr, "Csc": torch.sparse_csc, "Bsr": torch.sparse_bsr, "Bsc": torch.sparse_bsc}


def holding(like: Tensor, values: Tensor) -> Tensor:
    """The dense tensor of ``values`` stored where ``like`` stores its own."""
    if like.layout == torch.sparse_coo:
        at = like._indices()
        return torch.sparse_coo_tensor(at, values, like.shape, check_invariants=False).to_dense()
    rows = like.layout in (torch.sparse_csr, torch.sparse_bsr)
    ends = like.crow_indices() if rows else like.ccol_indices()
    plain = like.col_indices() if rows else like.row_indices()
    made: Tensor = torch.sparse_compressed_tensor(
        ends, plain, values, like.shape, layout=like.layout, check_invariants=False
    )
    return made.to_dense()


def stored(like: Tensor, t: Tensor) -> Tensor:
    """The entries of ``t`` where ``like`` stores its own, in the order and shape of its values."""
    t = dense(t)
    if like.layout == torch.sparse_coo:
        return t[tuple(like._indices())]
    values = like.values()
    numbers = torch.arange(1, values.numel() + 1, device=values.device, dtype=torch.float64)
    place = holding(like, numbers.view(values.shape)).long()
    held = place > 0
    made = torch.zeros(values.numel(), dtype=t.dtype, device=t.device)
    return made.index_put((place[held] - 1,), t[held]).view(values.shape)


def _same(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    return dense(c)


def _read(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    return stored(op.saved.result, c)


def _sum_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    shape = op.operand_shape(0)
    kept = [1 if d in {k % len(shape) for k in op.saved.dim} else n for d, n in enumerate(shape)]
    return dense(c).reshape(kept).expand(shape)


def _masked(op: Op, x: Tensor) -> Tensor:
    made: Tensor = x.sparse_mask(op.saved.mask)
    return made


def _mask_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    mask = op.saved.mask
    return holding(mask, stored(mask, c))


def _row(node: str, rule: Rule, pull: Pull, forward: Callable[..., Tensor], operands: str = "self") -> Row:
    return custom(node, rule, operands, family="sparse", degree=1.0, forward=forward, pull=pull)


def _as_saved(op: Op, values: Tensor) -> Tensor:
    """The sparse tensor that the call made, of other values."""
    made, entries = op.saved.result, holding(op.saved.result, values)
    return entries.sparse_mask(made.coalesce() if made.layout == torch.sparse_coo else made)


def adds(op: Op) -> bool:
    """Whether a term is added to the product (torch.sparse.mm adds 0 times a tensor)."""
    return bool(op.saved.beta)


def _product(op: Op, added: Tensor | None, sparse: Tensor, x: Tensor) -> Tensor:
    made: Tensor = op.saved.alpha * torch.sparse.mm(sparse, x)
    return made


def _product_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == 1:
        return op.saved.alpha * (dense(c) @ at(2).mT)
    return op.saved.alpha * torch.sparse.mm(op.saved.mat1.to(c.dtype).t(), dense(c))


def _square_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    other, c = at(1 - i), dense(c)
    return torch.sparse.mm(other, c.mT).mT if i == 0 else torch.sparse.mm(other.t(), c)


ADDED = Refused(
    reason="torch.sparse.addmm does not keep the term it adds", cure="add it with + to torch.sparse.mm"
)

ROWS = (
    # -- the same entries in another layout --------------------------------------------------------------
    _row("ToSparseBackward0", Moving(), _same, lambda op, x: x.to_sparse()),
    _row("ToSparseBackward1", Moving(), _same, lambda op, x: x.to_sparse()),
    _row("ToDenseBackward0", Moving(), _same, lambda op, x: x.to_dense()),
    _row("CoalesceBackward0", Moving(), _same, lambda op, x: x.coalesce()),
    *(_row(f"ToSparse{name}Backward0", Moving(), _same, lambda op, x: x.to_sparse())
      for name in LAYOUTS),
    # -- values and what holds them: two may lie at one place of a tensor, and add up --------------------
    _row("SparseCooTensorWithDimsAndTensorsBackward0", Linear(), _read, _as_saved, "values"),
    _row("SparseCompressedTensorBackward0", Linear(), _read, _as_saved, "values"),
    _row("ValuesBackward0", Linear(), lambda op, c, i, at: holding(op.saved.self, dense(c)),
        lambda op, x: x.values()),
    # -- linear maps -----------------------------------------------------------------------------------
    _row("SparseSumBackward0", Linear(), _sum_pull, lambda op, x: torch.sparse.sum(x, op.saved.dim)),
    _row("SparseMaskBackward0", Linear(), _mask_pull, _masked),
    custom("SparseAddmmBackward0", Affine(), "self mat1 mat2", family="sparse", factors=(1, 2),
        cases=((adds, ADDED), (bilinear, Product())), unused=(0,), forward=_product, pull=_product_pull),
    custom("SparseSparseMatmulBackward0", Affine(), "self other", family="sparse", factors=(0, 1),
        cases=((bilinear, Product()),), forward=lambda op, a, b: torch.sparse.mm(a, b), pull=_square_pull),
)  # fmt: skip
