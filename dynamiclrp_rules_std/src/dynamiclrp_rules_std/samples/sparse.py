"""Samples of products with a constant sparse matrix."""

from __future__ import annotations

import warnings

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor


def adjacency(x: Tensor, layout: torch.layout = torch.sparse_coo) -> Tensor:
    """A sparse matrix of three rows, one of them empty."""
    dense = torch.tensor([[0, 1, 0.5], [0, 0, 0], [2, 0, -1]], dtype=x.dtype, device=x.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its compressed layouts beta, once
        return dense.to_sparse(layout=layout)


WIDE = (torch.float64, torch.float32)

SAMPLES = (
    Sample("SparseAddmmBackward0", lambda x: torch.sparse.mm(adjacency(x), x), ("3 2",), batched=False,
        dtypes=WIDE),
    Sample("SparseAddmmBackward0", lambda x: torch.sparse.mm(adjacency(x, torch.sparse_csr), x), ("3 2",),
        batched=False, dtypes=WIDE, label="csr"),
)  # fmt: skip
