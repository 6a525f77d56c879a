"""Softmax, log-softmax and logsumexp by hand: all their parts take their plain gradient.

That is the AttnLRP softmax rule, which the fused nodes take (arXiv 2402.05602, proposition 3.1). A
preset that stops at softmax names the case ``softmax_by_hand`` too.

Two walks go down from a quotient, one from each side, to where they meet: at exps, at their logits, or
at entries selected from a softmax. Moves, copies, casts and constant factors may stand anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .node import Edge
from .regions import Chain, chain, entries_of, is_move, is_scaling, moved, shape_of

if TYPE_CHECKING:
    from .op import Op

SOFTMAX = ("SoftmaxBackward0", "SafeSoftmaxBackward0", "MaskedSoftmaxBackward0")
"""Nodes whose output are weights. Of their family are logarithms too: log-softmax, logsumexp."""
LOGSUMEXP = "LogsumexpBackward0"


def softmax_by_hand(op: Op) -> bool:
    """``exp(u) / sum(exp(u))``, ``exp(u) * (1 / sum(exp(u)))`` or ``exp(log_softmax(u))``.

    The two exps may be one or two of the same u; constants may multiply them (a mask of zeros) or be
    added to the sum (attention with a sink); in place of exps, entries selected from a softmax (routers
    that normalise the top k). Every entry must be divided by the sum of its own group.
    """
    if op.row.family == "elementwise":
        return _exp_of_log(op)
    if not (op.live[0] and op.live[1]):
        return False
    return any(_divided(op, i) for i in ((0, 1) if op.row.family == "product" else (0,)))


def logsumexp_by_hand(op: Op) -> bool:
    """``log(sum(exp(u)))`` or ``log(softmax(u))``: the parts take their plain gradient, as fused.

    Constants may multiply what is summed, or be added to the sum or to the weights (against log 0).
    """
    to_weights = chain(op, op.edges[0], lambda o: _is_plain(o) or _adds_constant(o))
    if to_weights.end is not None and _gives_weights(to_weights.end):
        _take_gradient(to_weights.end)  # a log-softmax: no weights, whatever a preset does with those
        _take_gradient(*to_weights.ops)
        return True
    below = chain(op, op.edges[0], _Toward(sums=True))
    if not any(map(_is_sum, below.ops)) or not any(map(_is_exp, below.ops)):
        return False
    _take_gradient(*below.ops)
    return True


def _divided(op: Op, numerator: int) -> bool:
    toward = _Toward(sums=True, inverse=op.row.family == "product")
    below = chain(op, op.edges[1 - numerator], toward)
    if toward.inverse or not any(map(_is_sum, below.ops)):
        return False
    above = chain(op, op.edges[numerator], _Toward())
    if not _is_softmax(op, above, below):
        return False
    _take_gradient(*above.ops, *below.ops)
    return True


def _exp_of_log(op: Op) -> bool:
    """``exp(log_softmax(u))`` or ``exp(u - logsumexp(u))``."""
    below = chain(op, op.edges[0], is_move).end
    if below is None or below.row.node == "LogSoftmaxBackward0":
        return below is not None
    if not (below.row.node.startswith("SubBackward") and below.live == (True, True)):
        return False
    above = chain(below, below.edges[0], is_move)
    if not _is_softmax(below, above, chain(below, below.edges[1], _Toward(sums=True, log=True)), True):
        return False
    _take_plain(below)
    return True


# -- the walks --------------------------------------------------------------------------------------


class _Toward:
    """Which ops stand between a quotient and the logits of its exps.

    log      the walk starts in log space: down to a log or a logsumexp only moves
    inverse  an inverse must be passed first
    sums     sums and added constants are passed
    Below an exp only moves are.
    """

    def __init__(self, *, log: bool = False, inverse: bool = False, sums: bool = False) -> None:
        self.log, self.inverse, self.sums, self.logits = log, inverse, sums, False

    def __call__(self, op: Op) -> bool:
        if self.logits:
            return is_move(op)
        if self.log:
            self.log = op.row.node != "LogBackward0"
            self.logits = op.row.node == LOGSUMEXP
            return not self.log or self.logits or is_move(op)
        if self.inverse and _inverts(op):
            self.inverse = False
            return True
        if _is_exp(op) and not self.inverse:
            self.logits = True
            return True
        return _is_plain(op) or (self.sums and not self.inverse and (_adds_constant(op) or _is_sum(op)))


def _is_softmax(op: Op, above: Chain, below: Chain, logits: bool = False) -> bool:
    """Whether every entry from ``above`` is a term of the sum in ``below`` that divides it at ``op``.

    ``logits``: in log space, where the walk from above begins with logits.
    """
    top = next((k for k, o in enumerate(below.ops) if _reduces(o)), None)
    met = None if top is None else _meeting(above, below, top, logits)
    if top is None or met is None:
        return False
    i, j = met
    exps = logits or any(map(_is_exp, above.ops))
    if not exps and not _are_weights(op, above.tensors[i], below, top, j):
        return False
    plain = not any(o.row.family == "moving" for o in (*above.ops[:i], *below.ops[:j]))
    if plain and all(len(o.shape) == len(o.operand_shape(0)) for o in below.ops[:j] if _reduces(o)):
        return True
    group = _groups(below, top, j)
    divided_by = moved(entries_of(below.tensors[top]), below, top)
    entry = moved(entries_of(above.tensors[i]), above, i)
    if group is None or divided_by is None or entry is None:
        return False
    entry, divided_by = entry.expand(op.shape), divided_by.expand(op.shape)
    return bool(((entry < 0) | (group[entry] == divided_by)).all())


def _meeting(above: Chain, below: Chain, top: int, logits: bool) -> tuple[int, int] | None:
    """Which tensor of ``above`` is which of ``below``, under its sum; both exps or both logits."""
    first, second = 0 if logits else _first_logits(above), _first_logits(below)
    for i, tensor in enumerate(above.tensors):
        for j in range(top + 1, len(below.tensors)):
            if below.tensors[j] == tensor and (i >= first) == (j >= second):
                return i, j
    i, j = len(above.ops), len(below.ops)
    under = i >= first and j >= second
    return (i, j) if under and _same_shifted(above.end, below.end) else None


def _first_logits(path: Chain) -> int:
    """Number of the first tensor below an exp; behind the last if there is none."""
    exps = (k + 1 for k, o in enumerate(path.ops) if _is_exp(o) or o.row.node == LOGSUMEXP)
    return next(exps, len(path.tensors))


def _groups(below: Chain, top: int, j: int) -> Tensor | None:
    """The entry of ``below.tensors[top]`` in which each entry of ``below.tensors[j]`` is summed, or -1."""
    place = entries_of(below.tensors[j]).reshape(-1)
    for k in reversed(range(top, j)):
        if _reduces(below.ops[k]):
            spread = _spread(below.ops[k], entries_of(below.tensors[k]), shape_of(below.tensors[k + 1]))
            goes = spread.reshape(-1)
        else:
            index = moved(entries_of(below.tensors[k + 1]), below, k + 1, k)
            if index is None:
                return None
            index = index.reshape(-1)
            goes = index.new_full((shape_of(below.tensors[k + 1]).numel(),), -1)
            goes[index[index >= 0]] = torch.arange(index.numel(), device=index.device)[index >= 0]
        place = torch.where(place < 0, -1, goes[place])
    return place


def _spread(op: Op, groups: Tensor, shape: torch.Size) -> Tensor:
    """``groups`` of a reduction's outputs, at each of its inputs."""
    dims = getattr(op.saved, "dim", ())
    dims = (dims,) if isinstance(dims, int) else dims
    reduced = {d % len(shape) for d in dims} or set(range(len(shape)))
    kept = [1 if d in reduced else n for d, n in enumerate(shape)]
    return groups.reshape(kept).expand(shape)


