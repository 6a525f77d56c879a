"""A layer and the batch norm right behind or right before it, seen as the one layer they compute.

Batch norm multiplies and shifts per channel by constants (in training too, with the statistics held), so
``gamma / sigma * (w x + b - mu) + beta`` is one layer with weights ``w gamma / sigma``. Rules that split
contributions by sign or square them give another map if they see the two ops one after the other: other
tools merge the two in the model ("canonizers"); here the rule is shown an op that has the merged weights.

Which ops merge is read from the graph: the edge from one to the other. Where the tensor between them is
itself explained or read out, they stay apart, because relevance must be read there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from ..node import Edge
from ..numerics import spare
from ..op import Op
from ..rule import Entries, Row


def weights(op: Op, i: int) -> Tensor:
    """The weights of a layer whose input is factor i: the other factor, times alpha (addmm)."""
    w = op.input(_other(op, i))
    times = 1 if op.row.times is None else op.row.times(op)
    return w if times == 1 else w * times


def placed(op: Op, i: int, x: Tensor | None, w: Tensor) -> list[Tensor | None]:
    """Operands of a layer at the weights w, as of ``weights``: x as factor i, no added term."""
    times = 1 if op.row.times is None else op.row.times(op)
    operands: list[Tensor | None] = [None] * len(op.edges)
    operands[i] = x
    operands[_other(op, i)] = w if times in (0, 1) else w / times
    return operands


def per_channel(t: Tensor, dims: int) -> Tensor:
    """A vector over channels (dim 1) that broadcasts against a tensor of ``dims`` dimensions."""
    return t.view(1, -1, *[1] * (dims - 2))


class Whole(Op):
    """Several ops, shown to a rule as the one ``layer`` they compute.

    ``before``: the layer is the last of the ops, else it is the first.
    """

    __slots__ = ("before", "layer")
    layer: Op
    before: bool

    def arrived(self, c: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """What arrived at the last op, as it arrives at the layer."""
        return c

    def sent(self, met: Op, entries: Entries) -> Entries:
        """``entries`` of this op, on its way from the node ``met``: they go to this op's operands."""
        raise NotImplementedError


class Merged(Whole):
    """``layer`` with other weights and, as a last operand, another added term.

    Behind a layer the norm's output is the output, before a layer the norm's input is the input. A norm's
    bias and the layer's take their share of the added term; a norm's weight takes none of its own.
    """

    __slots__ = ("_term", "norm", "scale", "shift")

    def __init__(self, layer: Op, norm: Op, before: bool) -> None:
        super().__init__(layer.node, layer.kind, layer.sweep)
        assert norm.row.channelwise is not None
        self.layer, self.norm, self.before = layer, norm, before
        self.scale, self.shift = norm.row.channelwise(norm)
        self._term: Tensor | None = None
        n, i = len(self.edges), self.live.index(True)
        above = norm.sweep.graph.edges[norm.node]
        bias: Edge = (None, 0)
        if before:
            self.edges = (*self.edges[:i], above[0], *self.edges[i + 1 :])
        else:
            bias = above[2] if len(above) > 2 else bias
        asked = bias in self.sweep.wanted or (layer.row.bias is not None and self.wanted[layer.row.bias])
        self.edges, self.live, self.wanted = (*self.edges, bias), (*self.live, False), (*self.wanted, asked)
        self.row = _merged_row(layer.row, n)

    @property
    def term(self) -> Tensor:
        """The added term, made when a rule asks for it."""
        if self._term is None:
            layer, dims = self.layer, len(self.norm.shape)
            term = per_channel(self.shift, dims)
            own = None if layer.row.shift is None else layer.row.shift(layer)
            if self.before:
                # Not a multiple of the weights' sum: padding is not shifted.
                i = self.live.index(True)
                constant = term.expand(self.norm.shape)
                term = layer.forward(*placed(layer, i, constant, weights(layer, i)))
            elif own is not None:
                own = own * per_channel(self.scale, dims)
            self._term = term if own is None else term + own
        return self._term

    def scaled(self, t: Tensor, k: Tensor, own: bool = False) -> Tensor:
        """``t`` times ``k`` per channel of the norm; in t's memory if that is the caller's ``own``."""
        return torch.mul(t, per_channel(k, t.dim()), out=spare(t) if own else None)

    def pulls(self, c: Tensor) -> list[Tensor | None]:
        """As of any op, through layer and norm one by one: merged weights would be a copy."""
        i, own = self.live.index(True), (self.row.bias, self.layer.row.bias)
        if any(wanted for j, wanted in enumerate(self.wanted) if j != i and j not in own):
            return super().pulls(c)
        made: list[Tensor | None] = [None] * len(self.edges)
        if self.row.bias is not None and self.wanted[self.row.bias]:
            made[self.row.bias] = self.pull(c, self.row.bias)
        g = self.layer.pull(c if self.before else self.scaled(c, self.scale), i)
        made[i] = self.scaled(g, self.scale, own=True) if self.before else g
        return made

    def input(self, i: int) -> Tensor:
        if i == self.row.bias:
            return self.term
        if not self.live[i] and i in self.row.factors:
            return self.weights(self.layer.input(i), self.scale)
        return self.norm.input(0) if self.before and self.live[i] else self.layer.input(i)

    def weights(self, w: Tensor, k: Tensor) -> Tensor:
        """The layer's weights with the norm's channels times ``k``."""
        assert self.row.scaled is not None
        return self.row.scaled(self, w, k, self.before)

    def output(self, i: int = 0) -> Tensor:
        return (self.layer if self.before else self.norm).output(i)

    def masked_output(self) -> Tensor:
        return (self.layer if self.before else self.norm).masked_output()

    def sent(self, met: Op, entries: Entries) -> Entries:
        made = list(entries)
        own, added = self.layer.row.bias, made[-1]
        for i, entry in enumerate(made[:-1]):
            if isinstance(entry, Tensor) and i in self.row.factors and not self.live[i]:
                made[i] = self.weights(entry, self.scale)
        if own is not None and isinstance(added, Tensor):
            made[own] = added if self.before else added * self.scale
        met.past = self.receivers
        return made


