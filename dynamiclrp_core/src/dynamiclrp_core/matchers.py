"""Which operation is this, really? Matchers see the graph around a node, never a model's name.

LRP on operations depends on how the author spelled the maths: RMSNorm is one node fused and five by
hand. All matchers rest on one walk, ``peel``: from the operands of a product, take back the latest
operation again and again until a single tensor is left; if only allowed operations were taken back,
both operands are functions of that tensor (its nearest common dominator) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from .node import Address, Edge

if TYPE_CHECKING:
    from .op import Op
    from .rule import Row

# Longest region looked at. Real gates and statistics are below 20 nodes; the bound keeps the cost of
# the whole sweep linear when everything in a long scan is elementwise.
REGION = 64

Tensor_ = tuple[Node, int]


@dataclass(frozen=True, slots=True)
class Region:
    """``nodes`` (latest first) between tensor ``x`` and a product: the product is a function of x."""

    x: Address
    nodes: tuple[Node, ...]


def peel(op: Op, allowed: Callable[[Row], bool]) -> Region | None:
    """The nearest tensor of which all live operands of ``op`` are functions through ``allowed`` ops."""
    sweep = op.sweep
    position, targets = sweep.graph.position, sweep.targets
    frontier = {cast(Tensor_, e) for e, live in zip(op.edges, op.live) if live}
    taken: list[Node] = []
    while len(frontier) > 1:
        node = max(frontier, key=lambda t: position[t[0]])[0]
        below = sweep.op(node)
        if below is None or not allowed(below.row) or len(taken) == REGION:
            return None
        outputs = {t for t in frontier if t[0] is node}
        if not targets.isdisjoint(outputs) or not any(below.live):
            return None  # relevance must be read here, so it may not be passed by
        taken.append(node)
        frontier -= outputs
        frontier |= {cast(Tensor_, e) for e, live in zip(below.edges, below.live) if live}
    return Region(Address(*frontier.pop()), tuple(taken))


def bilinear(op: Op) -> bool:
    """More than one of the multiplied operands is live: relevance must be shared."""
    return op.live_factors > 1


# -- softmax by hand --------------------------------------------------------------------------------


def softmax_by_hand(op: Op) -> bool:
    """``exp(u) / sum(exp(u))``: a quotient of an exp and a sum of an exp of the same u.

    Exp, Sum and Div then all take their plain gradient, which is the AttnLRP softmax rule. The
    subtracted maximum needs nothing: its gradient sums to 0.
    """
    if not (op.live[0] and op.live[1]):
        return False
    above, below = _through_moves(op, op.edges[0]), _through_moves(op, op.edges[1])
    if above is None or below is None or not below.row.node.startswith("SumBackward"):
        return False
    summed = _through_moves(below, below.edges[0])
    if summed is None or "ExpBackward0" not in (above.row.node,) or summed.row.node != above.row.node:
        return False
    if summed.node is not above.node and summed.edges[0] != above.edges[0]:
        return False
    _take_gradient(above, below, summed)
    return True


def logsumexp_by_hand(op: Op) -> bool:
    """``log(sum(exp(u)))``: Log, Sum and Exp take their plain gradient, as the fused node does."""
    below = _through_moves(op, op.edges[0]) if op.live[0] else None
    if below is None or not below.row.node.startswith("SumBackward"):
        return False
    summed = _through_moves(below, below.edges[0])
    if summed is None or summed.row.node != "ExpBackward0":
        return False
    _take_gradient(below, summed)
    return True


def _take_gradient(*ops: Op) -> None:
    from .defaults import Gradient

    for op in ops:
        op.sweep.assign(op.node, Gradient())


def _through_moves(op: Op, edge: Edge) -> Op | None:
    """The op that makes ``edge``, seen through moves and casts."""
    sweep = op.sweep
    while edge[0] is not None:
        made_by = sweep.op(edge[0])
        if made_by is None or len(made_by.edges) != 1:
            return made_by
        if made_by.row.family != "moving" and not is_cast(made_by.row):
            return made_by
        edge = made_by.edges[0]
    return None


# -- gate -------------------------------------------------------------------------------------------


def is_cast(row: Row) -> bool:
    """Copies and dtype casts: f(x) = x."""
    return row.copies


def _scalar(row: Row) -> bool:
    return row.family in ("elementwise", "adding", "product", "quotient", "moving")


def gate(op: Op) -> int | Region | None:
    """A product that is, entry by entry, a scalar function of one tensor x (SiLU, GELU by hand).

    Returns the operand to send everything to, when it is x through ops that keep 0 at 0: holding the
    other constant then gives ``c * f(x)/x`` exactly. Otherwise the region, for the secant rule.
    None if several tensors are involved, if anything mixes entries, or if paths from x arrive with
    different index maps (``x[:d] * sigmoid(x[d:])``, ``x * x.flip(-1)`` are true products).
    """
    if not (op.live[0] and op.live[1]):
        return None
    region = peel(op, _scalar)
    if region is None or not _same_index_map(op, region):
        return None
    for i in (0, 1) if op.row.family == "product" else (0,):
        if _keeps_zero(op, op.edges[i], region.x):
            return i
    return region


def _keeps_zero(op: Op, edge: Edge, x: Address) -> bool:
    """Whether ``edge`` is h(x) along a single chain with h(0) = 0."""
    while edge != x:
        step = op.sweep.op(cast(Node, edge[0]))
        if step is None or sum(step.live) != 1:
            return False
        row = step.row
        if row.family == "elementwise" and step.offset != 0:
            return False
        if row.family == "adding" or (row.family == "quotient" and not step.live[0]):
            return False
        edge = step.edges[step.live.index(True)]
    return True


def _same_index_map(op: Op, region: Region) -> bool:
    """Push an arange through the moves: do all paths bring entry k of x to the same place?"""
    sweep = op.sweep
    ops = [cast("Op", sweep.op(n)) for n in region.nodes]
    if not any(o.row.family == "moving" for o in ops):
        return True
    meta = region.x.node._input_metadata[region.x.output]
    start = torch.arange(torch.Size(meta.shape).numel()).view(tuple(meta.shape))
    maps: dict[Edge, Tensor] = {region.x: start}
    for o in [*reversed(ops), op]:
        arriving = [maps[e] for e, live in zip(o.edges, o.live) if live]
        if o.row.family == "moving":
            if len(arriving) != 1 or o.row.shift is not None:
                return False
            made = o.forward(arriving[0])
            for nr, part in enumerate(made if isinstance(made, tuple) else (made,)):
                maps[o.node, nr] = part
            continue
        shape = o.shape
        wide = [m.expand(shape) for m in arriving]
        if not all(torch.equal(wide[0], m) for m in wide[1:]):
            return False
        maps[o.node, 0] = wide[0]
    return True


# -- statistic --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Facts:
    """Of a tensor in a region, as a function of x: degree, all paths reduce, linear, of all of x."""

    degree: float | None
    reduced: bool
    linear: bool
    whole: bool


def _homogeneous(row: Row) -> bool:
    return row.degree is not None or row.family in (
        "adding",
        "product",
        "quotient",
        "moving",
        "linear",
    )


def statistic(op: Op) -> int | None:
    """``x * s(x)`` or ``x / s(x)`` with s a reduced scale of x: s is held constant.

    RMSNorm, LayerNorm, L2 norm and their like by hand. ``s`` passes a reduction on every path from x
    and is homogeneous of degree -1 in x as a factor, +1 as a divisor (added constants ignored); the
    other operand is x through moves, casts, scaling or centring. Returns that operand's number.
    """
    if not (op.live[0] and op.live[1]):
        return None
    region = peel(op, _homogeneous)
    if region is None or not region.nodes:
        return None
    facts: dict[Edge, _Facts] = {region.x: _Facts(1.0, False, True, True)}
    for node in reversed(region.nodes):
        below = cast("Op", op.sweep.op(node))
        made = _facts(below, [facts[e] for e, live in zip(below.edges, below.live) if live])
        for nr in range(len(node._input_metadata)):
            facts[node, nr] = made
    ends = [facts[e] for e in op.edges]
    wanted = -1.0 if op.row.family == "product" else 1.0
    for signal in (0, 1) if op.row.family == "product" else (0,):
        s, x = ends[1 - signal], ends[signal]
        if s.reduced and s.whole and s.degree == wanted and x.linear and not x.reduced:
            return signal
    return None


def _facts(op: Op, below: list[_Facts]) -> _Facts:
    row = op.row
    degrees = [f.degree for f in below]
    known = [d for d in degrees if d is not None]
    degree: float | None = None
    if len(known) == len(degrees):
        if row.degree is not None:
            own = row.degree(op) if callable(row.degree) else row.degree
            degree = None if own is None else own * known[0]
        elif row.family == "product":
            degree = sum(known)
        elif row.family == "quotient":
            degree = (known[0] if op.live[0] else 0.0) - (known[-1] if op.live[1] else 0.0)
        elif len(set(known)) == 1:
            degree = known[0]
    # A slice of x on the way to the statistic: it would be a statistic of other entries.
    drops = row.family == "moving" and not row.reduces and op.shape.numel() < op.operand_shape(0).numel()
    scales = sum(op.live) == 1 and (row.family == "product" or (row.family == "quotient" and op.live[0]))
    return _Facts(
        degree=degree,
        reduced=row.reduces or all(f.reduced for f in below),
        linear=all(f.linear for f in below)
        and (
            scales
            or is_cast(row)
            or row.family in ("moving", "linear")
            or (row.family == "adding" and all(op.live))
        ),
        whole=all(f.whole for f in below) and not drops,
    )