def _are_weights(op: Op, tensor: Edge, below: Chain, top: int, j: int) -> bool:
    """Whether the entries of ``tensor`` are selected from a softmax, and each sum is of one group of it.

    Over their sum they are the softmax of fewer logits. (Summed over *other* dimensions, as slot attention
    does, they are not.)
    """
    selected = chain(op, tensor, lambda o: _is_plain(o) or _selects(o))
    if selected.end is None or selected.end.row.node not in SOFTMAX:
        return False
    weights = selected.tensors[-1]
    entry = moved(entries_of(weights), selected, len(selected.ops))
    group = _groups(below, top, j)
    if entry is None or group is None:
        return False
    shape = shape_of(weights)
    rows = torch.Size(1 if d == selected.end.saved.dim % len(shape) else n for d, n in enumerate(shape))
    of_softmax = torch.arange(rows.numel(), device=entry.device).view(rows).expand(shape).reshape(-1)
    there = (entry.reshape(-1) >= 0) & (group >= 0)
    softmaxes, sums = of_softmax[entry.reshape(-1)[there]], group[there]
    one_of = torch.zeros_like(entries_of(below.tensors[top])).reshape(-1)
    one_of[sums] = softmaxes
    return torch.equal(one_of[sums], softmaxes)


# -- parts ------------------------------------------------------------------------------------------


