"""Fused LSTM: unrolled from what it saved, then swept like any graph.

nn.GRU, nn.RNN and the cells are already small nodes on CPU and need no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from dynamiclrp_core.families import custom
from dynamiclrp_core.op import Op
from dynamiclrp_core.subgraph import SubGraph
from torch import Tensor


def lstm_steps(
    x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, h: Tensor, c: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM layer in one direction (time first), gate order i f g o."""
    outputs = []
    steps = list(range(x.shape[0]))
    for t in reversed(steps) if reverse else steps:
        gates = x[t] @ w_ih.t() + h @ w_hh.t()
        if bias is not None:
            gates = gates + bias
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs[::-1] if reverse else outputs), h, c


class Unrolled(SubGraph):
    """The LSTM's elementary operations, with the rules that are in force for each."""

    def rebuild(self, op: Op) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        s = op.saved
        names = ("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_")
        made: list[Tensor] = []
        for i, name in enumerate(names):
            t = getattr(s, name).detach()
            t = t if op.sweep.dtype is None else t.to(op.sweep.dtype)
            made.append(t.requires_grad_() if op.wanted[i] else t)
        x, w_ih, w_hh, b_ih, b_hh, h, c = made
        bias = b_ih + b_hh if s.has_biases else None
        h, c = h.view(-1, h.shape[-1]), c.view(-1, c.shape[-1])
        # Time comes first, whatever the field batch_first says: torch transposes around the node.
        outputs, h_n, c_n = lstm_steps(x, w_ih, w_hh, bias, h, c, s.reverse)
        operands = [t if w else None for t, w in zip(made, op.wanted)]
        return (outputs, h_n.view_as(s.hx_), c_n.view_as(s.cx_)), operands


ROWS = (
    custom(
        "MkldnnRnnLayerBackward0",
        Unrolled(),
        "input weight0 weight1 weight2 weight3 hx_ cx_",
        results="result0 result1 result2",
        family="recurrent",
    ),
)
