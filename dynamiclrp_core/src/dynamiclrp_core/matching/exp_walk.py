"""Walks from a result down to exps and their logits: ``softmax_by_hand.py`` asks where two of them meet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..node import Edge
from .regions import REGION, Chain, chain, entries_of, is_move, is_scaling, moved

if TYPE_CHECKING:
    from ..op import Op

LOGSUMEXP = "LogsumexpBackward0"
FLOORS = ("ClampBackward1", "ClampMinBackward0")


class Factor(NamedTuple):
    """A tensor T stands in the result as ``T ** sign``, or with a base as ``base ** (sign T)``."""

    sign: float
    base: float | None = None


class Walk:
    """Down from ``edge`` through moves, copies, constant factors, inverses, exps and logs, selections.

    ``sums``: also through sums, and constants and floors on them. ``factors[k]`` says what ``tensors[k]`` is
    in the result; ``ops[k]`` makes it from ``tensors[k + 1]``; ``end`` made the last one. ``top``: number of
    the first sum. ``shifts``: ops in log space that subtract or add a maximum, and its operand number.
    """

    def __init__(self, op: Op, edge: Edge, factor: Factor, *, sums: bool = False) -> None:
        self.sums = sums
        self.tensors, self.factors = [edge], [factor]
        self.ops: list[Op] = []
        self.top: int | None = None
        self.shifts: dict[int, int] = {}
        self.end: Op | None = None
        targets = op.sweep.live.targets
        while edge[0] is not None and edge not in targets:
            self.end = below = op.sweep.op(edge[0])
            found = None if below is None or len(self.ops) == REGION else self._below(below)
            if below is None or found is None or True not in below.live:  # none is, on the way to a read-out
                return
            at = len(self.ops)
            x = below.takes.index(True) if at not in self.shifts else 1 - self.shifts[at]
            edge = below.edges[x]
            self.ops.append(below)
            self.tensors.append(edge)
            self.factors.append(found)
        self.end = None

    @property
    def exp(self) -> int | None:
        """Number of the tensor that the first exp or logsumexp makes."""
        return next((k for k, o in enumerate(self.ops) if is_exp(o) or o.row.node == LOGSUMEXP), None)

    @property
    def divides(self) -> bool:
        """Whether the result is divided by a sum."""
        return self.top is not None and self.factors[self.top].sign == -1

    def moved(self, start: Tensor, below: int, above: int = 0) -> Tensor | None:
        """Numbered entries of ``tensors[below]`` as they stand in ``tensors[above]``."""
        return moved(start, Chain(self.tensors, self.ops, self.end), below, above)

    def _below(self, op: Op) -> Factor | None:
        """What the operand of ``op`` is in the result, if the walk goes on there."""
        sign, base = self.factors[-1]
        return self._in_line(op, sign) if base is None else self._in_log(op, sign, base)

    def _in_line(self, op: Op, sign: float) -> Factor | None:
        if is_exp(op):
            return Factor(sign, base_of(op))
        if inverts(op):
            return Factor(-sign)
        if is_plain(op) or selects(op):
            return Factor(sign)
        if not self.sums:
            return None
        if is_sum(op):
            self.top = len(self.ops) if self.top is None else self.top
            return Factor(sign)
        floors = self.top is None and op.row.node in FLOORS
        return Factor(sign) if floors or adds_constant(op) else None

    def _in_log(self, op: Op, sign: float, base: float) -> Factor | None:
        row = op.row
        if is_move(op):
            return Factor(sign, base)
        if row.node == "NegBackward0":
            return Factor(-sign, base)
        if row.node == "LogBackward0" and base == math.e:
            return Factor(sign)
        if row.node == LOGSUMEXP and base == math.e and self.sums and self.top is None:
            self.top = len(self.ops)
            return Factor(sign, base)
        if row.family != "adding" or row.weights is None:
            return None
        # A constant in log space is a constant factor; a maximum must cancel.
        x = op.takes.index(True) if adds_constant(op) else None
        largest = maximum(op)
        if x is None and largest is not None:
            x = 1 - largest
            self.shifts[len(self.ops)] = largest
        return None if x is None else Factor(sign * row.weights(op)[x], base)


# -- parts ------------------------------------------------------------------------------------------


def is_exp(op: Op) -> bool:
    """A base to a power, entry by entry."""
    return op.row.node in ("ExpBackward0", "Exp2Backward0", "PowBackward2")


def base_of(op: Op) -> float:
    if op.row.node != "PowBackward2":
        return math.e if op.row.node == "ExpBackward0" else 2.0
    base = op.saved.self
    return float(base) if not isinstance(base, Tensor) or base.numel() == 1 else math.nan


def is_plain(op: Op) -> bool:
    """One tensor, moved, copied or times constants; constants may come in beside it."""
    moves = op.row.family == "moving" and not op.row.selects and sum(op.takes) == 1
    return moves or op.row.copies or is_scaling(op)


def selects(op: Op) -> bool:
    """Picks entries by their value, and kept which (topk, sort)."""
    return op.row.selects and hasattr(type(op.node), "_saved_indices")


def adds_constant(op: Op) -> bool:
    return op.row.family == "adding" and sum(op.takes) == 1


def inverts(op: Op) -> bool:
    """constant / x."""
    if op.row.family == "quotient":
        return op.takes == (False, True)
    return op.row.family == "elementwise" and op.row.degree_of(op) == -1.0


def is_sum(op: Op) -> bool:
    """With or without constant weights: sum, mean, 1-norm, matrix product with a single column."""
    node = op.row.node
    if node.startswith(("SumBackward", "MeanBackward")):
        return True
    if node.startswith(("LinalgVectorNormBackward", "NormBackward")):
        return float(op.saved.ord if node.startswith("Linalg") else op.saved.p) == 1.0
    if sum(op.takes) != 1 or op.live_factors != 1 or not (op.row.columns or node == "MvBackward0"):
        return False
    shape = op.operand_shape(op.takes.index(True))
    return op.shape.numel() * shape[_multiplied(op)] == shape.numel()


def _multiplied(op: Op) -> int:
    """The dimension of the live factor of a matrix product that is summed over."""
    first = op.takes.index(True) == op.row.factors[0]
    return -1 if first or len(op.operand_shape(op.takes.index(True))) == 1 else -2


def spread(op: Op, groups: Tensor, shape: torch.Size) -> Tensor:
    """``groups`` of a sum's outputs, at each of its inputs."""
    dims = (_multiplied(op),) if op.row.family == "affine" else getattr(op.saved, "dim", ())
    dims = (dims,) if isinstance(dims, int) else dims or ()
    reduced = {d % len(shape) for d in dims} or set(range(len(shape)))
    kept = [1 if d in reduced else n for d, n in enumerate(shape)]
    return groups.reshape(kept).expand(shape)


