"""Which operation is this, really? Matchers see the graph around a node, never a model's name.

LRP on operations depends on how the author spelled the maths: RMSNorm is one node fused and five by
hand. The walks stand in ``regions.py``, softmax by hand in ``softmax_by_hand.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch.autograd.graph import Node

from ..node import Address, Edge
from .regions import WIDTH, Peel, Region, chain, is_move, is_scaling, peel, same_index_map, shape_of
from .softmax_by_hand import logsumexp_by_hand, softmax_by_hand

if TYPE_CHECKING:
    from ..op import Op
    from ..rule import Row

__all__ = [
    "Region", "bilinear", "composed", "divided", "gate", "logsumexp_by_hand", "softmax_by_hand", "statistic",
]  # fmt: skip


def bilinear(op: Op) -> bool:
    """More than one of the multiplied operands is live: relevance must be shared."""
    return op.live_factors > 1


# -- scalar functions -------------------------------------------------------------------------------


def _scalar(row: Row) -> bool:
    if row.selects:
        return False
    return row.family in ("elementwise", "entrywise", "adding", "product", "quotient", "moving")


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
    if region is None or not same_index_map(op, region):
        return None
    region = _lowered(op, region) or region
    for i in (0, 1) if op.row.family == "product" else (0,):
        if _keeps_zero(op, op.edges[i], region.x):
            return i
    return region


def composed(op: Op) -> Region | None:
    """f(h(x)) with h(0) not 0, as ``1 / (1 + exp(-x))`` or ``log(1 + exp(x))``: one function of x.

    Each op's slope starts at its own 0. Slopes multiply to the slope of the whole as long as the inner
    functions keep 0 at 0, so only a function *of a function that does not* needs to be looked at as
    one. x is the operand of the lowest such function. An added constant alone is none: it is a bias,
    which absorbs its share.
    """
    if sum(op.live) != 1 or is_scaling(op):
        return None
    node, nr = op.edges[op.live.index(True)]
    below = None if node is None else op.sweep.op(node)
    if node is None or below is None or not _scalar(below.row):
        return None
    return _lowered(op, Region(Address(node, nr), ()))


def _lowered(op: Op, region: Region) -> Region | None:
    """The region extended down to the operand of the lowest function with f(0) not 0, if there is one."""
    walk = Peel(op, _scalar, region)
    found, lifted = None, False
    while len(walk.frontier) <= WIDTH:
        below = walk.step()
        if below is None:
            break
        lifted = lifted or _lifts(below)
        if lifted and len(walk.frontier) == 1:
            found, lifted = walk.region, False
    if found is None or not same_index_map(op, found):
        return None
    # Entry by entry: a function that repeats entries (time steps times rates, exponentiated) has no
    # fused spelling to agree with, and would be replayed at the size of what it is repeated to.
    return found if op.shape.numel() <= shape_of(found.x).numel() else None


def _lifts(op: Op) -> bool:
    """Whether 0 does not stay 0, by the function itself and not by an added constant."""
    if op.row.family == "elementwise":
        return op.offset != 0
    return op.row.family == "quotient" and not op.live[0]


def _keeps_zero(op: Op, edge: Edge, x: Address) -> bool:
    """Whether ``edge`` is h(x) along a single chain with h(0) = 0."""
    while edge != x:
        step = op.sweep.op(cast(Node, edge[0]))
        if step is None or sum(step.live) != 1:
            return False
        row = step.row
        if row.family == "elementwise" and step.offset != 0:
            return False
        if row.family in ("adding", "entrywise") or (row.family == "quotient" and not step.live[0]):
            return False
        edge = step.edges[step.live.index(True)]
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
        arriving = [facts[e] for e, live in zip(below.edges, below.live) if live]
        for nr in range(len(node._input_metadata)):
            facts[node, nr] = _facts(below, arriving, nr)
    ends = [facts[e] for e in op.edges]
    wanted = -1.0 if op.row.family == "product" else 1.0
    for signal in (0, 1) if op.row.family == "product" else (0,):
        s, x = ends[1 - signal], ends[signal]
        if s.reduced and s.whole and s.degree == wanted and x.linear and not x.reduced:
            return signal
    return None


def _facts(op: Op, below: list[_Facts], nr: int) -> _Facts:
    row = op.row
    degrees = [f.degree for f in below]
    known = [d for d in degrees if d is not None]
    degree: float | None = None
    if len(known) == len(degrees):
        if row.degree is not None:
            own = row.degree_of(op, nr)
            if own is not None and len(set(known)) == 1:
                degree = own * known[0]
        elif row.family == "product":
            degree = sum(known)
        elif row.family == "quotient":
            degree = (known[0] if op.live[0] else 0.0) - (known[-1] if op.live[1] else 0.0)
        elif len(set(known)) == 1:
            degree = known[0]
    # A slice of x on the way to the statistic: it would be a statistic of other entries.
    drops = row.family == "moving" and not row.reduces and op.shape.numel() < op.operand_shape(0).numel()
    return _Facts(
        degree=degree,
        reduced=row.reduces or all(f.reduced for f in below),
        linear=all(f.linear for f in below)
        and (
            is_scaling(op)
            or row.copies
            or row.family in ("moving", "linear")
            or nr in row.straight
            or (row.family == "adding" and all(op.live))
        ),
        whole=all(f.whole for f in below) and not drops,
    )


# -- divisors ---------------------------------------------------------------------------------------


def divided(op: Op) -> int | None:
    """``a * g`` with g a reciprocal, ``1 / s`` or ``s ** -p``, of anything: the quotient ``a / s``.

    Returns a's number. None if both are reciprocals (then it is 1 over a product), or if g is a scalar
    function with a finite value at 0, as ``1 / (1 + exp(-s))`` is (a gate: a true product).
    """
    if not (op.live[0] and op.live[1]):
        return None
    below = [_is_reciprocal(op, edge) for edge in op.edges]
    return below.index(False) if sum(below) == 1 else None


def _is_reciprocal(op: Op, edge: Edge) -> bool:
    step = chain(op, edge, lambda o: is_move(o) or is_scaling(o)).end
    if step is None:
        return False
    if step.row.family == "quotient":
        inverts = step.live == (False, True)
    else:
        degree = step.row.degree_of(step)
        inverts = step.row.family == "elementwise" and degree is not None and degree < 0
    if not inverts:
        return False
    return composed(step) is None
