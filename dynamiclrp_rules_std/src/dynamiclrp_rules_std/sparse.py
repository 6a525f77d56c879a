"""Products with a constant sparse matrix: what graph networks call with their adjacency."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.defaults import Linear
from dynamiclrp_core.families import custom
from dynamiclrp_core.op import Op
from dynamiclrp_core.refusal import Refused
from torch import Tensor

REASON = (
    "a sparse tensor: what is not stored counts as absent in one operation and as 0 in the next, and "
    "torch's own gradients differ in that too"
)
CURE = "run the model on dense tensors, or gather and scatter_add instead of a sparse product"


def sparse_is_live(op: Op) -> bool:
    """Whether relevance would have to enter the sparse factor, or a term is added to the product."""
    return op.live[1] or op.live[0] or op.saved.beta != 0


def _product(op: Op, added: Tensor | None, sparse: Tensor, dense: Tensor) -> Tensor:
    return op.saved.alpha * torch.sparse.mm(sparse, dense)


def _pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    return op.saved.alpha * torch.sparse.mm(op.saved.mat1.to(c.dtype).t(), c)


ROWS = (
    custom("SparseAddmmBackward0", Linear(), "self mat1 mat2", family="sparse",
        cases=((sparse_is_live, Refused(reason=REASON, cure=CURE)),), unused=(0,), degree=1.0,
        forward=_product, pull=_pull),
)  # fmt: skip
