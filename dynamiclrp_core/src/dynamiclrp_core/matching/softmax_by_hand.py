"""Softmax, log-softmax and logsumexp by hand: all their parts take their plain gradient.

That is the AttnLRP softmax rule, which the fused nodes take (arXiv 2402.05602, proposition 3.1). A
preset that stops at softmax names the case ``softmax_by_hand`` too.

Two walks go down from a quotient, one from each side, to where they meet: at exps, at their logits, or
at entries selected from a softmax. What each tensor on a walk is of the result, its ``Factor``, must
be the inverse of what it is on the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .exp_walk import (
    LOGSUMEXP,
    Factor,
    Shift,
    Walk,
    adds_constant,
    base_of,
    is_exp,
    is_plain,
    is_sum,
    maximum,
    selects,
    spread,
)
from .regions import chain, entries_of, is_move, moved, shape_of

if TYPE_CHECKING:
    from ..op import Op

SOFTMAX = ("SoftmaxBackward0", "SafeSoftmaxBackward0", "MaskedSoftmaxBackward0")
"""Nodes whose output are weights. Of their family are logarithms too: log-softmax, logsumexp."""


def softmax_by_hand(op: Op) -> bool:
    """``exp(u) / sum(exp(u))``, ``exp(u) * (1 / sum(exp(u)))`` or ``exp(log_softmax(u))``.

    The two exps may be one or two of the same u; constants may multiply them (a mask of zeros) or be
    added to the sum (attention with a sink); each may stand in log space, ``exp(u) * exp(-logsumexp(u))``; in
    place of exps, entries selected from a softmax (routers that normalise the top k). Every entry must be
    divided by the sum of its own group.
    """
    if op.row.family == "elementwise":
        log = _log_softmax(op)
        if log is None:
            return False
        if isinstance(log, _Softmax):
            log.take_gradient()
            _take_plain(log.op)
        return True
    found = _quotient(op)
    if found is None:
        return False
    found.take_gradient()
    return True


def logsumexp_by_hand(op: Op) -> bool:
    """``log(sum(exp(u)))`` or ``log(softmax(u))``: the parts take their plain gradient, as fused.

    Constants may multiply what is summed, or be added to the sum or to the weights (against log 0).
    """
    to_weights = chain(op, op.edges[0], lambda o: is_plain(o) or adds_constant(o))
    if to_weights.end is not None and _gives_weights(to_weights.end):
        _take_gradient(to_weights.end)  # a log-softmax: no weights, whatever a preset does with those
        _take_gradient(*to_weights.ops)
        return True
    below = Walk(op, op.edges[0], Factor(1), sums=True)
    if below.top is None or not any(map(is_exp, below.ops[below.top :])):
        return False
    _take_gradient(*below.ops)
    return True


def _quotient(op: Op) -> _Softmax | None:
    """The softmax that ``op`` makes of two live operands."""
    if not (op.takes[0] and op.takes[1]):
        return None
    divides = op.row.family == "quotient"
    for numerator in (0,) if divides else (0, 1):
        below = Walk(op, op.edges[1 - numerator], Factor(-1 if divides else 1), sums=True)
        if below.divides:
            return _meet(op, Walk(op, op.edges[numerator], Factor(1)), below)
    return None


def _log_softmax(op: Op) -> _Softmax | Op | None:
    """What an exp is taken of: a log-softmax, or ``u - logsumexp(u)`` in any spelling."""
    down = Walk(op, op.edges[0], Factor(1, base_of(op)))
    made, factor = down.end, down.factors[-1]
    if made is None or factor.base != math.e or down.shifts:
        return None
    if made.row.node == "LogSoftmaxBackward0" and factor.sign == 1:
        return made
    if made.row.family != "adding" or made.takes != (True, True) or made.row.weights is None:
        return None
    weights = [factor.sign * w for w in made.row.weights(made)]
    for u in (0, 1):
        below = Walk(made, made.edges[1 - u], Factor(weights[1 - u], math.e), sums=True)
        if below.divides:
            return _meet(made, Walk(made, made.edges[u], Factor(weights[u], math.e)), below)
    return None


# -- where two walks meet -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Softmax:
    """``above.tensors[i]`` is ``below.tensors[j]``: exps or their logits, under the sum that divides."""

    op: Op
    above: Walk
    below: Walk
    i: int
    j: int

    @property
    def top(self) -> int:
        assert self.below.top is not None
        return self.below.top

    def divisors(self) -> Tensor | None:
        """By which sum each entry of ``op`` is divided."""
        made = self.below.moved(entries_of(self.below.tensors[self.top]), self.top)
        return None if made is None else made.expand(self.op.shape)

    def sums(self) -> Tensor | None:
        """In which sum each entry of ``below.tensors[j]`` is a term, or -1."""
        below, place = self.below, entries_of(self.below.tensors[self.j]).reshape(-1)
        for k in reversed(range(self.top, self.j)):
            made, size = below.tensors[k], shape_of(below.tensors[k + 1])
            if self._reduces(k):
                goes = spread(below.ops[k], entries_of(made), size).reshape(-1)
            else:
                index = below.moved(entries_of(below.tensors[k + 1]), k + 1, k)
                if index is None:
                    return None
                index = index.reshape(-1)
                goes = index.new_full((size.numel(),), -1)
                goes[index[index >= 0]] = torch.arange(index.numel(), device=index.device)[index >= 0]
            place = torch.where(place < 0, -1, goes[place])
        return place

    def entries(self) -> Tensor | None:
        """Which entry of ``above.tensors[i]`` stands at each entry of ``op``."""
        made = self.above.moved(entries_of(self.above.tensors[self.i]), self.i)
        return None if made is None else made.expand(self.op.shape)

    def divides_terms(self) -> bool:
        """Whether every entry is a term of the sum that divides it."""
        between = [*self.above.ops[: self.i], *self.below.ops[: self.j]]
        sums = [self.below.ops[k] for k in range(self.j) if self._reduces(k)]
        kept = all(len(o.shape) == len(o.operand_shape(o.takes.index(True))) for o in sums)
        if kept and not any(o.row.family == "moving" for o in between):
            return True
        sums_of, divided_by, entry = self.sums(), self.divisors(), self.entries()
        if sums_of is None or divided_by is None or entry is None:
            return False
        return bool(((entry < 0) | (sums_of[entry] == divided_by)).all())

    def shifts_cancel(self) -> bool:
        """Whether every maximum that is subtracted from a logit is added to it again."""
        left: list[tuple[Shift, Tensor]] = []
        for walk, end in ((self.above, self.i), (self.below, self.j)):
            for shift in (Shift(walk, k) for k in walk.shifts if k < end):
                place = self._at_logits(shift)
                if place is None:
                    return False
                opposite = [
                    (other, at) for other, at in left if shift.cancels(other) and torch.equal(place, at)
                ]
                if opposite:
                    left.remove(opposite[0])
                else:
                    left.append((shift, place))
        return not left

    def _at_logits(self, shift: Shift) -> Tensor | None:
        """Which entry of the maximum is subtracted or added at each entry where the walks meet."""
        walk, k, index = shift.walk, shift.k, shift.entries()
        if walk is self.below and k > self.top:
            entry = walk.moved(entries_of(walk.tensors[self.j]), self.j, k)
        else:
            entry, index = self.entries(), None if index is None else walk.moved(index, k)
        if entry is None or index is None:
            return None
        place = index.new_full((shape_of(self.above.tensors[self.i]).numel(),), -1)
        place[entry.reshape(-1)] = index.expand(entry.shape).reshape(-1)
        return place

    def _reduces(self, k: int) -> bool:
        op = self.below.ops[k]
        return op.row.node == LOGSUMEXP or is_sum(op)

    def take_gradient(self) -> None:
        for walk, end in ((self.above, self.i), (self.below, self.j)):
            exp = walk.exp
            for op, factor in zip(walk.ops[: end if exp is None else max(end, exp + 1)], walk.factors):
                if factor.base is None:
                    _take_gradient(op)
                elif op.row.family == "adding":
                    _take_plain(op)
                elif not is_plain(op):
                    _take_gradient(op)


def _meet(op: Op, above: Walk, below: Walk) -> _Softmax | None:
    """The softmax that two walks from ``op`` are the sides of."""
    assert below.top is not None
    for i, tensor in enumerate(above.tensors):
        sign, base = above.factors[i]
        for j in range(below.top + 1, len(below.tensors)):
            if below.tensors[j] == tensor and below.factors[j] == (-sign, base):
                found = _Softmax(op, above, below, i, j)
                if not (found.shifts_cancel() and found.divides_terms()):
                    return None
                exp = None if above.exp is None else above.ops[above.exp]
                if base is not None or (exp is not None and not softmax_by_hand(exp)) or _are_weights(found):
                    return found
                return None
    return None


def _are_weights(found: _Softmax) -> bool:
    """Whether the entries are selected from a softmax, and each sum is of one group of it.

    Over their sum they are the softmax of fewer logits. (Summed over *other* dimensions, as slot attention
    does, they are not.)
    """
    below, group = found.below, found.sums()
    selected = chain(found.op, below.tensors[found.j], lambda o: is_plain(o) or selects(o))
    made = None if selected.end is None else _groups(selected.end)
    entry = moved(entries_of(selected.tensors[-1]), selected, len(selected.ops))
    if made is None or entry is None or group is None:
        return False
    there = (entry.reshape(-1) >= 0) & (group >= 0)
    softmaxes, sums = made.reshape(-1)[entry.reshape(-1)[there]], group[there]
    one_of = torch.zeros_like(entries_of(below.tensors[found.top])).reshape(-1)
    one_of[sums] = softmaxes
    return torch.equal(one_of[sums], softmaxes)


def _groups(op: Op) -> Tensor | None:
    """The number of the softmax that each entry of the output belongs to; None if ``op`` gives no weights."""
    if op.row.node in SOFTMAX:
        return _rows(op)
    if op.row.family in ("quotient", "product"):
        found = _quotient(op)
        return None if found is None else found.divisors()
    log = _log_softmax(op) if is_exp(op) else None
    if log is None:
        return None
    groups = log.divisors() if isinstance(log, _Softmax) else _rows(log)
    path = Walk(op, op.edges[0], Factor(1, math.e))
    return None if groups is None else path.moved(groups, len(path.ops))


def _rows(op: Op) -> Tensor:
    """The number of the group that each entry of a softmax belongs to."""
    shape = op.shape
    rows = torch.Size(1 if d == op.saved.dim % len(shape) else n for d, n in enumerate(shape))
    return torch.arange(rows.numel(), device=op.metadata[0].device).view(rows).expand(shape)


def _gives_weights(op: Op) -> bool:
    by_hand = op.row.family in ("quotient", "product") and softmax_by_hand(op)
    return by_hand or op.row.node in SOFTMAX


# -- rules ------------------------------------------------------------------------------------------


def _take_gradient(*ops: Op) -> None:
    """Those that a preset may treat otherwise; moves and constant factors have no other rule."""
    from ..rules.defaults import Gradient

    for op in ops:
        if not is_plain(op):
            op.sweep.assign(op.node, Gradient())
        if is_exp(op):
            # Subtracting the maximum changes nothing: no stabiliser may divide by the 0 it makes.
            shift = chain(op, op.edges[op.takes.index(True)], is_move).end
            if shift is not None and (adds_constant(shift) or maximum(shift) is not None):
                _take_plain(shift)


def _take_plain(op: Op) -> None:
    op.sweep.assign(op.node, op.row.cases[-1][1])
