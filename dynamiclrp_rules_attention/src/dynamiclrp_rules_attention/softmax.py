"""Softmax nodes. Theorem: their plain gradient is the AttnLRP rule (arXiv 2402.05602, prop. 3.1)."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import softmax

ROWS = (
    softmax("SoftmaxBackward0", results="result", forward=lambda op, x: x.softmax(op.saved.dim)),
    softmax("LogSoftmaxBackward0", results="result", forward=lambda op, x: x.log_softmax(op.saved.dim)),
    softmax(
        "SafeSoftmaxBackward0",
        results="result",
        forward=lambda op, x: torch.ops.aten._safe_softmax(x, op.saved.dim),
    ),
)