def _other(op: Op, i: int) -> int:
    return next(f for f in op.row.factors if f != i)


@lru_cache(maxsize=64)
def _merged_row(row: Row, bias: int) -> Row:
    """The row of a layer that has its added term as a last operand."""
    return replace(
        row,
        bias=bias,
        optional=(*row.optional, bias),
        operands=(*row.operands, "added term"),
        shift=_term,
        forward=_forward,
        pull=_pull,
    )


def _term(op: Op) -> Tensor:
    return cast(Merged, op).term


def _forward(op: Op, *operands: Tensor | None) -> Any:
    layer = cast(Merged, op).layer
    z = layer.forward(*(None if i == layer.row.bias else x for i, x in enumerate(operands[:-1])))
    return z if operands[-1] is None else z + operands[-1]


def _pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    if i == op.row.bias:
        return c.sum((0, *range(2, c.dim())))
    layer = cast(Merged, op).layer
    assert layer.row.pull is not None
    return layer.row.pull(layer, c, i, at)


def merged(op: Op) -> Merged | None:
    """The merged layer that ``op`` is the last op of, if it is one."""
    if isinstance(op, Whole):
        return None
    if op.row.channelwise is not None:
        layer = _layer_behind(op)
        return None if layer is None else Merged(layer, op, before=False)
    if not _is_layer(op):
        return None
    edge = op.sweep.graph.edges[op.node][op.row.factors[0]]
    norm = None if edge[0] is None or edge in op.sweep.targets else op.sweep.op(edge[0])
    if norm is None or norm.row.channelwise is None or not _alone(norm) or _layer_behind(norm) is not None:
        return None
    return Merged(op, norm, before=True)


def _layer_behind(norm: Op) -> Op | None:
    """The layer whose output ``norm`` reads."""
    edge = norm.sweep.graph.edges[norm.node][0]
    if edge[0] is None or edge in norm.sweep.targets or not _alone(norm):
        return None
    layer = norm.sweep.op(edge[0])
    return layer if layer is not None and _is_layer(layer) else None


def _is_layer(op: Op) -> bool:
    """Whether the weights are the second factor and constant, and nothing else is live."""
    return op.row.scaled is not None and op.live[op.row.factors[0]] and sum(op.live) == 1


def _alone(norm: Op) -> bool:
    """Whether only the normalised tensor is live, so that scale and shift are constants."""
    live = norm.sweep.live.operands(norm.sweep.graph.edges[norm.node])
    return live[0] and not any(live[1:])
