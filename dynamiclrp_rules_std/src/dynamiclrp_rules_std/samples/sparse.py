"""Samples of sparse tensors, and the same on dense ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

Call = Callable[..., Tensor]
WIDE = (torch.float64, torch.float32)


def quiet(call: Call) -> Call:
    """Torch calls its compressed layouts beta, once."""

    @wraps(call)
    def quietly(*tensors: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*tensors)

    return quietly


@quiet
def adjacency(x: Tensor, layout: torch.layout = torch.sparse_coo) -> Tensor:
    """A sparse matrix of three rows, one of them empty."""
    dense = torch.tensor([[0, 1, 0.5], [0, 0, 0], [2, 0, -1]], dtype=x.dtype, device=x.device)
    return dense.to_sparse(layout=layout)


def places(x: Tensor) -> Tensor:
    """Rows and columns of four values, two of which share a place."""
    return torch.tensor([[0, 1, 2, 1], [2, 0, 1, 0]], device=x.device)


def edges(v: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(places(v), v, (3, 3, *v.shape[1:]), check_invariants=False)


def edges_by_hand(v: Tensor) -> Tensor:
    nothing = torch.zeros(3, 3, *v.shape[1:], dtype=v.dtype, device=v.device)
    return nothing.index_put(tuple(places(v)), v, accumulate=True)


def rows(v: Tensor) -> Tensor:
    """The same matrix without the second value that shares a place, row by row."""
    ends = torch.tensor([0, 1, 2, 3], device=v.device)
    return torch.sparse_csr_tensor(
        ends, torch.tensor([2, 0, 1], device=v.device), v, (3, 3), check_invariants=False
    )


def of(node: str, call: Call, by_hand: Call, *shapes: str, label: str = "") -> Sample:
    return Sample(
        node, quiet(call), shapes or ("4",), batched=False, dtypes=WIDE, label=label, decomposed=by_hand
    )


def behind(node: str, call: Call, by_hand: Call, *shapes: str, label: str = "wrapped") -> Sample:
    """A sample of a node that gives a sparse tensor, made dense."""
    return of(node, lambda *tensors: call(*tensors).to_dense(), by_hand, *shapes, label=label)


LAYOUTS: dict[str, Call] = {
    "ToSparseBackward0": lambda a: a.to_sparse(1),
    "ToSparseBackward1": lambda a: a.to_sparse(),
    "ToSparseCsrBackward0": lambda a: a.to_sparse_csr(),
    "ToSparseCscBackward0": lambda a: a.to_sparse_csc(),
    "ToSparseBsrBackward0": lambda a: a.to_sparse_bsr((2, 2)),
    "ToSparseBscBackward0": lambda a: a.to_sparse_bsc((2, 2)),
}
COO = "SparseCooTensorWithDimsAndTensorsBackward0"

SAMPLES = (
    *(behind(node, call, torch.clone, "4 4") for node, call in LAYOUTS.items()),
    of("ToDenseBackward0", lambda a: a.to_sparse().to_dense(), torch.clone, "4 4"),
    behind("CoalesceBackward0", lambda v: edges(v).coalesce(), edges_by_hand),
    behind(COO, edges, edges_by_hand),
    behind(COO, edges, edges_by_hand, "4 2", label="wrapped-rows"),
    behind("SparseCompressedTensorBackward0", rows,
        lambda v: edges_by_hand(torch.cat([v, v[:1] * 0])), "3"),
    of("ValuesBackward0", lambda v: edges(v).coalesce().values(),
        lambda v: torch.stack([v[0], v[1] + v[3], v[2]])),
    of("ValuesBackward0", lambda v: rows(v).values(), torch.clone, "3", label="csr"),
    of("ValuesBackward0_copy", lambda v: torch.values_copy(rows(v)), torch.clone, "3"),
    behind("SparseSumBackward0", lambda v: torch.sparse.sum(edges(v), 1), lambda v: edges_by_hand(v).sum(1)),
    of("SparseSumBackward0", lambda v: torch.sparse.sum(edges(v), (0, -1)), torch.sum, label="all"),
    behind("SparseMaskBackward0", lambda a: a.sparse_mask(adjacency(a).coalesce()),
        lambda a: a * (adjacency(a).to_dense() != 0), "3 3"),
    of("SparseAddmmBackward0", lambda x: torch.sparse.mm(adjacency(x), x),
        lambda x: adjacency(x).to_dense() @ x, "3 2"),
    of("SparseAddmmBackward0", lambda x: torch.sparse.mm(adjacency(x, torch.sparse_csr), x),
        lambda x: adjacency(x).to_dense() @ x, "3 2", label="csr"),
    of("SparseAddmmBackward0", lambda v, x: torch.sparse.mm(edges(v), x),
        lambda v, x: edges_by_hand(v) @ x, "4", "3 2", label="learned"),
    behind("SparseSparseMatmulBackward0", lambda v, w: torch.sparse.mm(edges(v), edges(w)),
        lambda v, w: edges_by_hand(v) @ edges_by_hand(w), "4", "4"),
)  # fmt: skip
