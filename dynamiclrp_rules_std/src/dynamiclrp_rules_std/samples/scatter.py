"""Samples of writing by index."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

from .index import every_row, ids, odd

aten: Any = torch.ops.aten

WIDE = (torch.float64, torch.float32)
PART = ("n 4", "n 2")
THREE = ("n 4", "n 3")


def masked(a: Tensor, v: Tensor) -> Tensor:
    """Two entries of each row from ``v``, in order."""
    return a.masked_scatter(odd(a), v)


def strided(a: Tensor, v: Tensor) -> Tensor:
    """Two by two entries by stride."""
    return torch.as_strided_scatter(a.contiguous(), v, (2, 2), (1, 2), 1)


def reduce(a: Tensor, v: Tensor, how: str, include_self: bool = True) -> Tensor:
    """Entry 1 gets two of ``v``, entry 3 one, the others none."""
    return a.scatter_reduce(1, every_row(v, 1, 3, 1), v, how, include_self=include_self)


def reduce_columns(a: Tensor, v: Tensor, how: str, include_self: bool = True) -> Tensor:
    """The same by whole columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it a beta function, once
        return a.index_reduce(1, ids(a, 1, 3, 1), v, how, include_self=include_self)


def flat(a: Tensor, v: Tensor, accumulate: bool) -> Tensor:
    """By index into the flat tensor, one of them twice where that is an addition."""
    return a.put(ids(a, 5, 0, 5) if accumulate else ids(a, 5, 0, 3), v, accumulate)


def rows(a: Tensor) -> Tensor:
    """The numbers of the rows, as a column."""
    return torch.arange(a.shape[0], device=a.device)[:, None]


def unsafe(function: str, a: Tensor, v: Tensor, accumulate: bool) -> Tensor:
    """What compiled code calls for ``index_put``."""
    columns = ids(a, 1, 3, 1) if accumulate else ids(a, 1, 3)
    a = a.clone() if function.endswith("_") else a
    made: Tensor = getattr(aten, function)(a, [rows(a), columns], v, accumulate)
    return made


def masked_add(a: Tensor, v: Tensor) -> Tensor:
    """Added where the mask holds."""
    mask = ids(a, 1, 0, 1) == 1
    made: Tensor = aten._unsafe_masked_index_put_accumulate(
        a, mask.expand(v.shape), [rows(a), ids(a, 1, 3, 1)], v
    )
    return made


def reductions(node: str, call: Any) -> list[Sample]:
    """Each way to reduce, with and without what stood there."""
    ways = ["sum", "mean", "prod", "amax", "amin"] if node.startswith("Scatter") else [
        "mean", "prod", "amax", "amin"]  # fmt: skip
    return [
        Sample(node, partial(call, how=how, include_self=own), THREE,
            "distinct" if how.startswith("a") else "real", dtypes=WIDE,
            label=how + ("" if own else "-alone"))
        for how in ways
        for own in (True, False)
    ]  # fmt: skip


SAMPLES = (
    # -- replaces ----------------------------------------------------------------------------------
    Sample("ScatterBackward1", lambda a: a.scatter(1, every_row(a, 3, 0), 0.5)),
    Sample("IndexCopyBackward0", lambda a, v: a.index_copy(-1, ids(a, 3, 0), v), PART),
    Sample("IndexFillBackward0", lambda a: a.index_fill(1, ids(a, 3, 0), 0.5)),
    Sample("IndexFillBackward1", lambda a, v: a.index_fill(-1, ids(a, 3, 0), v), ("n 4", "")),
    Sample("MaskedScatterBackward0", masked, PART),
    Sample("DiagonalScatterBackward0", lambda a, v: a.diagonal_scatter(v, 1, 1, -1),
        ("n 2 3", "n 2")),
    Sample("AsStridedScatterBackward0", strided, ("3 4", "2 2"), batched=False),
    Sample("PutBackward0", partial(flat, accumulate=False), ("2 3", "3"), batched=False),
    Sample("PutBackward0", partial(flat, accumulate=True), ("2 3", "3"), batched=False,
        label="accumulate"),
    Sample("UnsafeIndexBackward0", lambda a: aten._unsafe_index(a, [None, ids(a, 2, 0, 2)])),
    Sample("UnsafeMaskedIndexBackward0",
        lambda a: aten._unsafe_masked_index(a, odd(a), [rows(a), ids(a, 2, 0, 2, 1)], 0.5)),
    Sample("UnsafeIndexPutBackward0", partial(unsafe, "_unsafe_index_put", accumulate=False), PART),
    Sample("UnsafeIndexPutBackward0", partial(unsafe, "_unsafe_index_put", accumulate=True), THREE,
        label="accumulate"),
    Sample("IndexPutImplBackward0", partial(unsafe, "_index_put_impl_", accumulate=False), PART),
    Sample("IndexPutImplBackward0", partial(unsafe, "_index_put_impl_", accumulate=True), THREE,
        label="accumulate"),
    # -- adds up -----------------------------------------------------------------------------------
    Sample("ScatterAddBackward0", lambda a, v: a.scatter_add(1, every_row(v, 1, 3, 1), v), THREE),
    Sample("ScatterAddBackward0", lambda a, v: a.clone().scatter_add_(1, every_row(v, 1, 3, 1), v),
        THREE, label="in-place"),
    Sample("IndexAddBackward0", lambda a, v: a.index_add(1, ids(a, 1, 3, 1), v, alpha=-2), THREE),
    Sample("UnsafeMaskedIndexPutAccumulateBackward0", masked_add, THREE),
    # -- reduces -----------------------------------------------------------------------------------
    *reductions("ScatterReduceBackward0", reduce),
    *reductions("IndexReduceBackward0", reduce_columns),
)  # fmt: skip
