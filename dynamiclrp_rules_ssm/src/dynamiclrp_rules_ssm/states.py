"""Of an outer product that is written into a state, which factor is the key? The one that is read away.

``S_t = a_t S_{t-1} + k_t (x) v_t, y_t = S_t q_t``: k and v look alike where they meet. The read contracts
S along the dimension that k brought in; v is what it leaves. So outer products wait in the group of the
sums they enter until a read of that group tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from dynamiclrp_core.engine import Sweep
from dynamiclrp_core.node import Edge, metadata
from dynamiclrp_core.op import Op
from torch.autograd.graph import Node

Pair = tuple[tuple[int, Edge], tuple[int, Edge]]
"""Two live factors: operand number and edge of each."""


@dataclass(eq=False)
class Group:
    """Sums over time that hang together. ``axes``: what reads contract, counted from the last (-1)."""

    outer: list[tuple[Node, Pair]] = field(default_factory=list)
    reads: list[tuple[Node, int]] = field(default_factory=list)
    axes: frozenset[int] = frozenset()
    recurrent: bool = False
    into: Group | None = None

    def root(self) -> Group:
        """The group this one was merged into."""
        at = self
        while at.into is not None:
            at = at.into
        return at

    def merge(self, other: Group) -> Group:
        """One group of both."""
        a, b = self.root(), other.root()
        if a is not b:
            if len(a.outer) + len(a.reads) < len(b.outer) + len(b.reads):
                a, b = b, a
            a.outer += b.outer
            a.reads += b.reads
            a.axes |= b.axes
            a.recurrent |= b.recurrent
            b.into = a
        return a

    def signals(self) -> dict[Node, int]:
        """The signal's operand number of every product that is settled by a read."""
        if not (self.recurrent and self.axes):
            return {}
        found = dict(self.reads)
        for node, ((i, x), (j, w)) in self.outer:
            x_is_key, w_is_key = (self._brings(node, k, e) for k, e in ((i, x), (j, w)))
            if x_is_key != w_is_key:
                found[node] = j if x_is_key else i
        return found

    def _brings(self, node: Node, operand: int, edge: Edge) -> bool:
        """Whether the factor at ``edge`` varies along a contracted dimension."""
        assert edge[0] is not None
        shape = list(metadata(edge[0])[edge[1]].shape)
        if node.name() == "BmmBackward0":  # columns times rows: (n, 1) @ (1, p)
            return (-2 if operand == 0 else -1) in self.axes
        return any(-axis <= len(shape) and shape[axis] > 1 for axis in self.axes)


def keeps_axes(node: Node, edge: Edge) -> bool:
    """Whether a move leaves the last two dimensions as they are."""
    assert edge[0] is not None
    before, after = metadata(edge[0])[edge[1]].shape, metadata(node)[0].shape
    return "View" in node.name() and len(before) > 1 and tuple(before[-2:]) == tuple(after[-2:])


def contracted_axes(sweep: Sweep, state: Edge, moves: list[Node], dims: tuple[int, ...]) -> frozenset[int]:
    """Which dimensions of ``state`` end up in ``dims`` of what ``moves`` make of it, first move first."""
    assert state[0] is not None
    shape = tuple(metadata(state[0])[state[1]].shape)
    found = []
    for axis in range(-len(shape), 0):
        size = shape[axis]
        # A view without memory of its own: its entries tell where they stand along the axis.
        at = torch.arange(size).view(-1, *[1] * (-axis - 1)).expand(shape)
        for move in moves:
            op = sweep.op(move)
            assert isinstance(op, Op)
            at = op.forward(at)
        if any(at.shape[d] > 1 and bool((at.select(d, 0) != at.select(d, -1)).any()) for d in dims):
            found.append(axis)
    return frozenset(found)
