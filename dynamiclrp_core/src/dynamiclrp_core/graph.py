"""A snapshot of the autograd graph: one iterative walk, then one linear pass for what is live."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from torch.autograd.graph import Node

from .mark import MARK
from .node import Address, Edge


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's cyclic collector would rescan every new wrapper again and again: 4x the walk's time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Graph:
    """All nodes that ``roots`` reach, in topological order.

    ``order``: nodes, inputs first. ``edges[node]``: the node's edges, one per operand.
    ``position[node]``: index in ``order``.
    """

    __slots__ = ("_position", "edges", "inner", "order", "roots")

    def __init__(self, roots: Iterable[Address]) -> None:
        self.roots = tuple(roots)
        self.edges: dict[Node, tuple[Edge, ...]] = {}
        self.inner: list[Node] = []
        leaves: list[Node] = []
        self._position: dict[Node, int] | None = None
        with collector_paused():
            self._walk(leaves)
        self.order = leaves + self.inner

    def _walk(self, leaves: list[Node]) -> None:
        # Depth first with an explicit stack. None on top of a node: all below it is done, and it takes
        # its place in the order.
        edges, inner = self.edges, self.inner
        stack: list[Node | None] = [root.node for root in self.roots]
        push, pop = stack.append, stack.pop
        while stack:
            node = pop()
            if node is None:
                inner.append(cast(Node, pop()))
            elif node not in edges:
                edges[node] = below = node.next_functions
                if not below:
                    leaves.append(node)
                    continue
                push(node)
                push(None)
                for child, _ in below:
                    if child is not None and child not in edges:
                        push(child)

    @property
    def position(self) -> dict[Node, int]:
        """Index of each node in ``order``; made when first asked for."""
        if self._position is None:
            self._position = {node: i for i, node in enumerate(self.order)}
        return self._position

    def depth(self) -> int:
        """Nodes on the longest path. One pass over the graph."""
        depths: dict[Node | None, int] = {None: 0}
        for node in self.order:
            depths[node] = 1 + max([depths[child] for child, _ in self.edges[node]], default=0)
        return max(depths.values())

    def reaches(self, target: Address) -> bool:
        """Whether a root depends on ``target``, which may be one of several outputs of its node."""
        if target.node not in self.edges:
            return False
        if len(target.node._input_metadata) == 1 or target in self.roots:
            return True
        return any(target in edges for edges in self.edges.values())

    def reaching(self, targets: Collection[Address], separate: Callable[[Node], bool]) -> Reach:
        """What depends on ``targets``: the tensors whose relevance must be computed to get there.

        ``separate``: whether each output of a node depends on operands of its own (``Row.separate``).
        """
        return Reach(self, targets, separate)

    def path(self, node: Node) -> list[Node]:
        """A path from an output down to ``node``, for error messages."""
        parents: dict[Node, Node | None] = {root.node: None for root in self.roots}
        for parent in reversed(self.order):
            if parent in parents:
                for child, _ in self.edges[parent]:
                    if child is not None:
                        parents.setdefault(child, parent)
        trail: list[Node] = []
        at: Node | None = node
        while at is not None:
            trail.append(at)
            at = parents.get(at)
        return trail[::-1]


class Reach:
    """The set of tensors from which ``targets`` can be reached, as a membership test on edges.

    Nodes are live as a whole (``nodes``), except two kinds with several outputs, of which only some are
    live (``outputs``): one of which only those are targets and none of whose operands is live, and one
    that passes lists through, tensor by tensor (``separate``).
    """

    __slots__ = ("nodes", "outputs", "targets")

    def __init__(self, graph: Graph, targets: Collection[Address], separate: Callable[[Node], bool]) -> None:
        self.targets = frozenset((a.node, a.output) for a in targets)
        self.outputs = outputs = set(self.targets)
        nodes: set[Node] = {a.node for a in targets if len(a.node._input_metadata) == 1}
        partial = len(nodes) < len({a.node for a in targets})
        edges = graph.edges
        for node in graph.inner:
            if type(node) is MARK:
                continue  # constant for relevance
            below = edges[node]
            if len(below) > 1 and separate(node):
                count, partial = len(node._input_metadata), True
                for i, edge in enumerate(below):
                    if edge[0] in nodes or edge in outputs:
                        outputs.add((node, i % count))
                continue
            for child, nr in below:
                if child in nodes or (partial and (child, nr) in outputs):
                    nodes.add(node)
                    break
        self.nodes = nodes

    def __contains__(self, edge: object) -> bool:
        return edge[0] in self.nodes or edge in self.outputs  # type: ignore[index]

    def operands(self, edges: tuple[Edge, ...]) -> tuple[bool, ...]:
        """For each operand, whether it is live."""
        nodes, outputs = self.nodes, self.outputs
        if len(edges) == 1:
            return (edges[0][0] in nodes or edges[0] in outputs,)
        return tuple([edge[0] in nodes or edge in outputs for edge in edges])
