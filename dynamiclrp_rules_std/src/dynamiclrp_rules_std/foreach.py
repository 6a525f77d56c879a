"""Calls on lists of tensors: one node for all. Each entry gets the rule of the plain op."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import composite
from dynamiclrp_core.op import Op
from torch import Tensor


def _product(op: Op, *both: Tensor) -> tuple[Tensor, ...]:
    half = len(both) // 2
    return tuple(a * b for a, b in zip(both[:half], both[half:]))


ROWS = (
    composite("ForeachMulBackward0List", "self* other*", separate=True, forward=_product),
    composite("ForeachAddBackward1Scalar", "self*", separate=True,
        forward=lambda op, *xs: tuple(x + op.constant("scalar") for x in xs)),
    composite("ForeachExpBackward0", "self*", separate=True,
        forward=lambda op, *xs: tuple(x.exp() for x in xs)),
    composite("ForeachNormBackward0", "self*", separate=True,
        forward=lambda op, *xs: tuple(torch.linalg.vector_norm(x, op.saved.ord) for x in xs)),
)  # fmt: skip
