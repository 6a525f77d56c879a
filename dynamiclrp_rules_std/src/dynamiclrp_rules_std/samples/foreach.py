"""Samples of calls on lists of tensors."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample

TWO = ("n 4", "n 2 3")
FOUR = ("n 4", "n 3", "n 4", "n 3")

SAMPLES = (
    Sample("ForeachMulBackward0List", lambda a, b, c, d: torch._foreach_mul([a, b], [c, d]), FOUR,
        live=((0,), (1, 3), (0, 1, 2, 3))),
    Sample("ForeachAddBackward1Scalar", lambda a, b: torch._foreach_add([a, b], 0.5), TWO),
    Sample("ForeachExpBackward0", lambda a, b: torch._foreach_exp([a, b]), TWO),
    Sample("ForeachNormBackward0", lambda a, b: torch._foreach_norm([a, b]), TWO, batched=False),
)  # fmt: skip