def _gives_weights(op: Op) -> bool:
    by_hand = op.row.family in ("quotient", "product") and softmax_by_hand(op)
    return by_hand or op.row.node in SOFTMAX


def _is_sum(op: Op) -> bool:
    return op.row.node.startswith(("SumBackward", "MeanBackward"))


def _reduces(op: Op) -> bool:
    return _is_sum(op) or op.row.node == LOGSUMEXP


def _is_exp(op: Op) -> bool:
    """A base to a power, entry by entry."""
    return op.row.node in ("ExpBackward0", "Exp2Backward0", "PowBackward2")


def _is_plain(op: Op) -> bool:
    """One tensor, moved, copied or times constants; constants may come in beside it."""
    moves = op.row.family == "moving" and not op.row.selects and sum(op.live) == 1
    return moves or op.row.copies or is_scaling(op)


def _selects(op: Op) -> bool:
    """Picks entries by their value, and kept which (topk, sort)."""
    return op.row.selects and hasattr(type(op.node), "_saved_indices")


def _adds_constant(op: Op) -> bool:
    return op.row.family == "adding" and sum(op.live) == 1


def _inverts(op: Op) -> bool:
    """constant / x."""
    if op.row.family == "quotient":
        return op.live == (False, True)
    return op.row.family == "elementwise" and op.row.degree_of(op) == -1.0


# -- the maximum that is subtracted -------------------------------------------------------------------


def _subtracted(op: Op) -> Op | None:
    """The max(u) of u - max(u)."""
    if op.row.family != "adding" or op.live != (True, True):
        return None
    largest = chain(op, op.edges[1], is_move).end
    return largest if largest is not None and largest.row.selects and largest.row.reduces else None


def _same_shifted(a: Op | None, b: Op | None) -> bool:
    """Whether ``a`` and ``b`` are one tensor less its maximum, spelled twice."""
    if a is None or b is None:
        return False
    of_a, of_b = _subtracted(a), _subtracted(b)
    if of_a is None or of_b is None or (a.row.node, of_a.row.node) != (b.row.node, of_b.row.node):
        return False
    same = _same(a, a.edges[0], b.edges[0]) and _same(a, of_a.edges[0], of_b.edges[0])
    dims = [getattr(o.saved, "dim", None) for o in (of_a, of_b)]
    return same and _same(a, a.edges[0], of_a.edges[0]) and dims[0] == dims[1]


def _same(op: Op, a: Edge, b: Edge) -> bool:
    """Whether two tensors are one, seen through moves."""
    first, second = chain(op, a, is_move), chain(op, b, is_move)
    source = next((t for t in first.tensors if t in second.tensors), None)
    if source is None:
        return False
    maps = [moved(entries_of(source), path, path.tensors.index(source)) for path in (first, second)]
    return maps[0] is not None and maps[1] is not None and torch.equal(maps[0], maps[1])


def _take_gradient(*ops: Op) -> None:
    """Those that a preset may treat otherwise; moves and constant factors have no other rule."""
    from .defaults import Gradient

    for op in ops:
        if not _is_plain(op):
            op.sweep.assign(op.node, Gradient())
        if _is_exp(op):
            # Subtracting the maximum changes nothing: no stabiliser may divide by the 0 it makes.
            shift = chain(op, op.edges[op.live.index(True)], is_move).end
            if shift is not None and (_adds_constant(shift) or _subtracted(shift) is not None):
                _take_plain(shift)


def _take_plain(op: Op) -> None:
    op.sweep.assign(op.node, op.row.cases[-1][1])