# -- a maximum that is subtracted ---------------------------------------------------------------------


def maximum(op: Op) -> int | None:
    """Which term of a sum of two live ones is a maximum."""
    if op.row.family != "adding" or op.takes != (True, True):
        return None
    return next((term for term in (1, 0) if _largest(op, term) is not None), None)


def _largest(op: Op, term: int) -> Op | None:
    made = chain(op, op.edges[term], is_move).end
    return made if made is not None and made.row.selects and made.row.reduces else None


class Shift:
    """A maximum that op ``k`` of a walk adds in log space, ``sign`` times in the log of the result."""

    def __init__(self, walk: Walk, k: int) -> None:
        self.walk, self.k = walk, k
        self.op, self.term = walk.ops[k], walk.shifts[k]
        assert self.op.row.weights is not None
        self.sign = walk.factors[k].sign * self.op.row.weights(self.op)[self.term]

    def entries(self) -> Tensor | None:
        """Which entry of the maximum each entry of the sum takes."""
        path = chain(self.op, self.op.edges[self.term], is_move)
        index = moved(entries_of(path.tensors[-1]), path, len(path.ops))
        return None if index is None else index.expand(self.op.shape)

    def cancels(self, other: Shift) -> bool:
        """Whether the other subtracts the maximum that this one adds, maybe computed twice."""
        a, b = _largest(self.op, self.term), _largest(other.op, other.term)
        if a is None or b is None or a.row.node != b.row.node or self.sign != -other.sign:
            return False
        dims = [getattr(o.saved, "dim", None) for o in (a, b)]
        return a is b or (dims[0] == dims[1] and _is_same(a.edges[0], b.edges[0], a))


def _is_same(a: Edge, b: Edge, op: Op) -> bool:
    """Whether two tensors are one, seen through moves."""
    first, second = chain(op, a, is_move), chain(op, b, is_move)
    source = next((t for t in first.tensors if t in second.tensors), None)
    if source is None:
        return False
    maps = [moved(entries_of(source), path, path.tensors.index(source)) for path in (first, second)]
    return maps[0] is not None and maps[1] is not None and torch.equal(maps[0], maps[1])
