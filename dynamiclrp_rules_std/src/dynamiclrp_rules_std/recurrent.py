"""Fused LSTM and GRU: unrolled from what they saved, then swept like any graph.

nn.GRU, nn.RNN and the cells are already small nodes on CPU and need no row; on CUDA a cell is one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from dynamiclrp_core.families import custom
from dynamiclrp_core.op import Op
from dynamiclrp_core.subgraph import StandIn, SubGraph
from torch import Tensor

from .elsewhere import CUDA


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
        h, c = lstm_cell(gates, c)
        outputs.append(h)
    return torch.stack(outputs[::-1] if reverse else outputs), h, c


class Unrolled(SubGraph):
    """The LSTM's elementary operations, with the rules that are in force for each."""

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        s = op.saved
        names = ("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_")
        made: list[Tensor] = []
        for i, name in enumerate(names):
            t = getattr(s, name)
            t = t if op.sweep.dtype is None else t.to(op.sweep.dtype)
            made.append(stand_in(t, op.wanted[i]))
        x, w_ih, w_hh, b_ih, b_hh, h, c = made
        bias = b_ih + b_hh if s.has_biases else None
        h, c = h.view(-1, h.shape[-1]), c.view(-1, c.shape[-1])
        # Time comes first, whatever the field batch_first says: torch transposes around the node.
        outputs, h_n, c_n = lstm_steps(x, w_ih, w_hh, bias, h, c, s.reverse)
        operands = [t if w else None for t, w in zip(made, op.wanted)]
        return (outputs, h_n.view_as(s.hx_), c_n.view_as(s.cx_)), operands


def lstm_cell(gates: Tensor, cx: Tensor) -> tuple[Tensor, Tensor]:
    """One step, from the sum of all gates in the order i f g o; (h, c)."""
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * cx + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_cell(of_input: Tensor, of_hidden: Tensor, hx: Tensor) -> Tensor:
    """One step, from the gates in the order r z n: ``h' = n + z (h - n)``."""
    (r, z, n), (hr, hz, hn) = of_input.chunk(3, 1), of_hidden.chunk(3, 1)
    r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
    n = (n + r * hn).tanh()
    return n + z * (hx - n)


class Cell(SubGraph):
    """A fused cell of CUDA: gates of input and hidden state, the state, two biases if there are any."""

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        made: list[Tensor | None] = []
        for i, name in enumerate(op.row.operands[: len(op.edges)]):
            t = getattr(op.saved, name)
            if t is not None:
                t = stand_in(t if op.sweep.dtype is None else t.to(op.sweep.dtype), op.wanted[i])
            made.append(t)
        x, h, state, *biases = made
        assert x is not None and h is not None and state is not None
        return self.outputs(x, h, state, *biases), [t if w else None for t, w in zip(made, op.wanted)]

    @staticmethod
    def outputs(x: Tensor, h: Tensor, state: Tensor, *biases: Tensor | None) -> tuple[Tensor, ...]:
        raise NotImplementedError


class LstmCell(Cell):
    @staticmethod
    def outputs(x: Tensor, h: Tensor, state: Tensor, *biases: Tensor | None) -> tuple[Tensor, ...]:
        gates = x + h
        for bias in biases:
            gates = gates if bias is None else gates + bias
        return lstm_cell(gates, state)


class GruCell(Cell):
    @staticmethod
    def outputs(x: Tensor, h: Tensor, state: Tensor, *biases: Tensor | None) -> tuple[Tensor, ...]:
        b_x, b_h = biases or (None, None)
        return (gru_cell(x if b_x is None else x + b_x, h if b_h is None else h + b_h, state),)


ROWS = (
    custom(
        "MkldnnRnnLayerBackward0",
        Unrolled(),
        "input weight0 weight1 weight2 weight3 hx_ cx_",
        results="result0 result1 result2",
        family="recurrent",
    ),
    custom("ThnnFusedLstmCellBackward0", LstmCell(), "input_gates hidden_gates cx input_bias hidden_bias",
        family="recurrent", optional=(3, 4), unexecuted=CUDA),
    custom("ThnnFusedGruCellBackward0", GruCell(), "input_gates hidden_gates hx input_bias hidden_bias",
        family="recurrent", optional=(3, 4), unexecuted=CUDA),
)  # fmt: skip
