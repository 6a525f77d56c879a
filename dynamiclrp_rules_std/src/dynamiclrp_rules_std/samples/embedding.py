"""Samples of bags of embeddings and packed sequences."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten: Any = torch.ops.aten

WIDE = (torch.float64, torch.float32)
TABLE = ("5 3",)
SCALED = ("5 3", "6")


def bag(weight: Tensor, scale: Tensor | None = None, **options: Any) -> Tensor:
    """Three bags, one of them empty, one with a row twice."""
    indices = torch.tensor([0, 2, 2, 4, 1, 0], device=weight.device)
    offsets = torch.tensor([0, 3, 3], device=weight.device)
    mode = options.pop("mode", "sum")
    return F.embedding_bag(indices, weight, offsets, mode=mode, per_sample_weights=scale, **options)


def last(weight: Tensor) -> Tensor:
    """Offsets with the end of the last bag."""
    indices = torch.tensor([0, 2, 2, 4, 1], device=weight.device)
    ends = torch.tensor([0, 3, 5], device=weight.device)
    return F.embedding_bag(indices, weight, ends, mode="mean", include_last_offset=True)


def packed(x: Tensor, batch_first: bool = False) -> Tensor:
    """Sequences of 4 and 2 steps (as many as there are samples)."""
    lengths = torch.tensor([4, 2, 1][: x.shape[0 if batch_first else 1]])
    made: Tensor = aten._pack_padded_sequence(x, lengths, batch_first)[0]
    return made


def row(node: str, label: str = "", shapes: tuple[str, ...] = TABLE, **options: Any) -> Sample:
    """A bag by keyword."""
    return Sample(node, lambda *t: bag(*t, **options), shapes, batched=False, dtypes=WIDE, label=label)


SAMPLES = (
    row("EmbeddingBagBackward0"),
    row("EmbeddingBagBackward0", "scaled", SCALED),
    row("EmbeddingBagBackward0", "padding", padding_idx=2),
    row("EmbeddingBagBackward0", "by-frequency", scale_grad_by_freq=True),
    row("EmbeddingBagBackward0", "mean", mode="mean"),
    row("EmbeddingBagBackward0", "mean-padding", mode="mean", padding_idx=2),
    Sample("EmbeddingBagBackward0", lambda w: bag(w, mode="max"), TABLE, "distinct", batched=False,
        dtypes=WIDE, label="max"),
    Sample("EmbeddingBagBackward0", last, TABLE, batched=False, dtypes=WIDE, label="last-offset"),
    Sample("EmbeddingRenormBackward0",
        lambda w: aten.embedding_renorm_(w.clone(), torch.tensor([0, 2], device=w.device), 0.5, 2.0),
        TABLE, batched=False),
    Sample("PackPaddedSequenceBackward0", packed, ("4 3 2",), batched=False),
    Sample("PackPaddedSequenceBackward0", lambda x: packed(x, True), ("3 4 2",), batched=False,
        label="batch-first"),
)  # fmt: skip
