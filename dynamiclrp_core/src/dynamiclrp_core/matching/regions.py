"""Walks that matchers rest on: what lies between a node and a tensor, and which entry comes from where.

``peel`` takes back, from the operands of a node, the latest operation again and again until a single
tensor is left; if only allowed operations were taken back, the node is a function of that tensor (its
nearest common dominator) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from ..node import Address, Edge, metadata

if TYPE_CHECKING:
    from ..engine import Sweep
    from ..op import Op
    from ..rule import Row
    from ..table import Kind

# Longest region looked at. Real gates and statistics are below 20 nodes; the bound keeps the cost of
# the whole sweep linear when everything in a long scan is elementwise.
REGION = 64
# A scalar function by hand never has more than a few branches open at once; an elementwise recurrence
# that reads a new input at each step opens one per step.
WIDTH = 4

Tensor_ = tuple[Node, int]


@dataclass(frozen=True, slots=True)
class Region:
    """``nodes`` (latest first) between tensor ``x`` and a node: its output is a function of x."""

    x: Address
    nodes: tuple[Node, ...]


class Peel:
    """A walk under way: the open ends (``frontier``) and what was taken back so far, latest first."""

    def __init__(self, op: Op, allowed: Callable[[Row], bool], start: Region | None = None) -> None:
        self.sweep = op.sweep
        self.allowed = allowed
        self.taken: list[Node] = [] if start is None else list(start.nodes)
        ends = [e for e, live in zip(op.edges, op.live) if live] if start is None else [start.x]
        self.frontier = {cast(Tensor_, e) for e in ends}

    def step(self) -> Op | None:
        """Take back the latest operation. None if it may not be: not allowed, or a named input."""
        sweep, frontier = self.sweep, self.frontier
        if len(frontier) == 1:
            ((node, _),) = outputs = frontier
        else:
            position = sweep.graph.position
            node = max(frontier, key=lambda t: position[t[0]])[0]
            outputs = {t for t in frontier if t[0] is node}
        below = sweep.op(node)
        if below is None or not self.allowed(below.row) or len(self.taken) == REGION:
            return None
        if True not in below.live or not sweep.live.targets.isdisjoint(outputs):
            return None  # an input: what it is explained as may not be passed by
        self.taken.append(node)
        self.frontier = frontier - outputs
        self.frontier.update([cast(Tensor_, e) for e, live in zip(below.edges, below.live) if live])
        return below

    @property
    def region(self) -> Region | None:
        """What was taken back, if a single tensor is left."""
        if len(self.frontier) > 1:
            return None
        return Region(Address(*next(iter(self.frontier))), tuple(self.taken))


def peel(op: Op, allowed: Callable[[Row], bool]) -> Region | None:
    """The nearest tensor of which all live operands of ``op`` are functions through ``allowed`` ops."""
    # If there is one, what it comes from itself is the furthest for all of them. (The pass that finds
    # the furthest does not see through nodes that pass lists.)
    furthest = {_furthest(op.sweep, e, allowed) for e, live in zip(op.edges, op.live) if live}
    if len(furthest) > 1 and not any(node and op.sweep.rules.separate(node) for node, _ in furthest):
        return None
    walk = Peel(op, allowed)
    while len(walk.frontier) > 1:
        if walk.step() is None:
            return None
    return walk.region


def _furthest(sweep: Sweep, edge: Edge, allowed: Callable[[Row], bool]) -> Edge:
    """The furthest tensor of which ``edge`` is a function through ``allowed`` ops alone; maybe itself."""
    if edge in sweep.live.targets:
        return edge
    return sweep.once(_all_origins, allowed).get(edge[0], edge)


def _all_origins(sweep: Sweep, allowed: Callable[[Row], bool]) -> dict[Node | None, Edge]:
    """One pass, inputs first: a long scan would be peeled up to ``REGION`` at each of its products."""
    graph, targets = sweep.graph, sweep.live.targets
    nodes, outputs = sweep.live.nodes, sweep.live.outputs
    passed: dict[Kind, bool] = {}
    origins: dict[Node | None, Edge] = {}
    for node in graph.inner:
        known = sweep.kind(node) if node in nodes else None
        if known is None:
            continue
        if known not in passed:
            passed[known] = allowed(known.row)
        if not passed[known]:
            continue
        start: Edge | None = None
        for edge in graph.edges[node]:
            if edge[0] in nodes or edge in outputs:
                own = edge if edge in targets else origins.get(edge[0], edge)
                if start is not None and own != start:
                    break
                start = own
        else:
            if start is not None:
                origins[node] = start
    return origins


# -- single chains ----------------------------------------------------------------------------------


def is_move(op: Op) -> bool:
    """Whether ``op`` only moves or copies the entries of one tensor, into one."""
    row = op.row
    if len(op.edges) != 1 or row.selects or row.shift is not None or len(metadata(op.node)) > 1:
        return False
    return row.family == "moving" or row.copies


def is_scaling(op: Op) -> bool:
    """Whether ``op`` multiplies its one live operand by constants."""
    row = op.row
    if sum(op.live) != 1:
        return False
    return row.scales or row.family == "product" or (row.family == "quotient" and op.live[0])


class Chain(NamedTuple):
    """A walk down from a tensor: the ``tensors`` met, the ``ops`` between them, what ended it.

    ``ops[k]`` makes ``tensors[k]`` from ``tensors[k + 1]``. ``end``: the op that made the last tensor; None
    where that is a leaf, a named input or made by an op without a row.
    """

    tensors: list[Edge]
    ops: list[Op]
    end: Op | None


def chain(op: Op, edge: Edge, passed: Callable[[Op], bool]) -> Chain:
    """From ``edge`` down through ops that are ``passed``, at most ``REGION`` of them."""
    sweep = op.sweep
    tensors: list[Edge] = [edge]
    ops: list[Op] = []
    while edge[0] is not None and edge not in sweep.live.targets:
        below = sweep.op(edge[0])
        if below is None or len(ops) == REGION or not passed(below):
            return Chain(tensors, ops, below)
        ops.append(below)
        edge = next((e for e, live in zip(below.edges, below.live) if live), (None, 0))
        tensors.append(edge)
    return Chain(tensors, ops, None)


# -- index maps -------------------------------------------------------------------------------------


def shape_of(x: Edge) -> torch.Size:
    """Shape of the tensor x."""
    return torch.Size(metadata(cast(Node, x[0]))[x[1]].shape)


def entries_of(x: Edge) -> Tensor:
    """The entries of x, numbered."""
    shape = shape_of(x)
    device = metadata(cast(Node, x[0]))[x[1]].device
    return torch.arange(shape.numel(), device=device).view(shape)


class Numbered:
    """An op as its forward sees it on numbered entries: what is filled in is -1."""

    def __init__(self, op: Op) -> None:
        self._op = op

    def __getattr__(self, name: str) -> Any:
        return getattr(self._op, name)

    def constant(self, name: str) -> int:
        return -1


def moved(start: Tensor, path: Chain, below: int, above: int = 0) -> Tensor | None:
    """Numbered entries of ``path.tensors[below]`` as they stand in ``path.tensors[above]``, constants as -1.

    None if numbers cannot follow the moves.
    """
    index = start
    for k in reversed(range(above, below)):
        o = path.ops[k]
        shape = shape_of(path.tensors[k])
        if o.row.family == "moving":
            operands = [index if live else index.new_full(o.shape, -1) for live in o.live]
            try:
                made = cast(Callable[..., Any], o.row.forward)(Numbered(o), *operands)
            except RuntimeError:  # a constant operand of another shape
                return None
            index = made[path.tensors[k][1]] if isinstance(made, tuple) else made
            if index.shape != shape:
                return None
        else:
            index = index.expand(shape)
    return index


def _pairs(o: Op) -> bool:
    """Whether the move is between complex entries and the two reals of each, which numbers cannot follow."""
    return any(o.dtype.is_complex != metadata(n)[nr].dtype.is_complex for n, nr in o.edges if n is not None)


def same_index_map(op: Op, region: Region) -> bool:
    """Push an arange through the moves: do all paths bring entry k of x to the same place?"""
    sweep = op.sweep
    ops = [cast("Op", sweep.op(n)) for n in region.nodes]
    if not any(o.row.family == "moving" for o in ops):
        return True
    # Not integers: torch lacks kernels for them (unfold), and what padding fills in is no entry's number.
    maps: dict[Edge, Tensor] = {region.x: entries_of(region.x).double() + 0.5}
    for o in [*reversed(ops), op]:
        arriving = [maps[e] for e, live in zip(o.edges, o.live) if live]
        if o.row.family == "moving":
            constant = any(not live and i not in o.row.unused for i, live in enumerate(o.live))
            if (constant and not o.row.separate) or _pairs(o):
                return False  # constants come in by place
            made = o.forward(*[maps.get(e) for e in o.edges])
            for nr, part in enumerate(made if isinstance(made, tuple) else (made,)):
                if part is not None:
                    maps[o.node, nr] = part
            continue
        shape = o.shape
        wide = [m.expand(shape) for m in arriving]
        if not all(torch.equal(wide[0], m) for m in wide[1:]):
            return False
        maps[o.node, 0] = wide[0]
    return True
