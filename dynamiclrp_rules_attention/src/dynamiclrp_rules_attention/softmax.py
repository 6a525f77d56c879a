"""Softmax nodes. Theorem: their plain gradient is the AttnLRP rule (arXiv 2402.05602, prop. 3.1)."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import softmax
from dynamiclrp_core.op import Op
from torch import Tensor


def _masked(op: Op, x: Tensor) -> Tensor:
    # Only masks of x's shape have a backward, so the node never holds another kind. True hides.
    return torch.ops.aten._safe_softmax(x.masked_fill(op.saved.mask, -torch.inf), op.saved.dim)


ROWS = (
    softmax("SoftmaxBackward0", results="result", forward=lambda op, x: x.softmax(op.saved.dim)),
    softmax("LogSoftmaxBackward0", results="result", forward=lambda op, x: x.log_softmax(op.saved.dim)),
    softmax(
        "SafeSoftmaxBackward0",
        results="result",
        forward=lambda op, x: torch.ops.aten._safe_softmax(x, op.saved.dim),
    ),
    softmax("MaskedSoftmaxBackward0", results="result", forward=_masked),
)
