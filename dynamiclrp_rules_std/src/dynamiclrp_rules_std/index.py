"""Reading and writing by index, mask or condition; embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.families import moving
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Rule
from dynamiclrp_core.rules.defaults import Moving
from torch import Tensor


def _index(op: Op, x: Tensor) -> Tensor:
    indices: list[Any] = [slice(None) if i is None else i for i in op.saved.indices]
    return x[tuple(indices)]


def _masked_index(op: Op, x: Tensor) -> Tensor:
    made: Tensor = torch.ops.aten._unsafe_masked_index(
        x, op.saved.mask, op.saved.indices, op.constant("fill")
    )
    return made


def _index_put(op: Op, x: Tensor, values: Tensor) -> Tensor:
    made: Tensor = torch.ops.aten.index_put(x, op.saved.indices, values, op.saved.accumulate)
    return made


def _embedding(op: Op, weight: Tensor) -> Tensor:
    return F.embedding(op.saved.indices, weight)


def _embedding_pull(op: Op, c: Tensor, i: int, weight: Any) -> Tensor:
    # Not the node's own backward: it drops the rows of padding_idx and divides by frequency.
    rows = c.reshape(-1, c.shape[-1])
    out = torch.zeros(op.operand_shape(0), dtype=c.dtype, device=c.device)
    return out.index_add(0, op.saved.indices.reshape(-1), rows)


class Accumulated(Moving):
    """``index_put(..., accumulate=True)`` adds up: relevance is shared by value, as in a sum."""

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return Rule.value(self, op, *r)


def accumulates(op: Op) -> bool:
    """Whether what is written is added to what stood there."""
    return bool(op.saved.accumulate)


_INDEX_PUT = moving("IndexPutBackward0", "self values", fills=True, forward=_index_put)
INDEX_PUT = replace(_INDEX_PUT, cases=((accumulates, Accumulated()), *_INDEX_PUT.cases))

ROWS = (
    moving("IndexBackward0", forward=_index),
    moving("UnsafeIndexBackward0", forward=_index),
    moving("UnsafeMaskedIndexBackward0", fills=True, forward=_masked_index),
    moving("IndexSelectBackward0",
        forward=lambda op, x: x.index_select(op.saved.dim, op.saved.index)),
    moving("GatherBackward0", forward=lambda op, x: x.gather(op.saved.dim, op.saved.index)),
    moving("TakeBackward0", forward=lambda op, x: x.take(op.saved.index)),
    moving("MaskedSelectBackward0", forward=lambda op, x: x.masked_select(op.saved.mask)),
    moving("EmbeddingBackward0", "weight", forward=_embedding, pull=_embedding_pull),
    moving("MaskedFillBackward0", fills=True,
        forward=lambda op, x: x.masked_fill(op.saved.mask, op.constant("value"))),
    moving("MaskedFillBackward1", "self value", fills=True,
        forward=lambda op, x, value: x.masked_fill(op.saved.mask, value)),
    moving("WhereBackward0", "self other", fills=True,
        forward=lambda op, a, b: torch.where(op.saved.condition, a, b)),
    moving("ScatterBackward0", "self src", fills=True,
        forward=lambda op, x, src: x.scatter(op.saved.dim, op.saved.index, src)),
    INDEX_PUT,
    moving("SelectScatterBackward0", "self src", fills=True,
        forward=lambda op, x, src: x.select_scatter(src, op.saved.dim, op.saved.index)),
    moving("SliceScatterBackward0", "self src", fills=True, forward=lambda op, x, src: x.slice_scatter(
        src, op.saved.dim, op.saved.start, op.saved.end, op.saved.step)),
)  # fmt: skip
