"""Samples of reading and writing by index, mask or condition."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor


def ids(like: Tensor, *values: int) -> Tensor:
    """An index on the device of ``like``."""
    return torch.tensor(values, device=like.device)


def every_row(like: Tensor, *values: int) -> Tensor:
    """The same index in each row of ``like``."""
    return ids(like, *values).expand(*like.shape[:-1], -1).contiguous()


def odd(like: Tensor) -> Tensor:
    """True at every other entry of the last dimension."""
    return torch.arange(like.shape[-1], device=like.device) % 2 == 1


def tokens(weight: Tensor) -> Tensor:
    """Ids with repetitions."""
    return torch.tensor([[0, 2, 2], [4, 0, 1]], device=weight.device)


def stored(a: Tensor, v: Tensor) -> Tensor:
    """``a[:, [0, 2]] = v``."""
    y = a.clone()
    y[:, ids(a, 0, 2)] = v
    return y


def put(a: Tensor, v: Tensor, accumulate: bool) -> Tensor:
    """Add or write two columns; one of them twice where that is an addition."""
    columns = ids(a, 1, 3, 1) if accumulate else ids(a, 1, 3)
    rows = torch.arange(a.shape[0], device=a.device)[:, None]
    return a.index_put((rows, columns), v, accumulate)


TABLE = ("5 3",)
TWO = ("n 4", "n 4")
PART = ("n 4", "n 2")

SAMPLES = (
    # -- reads -------------------------------------------------------------------------------------
    Sample("IndexBackward0", lambda a: a[:, ids(a, 2, 0, 2)], label="repeated"),
    Sample("IndexBackward0", lambda a: a[:, ids(a, -1, 0)], ("n 4 2",), label="negative"),
    Sample("IndexBackward0", lambda a: a[:, ids(a, 0, 1), ids(a, 2, 2)], ("n 2 3",), label="pairs"),
    Sample("IndexBackward0", lambda a: a[:, ids(a, 0, 1), :, ids(a, 2, 2)], ("n 2 2 3",),
        label="apart"),
    Sample("IndexBackward0", lambda a: a[:, odd(a)], label="mask"),
    Sample("IndexBackward0", lambda a: a[ids(a, 1, 0, 1)], ("2 3",), batched=False, label="rows"),
    Sample("IndexSelectBackward0", lambda a: a.index_select(1, ids(a, 3, 0, 3))),
    Sample("IndexSelectBackward0", lambda a: a.index_select(-1, ids(a, 1)), ("n 2 3",),
        label="negative"),
    Sample("GatherBackward0", lambda a: a.gather(1, every_row(a, 2, 0, 2)), label="repeated"),
    Sample("GatherBackward0", lambda a: a.gather(-1, every_row(a, 1)), ("n 2 3",), label="last"),
    Sample("TakeBackward0", lambda a: a.take(ids(a, 5, 0, 5)), ("2 3",), batched=False),
    Sample("MaskedSelectBackward0", lambda a: a.masked_select(odd(a))),
    Sample("MaskedSelectBackward0", lambda a: a.masked_select(odd(a).expand(2, -1)), ("n 1 4",),
        label="broadcast"),
    Sample("EmbeddingBackward0", lambda w: F.embedding(tokens(w), w), TABLE, batched=False),
    Sample("EmbeddingBackward0", lambda w: F.embedding(tokens(w), w, padding_idx=0), TABLE,
        batched=False, label="padding"),
    Sample("EmbeddingBackward0", lambda w: F.embedding(tokens(w), w, scale_grad_by_freq=True),
        TABLE, batched=False, label="by-frequency"),
    # -- writes ------------------------------------------------------------------------------------
    Sample("MaskedFillBackward0", lambda a: a.masked_fill(odd(a), 0.5)),
    Sample("MaskedFillBackward0", lambda a: a.masked_fill(odd(a), 0), label="0"),
    Sample("MaskedFillBackward0", lambda a: a.clone().masked_fill_(odd(a), -2.0), label="in-place"),
    Sample("MaskedFillBackward1", lambda a, v: a.masked_fill(odd(a), v), ("n 4", "")),
    Sample("MaskedFillBackward1", lambda a: a.masked_fill(odd(a), a.new_tensor(0.5)),
        label="constant"),
    Sample("WhereBackward0", lambda a, b: torch.where(odd(a), a, b), TWO),
    Sample("WhereBackward0", lambda a, b: torch.where(odd(a), a, b), ("n 2 4", "2 1"),
        label="right"),
    Sample("WhereBackward0", lambda a, b: torch.where(odd(b), a, b), ("", "n 4"), label="left"),
    Sample("WhereBackward0", lambda a: torch.where(odd(a), a, 0.5), label="scalar"),
    Sample("WhereBackward0", lambda a: torch.where(odd(a), 0.0, a), label="scalar-first"),
    Sample("ScatterBackward0", lambda a, v: a.scatter(1, every_row(v, 3, 0), v), PART),
    Sample("ScatterBackward0", lambda a, v: a.clone().scatter_(-1, every_row(v, 3, 0), v), PART,
        label="in-place"),
    Sample("IndexPutBackward0", stored, PART),
    Sample("IndexPutBackward0", stored, ("n 4", "2"), label="broadcast"),
    Sample("IndexPutBackward0", lambda a, v: put(a, v, False), PART, label="pairs"),
    Sample("IndexPutBackward0", lambda a, v: put(a, v, True), ("n 4", "n 3"), label="accumulate"),
    Sample("IndexPutBackward0", lambda a, v: a.index_put((odd(a).expand(a.shape),), v),
        ("n 4", ""), label="mask"),
    Sample("SelectScatterBackward0", lambda a, v: a.select_scatter(v, 1, 2), ("n 4", "n")),
    Sample("SelectScatterBackward0", lambda a, v: a.select_scatter(v, -1, -1), ("n 2 3", "n 2"),
        label="negative"),
    Sample("SliceScatterBackward0", lambda a, v: a.slice_scatter(v, 1, 1, 3), PART),
    Sample("SliceScatterBackward0", lambda a, v: a.slice_scatter(v, -1, step=2), PART,
        label="step"),
    Sample("SliceScatterBackward0", lambda a, v: a.slice_scatter(v, 1, -2), PART, label="negative"),
)  # fmt: skip
