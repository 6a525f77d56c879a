"""A layer and the bias that is added in a node of its own, seen as the one layer they compute.

``F.linear`` on a tensor that is not contiguous is a product, views and a sum; ``x @ w + b`` always is. The
sum's other terms are constants, so rules that divide by the layer's output, or split it by sign, must see
them as the layer's bias: else the map depends on how torch or the author spelled the layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import Unrecoverable
from ..node import Edge
from ..op import Op
from ..rule import Entries
from .merged import Whole

MOVES = 8  # between a layer and its bias torch puts one view or two


class Shifted(Whole):
    """``layer``, moved by ``moves`` (latest first), plus the constant operand ``other`` of the sum ``add``.

    Tensors of the sum's shape are moved back to the layer's; the bias's entry is moved forward again.
    """

    __slots__ = ("add", "moves", "other")

    def __init__(self, layer: Op, add: Op, moves: Sequence[Op]) -> None:
        super().__init__(layer.node, layer.kind, layer.sweep)
        self.layer, self.before, self.add, self.moves = layer, False, add, moves
        self.other = add.live.index(False)
        bias: Edge = add.edges[self.other]
        self.edges, self.live = (*self.edges, bias), (*self.live, False)
        self.wanted = (*self.wanted, bias in self.sweep.wanted)
        self.row = replace(
            layer.row,
            bias=len(layer.edges),
            optional=(*layer.row.optional, len(layer.edges)),
            operands=(*layer.row.operands, "added term"),
            shift=lambda op: op.input(len(layer.edges)),
            forward=lambda op, *operands: layer.forward(*operands[:-1]),
            pull=_pull,
        )

    def input(self, i: int) -> Tensor:
        if i != self.row.bias:
            return self.layer.input(i)
        assert self.add.row.weights is not None
        term = self.add.input(self.other) * self.add.row.weights(self.add)[self.other]
        return self._back(term.expand(self.add.shape))

    def output(self, i: int = 0) -> Tensor:
        return self._back(self.add.output())

    def masked_output(self) -> Tensor:
        return self._back(self.add.masked_output())

    def arrived(self, c: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        return [None if ci is None else self._back(ci) for ci in c]

    def sent(self, met: Op, entries: Entries) -> Entries:
        met.past = self.receivers
        return entries

    def _back(self, t: Tensor) -> Tensor:
        for move in self.moves:
            assert move.row.inverse is not None
            t = move.row.inverse(move, t)
        return t


def _pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    shifted = cast(Shifted, op)
    if i != op.row.bias:
        assert shifted.layer.row.pull is not None
        return shifted.layer.row.pull(shifted.layer, c, i, at)
    for move in reversed(shifted.moves):
        c = cast(Tensor, move.forward(c))
    assert shifted.add.row.weights is not None
    return c * shifted.add.row.weights(shifted.add)[shifted.other]


def shifted(add: Op) -> Shifted | None:
    """The layer that the sum ``add`` gives its bias to, if it is such a sum."""
    if add.row.family != "adding" or isinstance(add, Whole):
        return None
    if len(add.edges) != 2 or sum(add.live) != 1 or add.row.weights is None:
        return None
    if add.row.weights(add)[add.live.index(True)] != 1:
        return None
    sweep, edge = add.sweep, add.edges[add.live.index(True)]
    moves: list[Op] = []
    while edge[0] is not None and edge not in sweep.targets:
        below = sweep.op(edge[0])
        if below is None:
            return None
        if below.row.family == "affine":
            return Shifted(below, add, moves) if _is_layer(below) and _is_finite(add) else None
        if not below.row.exact or len(below.edges) != 1 or len(moves) == MOVES:
            return None
        moves.append(below)
        edge = below.edges[0]
    return None


def _is_layer(op: Op) -> bool:
    """One live factor, and no bias of its own."""
    row = op.row
    if row.pull is None or op.live_factors != 1 or sum(op.live) != 1:
        return False
    try:
        return row.shift is None or row.shift(op) is None
    except Unrecoverable:
        return False


def _is_finite(add: Op) -> bool:
    """A mask of -inf is no bias. What nobody knows is one, and a rule that needs it says that it is lost:

    else a recording, which knows, would give another map.
    """
    try:
        return bool(torch.isfinite(add.input(add.live.index(False))).all())
    except Unrecoverable:
        return True
