"""Custom Functions of libraries: their Python backward is run only because a row here says what they are."""

from __future__ import annotations

import torch.nn.functional as F
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.node import saved_tensors
from dynamiclrp_core.op import Op
from torch import Tensor


def _kept(op: Op) -> Tensor:
    """The operand, which the Function's context kept."""
    (x,) = saved_tensors(op.node)
    return x if op.sweep.dtype is None else x.to(op.sweep.dtype)


def _gelu(op: Op, x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _gelu_slope(op: Op) -> Tensor:
    x = _kept(op)
    return 0.5 * (1 + (0.79788456 * x * (1 + 0.044715 * x * x)).tanh())


ROWS = (
    elementwise("transformers.models.bloom.modeling_bloom.GeLUFunction", forward=_gelu, slope=_gelu_slope),
)
