"""Softmax, log-softmax and logsumexp by hand: all their parts take their plain gradient.

That is the AttnLRP softmax rule, which the fused nodes take (arXiv 2402.05602, proposition 3.1). A
preset that stops at softmax names the case ``softmax_by_hand`` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from .node import Address, Edge
from .regions import chain, entries_of, is_move, is_scaling, moved

if TYPE_CHECKING:
    from .op import Op


def softmax_by_hand(op: Op) -> bool:
    """``exp(u) / sum(exp(u))``, ``exp(u) * (1 / sum(exp(u)))`` or ``exp(log_softmax(u))``.

    The two exps may be one or two of the same u; a constant may be added to the sum (attention with a
    sink); in place of exps, entries selected from a softmax (routers that normalise the top k). Every
    entry must be divided by the sum of its own group.
    """
    if op.row.family == "elementwise":
        return _exp_of_log(op)
    return any(_divided(op, i) for i in ((0, 1) if op.row.family == "product" else (0,)))


def logsumexp_by_hand(op: Op) -> bool:
    """``log(sum(exp(u)))`` or ``log(softmax(u))``: the parts take their plain gradient, as fused."""
    below, _ = chain(op, op.edges[0], is_move)
    if below is None:
        return False
    if _gives_weights(below):
        _take_gradient(below)  # a log-softmax: no weights, whatever a preset does with those
        return True
    if not _is_sum(below):
        return False
    summed, _ = chain(below, below.edges[0], is_move)
    if summed is None or not _is_exp(summed):
        return False
    _take_gradient(below, summed)
    _take_shift(summed)
    return True


def _gives_weights(op: Op) -> bool:
    if op.row.family == "softmax":
        return op.row.node in ("SoftmaxBackward0", "SafeSoftmaxBackward0")
    return op.row.family in ("quotient", "product") and softmax_by_hand(op)


def _divided(op: Op, numerator: int) -> bool:
    if not (op.live[0] and op.live[1]):
        return False
    parts: list[Op] = []
    bottom, below = op.edges[1 - numerator], op
    if op.row.family == "product":
        inverse, scaled = chain(op, bottom, _is_plain)
        if inverse is None or not _inverts(inverse):
            return False
        parts, below = [*scaled, inverse], inverse
        bottom = inverse.edges[inverse.live.index(True)]
    total, to_total = chain(below, bottom, lambda o: is_move(o) or _adds_constant(o))
    if total is None or not _is_sum(total):
        return False
    above, to_above = chain(op, op.edges[numerator], is_move)
    summed, to_summed = chain(total, total.edges[0], is_move)
    if above is None or summed is None:
        return False
    weights, others = _end(op.edges[numerator], to_above), _end(total.edges[0], to_summed)
    if _is_exp(above) and (summed.node is above.node or _twin(summed, above)):
        exps = [above, *([summed] if summed.node is not above.node else [])]
    elif weights == others and _are_weights(above):
        exps = []
    else:
        return False
    if not _aligned(op, weights, to_above, total, [*parts, *to_total], to_summed):
        return False
    _take_gradient(*(o for o in (*parts, *to_total) if not is_move(o)), total, *exps)
    for exp in exps:
        _take_shift(exp)
    return True


def _end(edge: Edge, through: list[Op]) -> Address:
    """The tensor that a chain from ``edge`` through ``through`` ends at."""
    if through:
        edge = next(e for e, live in zip(through[-1].edges, through[-1].live) if live)
    return Address(cast(Node, edge[0]), edge[1])


def _are_weights(op: Op) -> bool:
    """Entries selected from a softmax, as routers do: over their sum they are the softmax of fewer logits."""
    while op.row.family == "moving" and len(op.edges) == 1 and op.row.shift is None:
        edge = op.edges[0]
        below = None if edge[0] is None or edge in op.sweep.targets else op.sweep.op(edge[0])
        if below is None:
            return False
        op = below
    return op.row.node in ("SoftmaxBackward0", "SafeSoftmaxBackward0")


def _exp_of_log(op: Op) -> bool:
    """``exp(log_softmax(u))`` or ``exp(u - logsumexp(u))``."""
    below, _ = chain(op, op.edges[0], is_move)
    if below is None:
        return False
    if below.row.node == "LogSoftmaxBackward0":
        return True
    if not (below.row.node.startswith("SubBackward") and all(below.live) and len(below.live) == 2):
        return False
    total, _ = chain(below, below.edges[1], is_move)
    if total is None:
        return False
    u = total.edges[0] if total.row.node == "LogsumexpBackward0" else _summed(total)
    if u is None or u != below.edges[0]:
        return False
    _take_plain(below)
    return True


def _summed(op: Op) -> Edge | None:
    """The u of ``log(sum(exp(u)))``."""
    total = chain(op, op.edges[0], is_move)[0] if op.row.node == "LogBackward0" else None
    summed = chain(total, total.edges[0], is_move)[0] if total is not None and _is_sum(total) else None
    return summed.edges[0] if summed is not None and _is_exp(summed) else None


# -- parts ------------------------------------------------------------------------------------------


def _is_sum(op: Op) -> bool:
    return op.row.node.startswith("SumBackward")


def _is_exp(op: Op) -> bool:
    return op.row.node == "ExpBackward0"


def _is_plain(op: Op) -> bool:
    return is_move(op) or is_scaling(op)


def _adds_constant(op: Op) -> bool:
    return op.row.family == "adding" and sum(op.live) == 1


def _inverts(op: Op) -> bool:
    """constant / x."""
    if op.row.family == "quotient":
        return op.live == (False, True)
    return op.row.family == "elementwise" and op.row.degree_of(op) == -1.0


def _shift(exp: Op) -> Op | None:
    """The sum just below an exp, which subtracts the maximum, if that is what it does."""
    below, _ = chain(exp, exp.edges[0], is_move)
    if below is None or below.row.family != "adding":
        return None
    return below if sum(below.live) == 1 or _subtracted(below) is not None else None


def _subtracted(op: Op) -> Op | None:
    """The max(u) of u - max(u)."""
    if len(op.live) != 2 or not all(op.live):
        return None
    largest, _ = chain(op, op.edges[1], is_move)
    return largest if largest is not None and largest.row.selects and largest.row.reduces else None


def _twin(a: Op, b: Op) -> bool:
    """Two exps of one u, also if u is spelled twice as the same tensor less its maximum."""
    if a.edges[0] == b.edges[0]:
        return True
    of_a, of_b = _shift(a), _shift(b)
    if of_a is None or of_b is None or of_a.row.node != of_b.row.node:
        return False
    first, second = _subtracted(of_a), _subtracted(of_b)
    if first is None or second is None or first.row.node != second.row.node:
        return False
    whose = {of_a.edges[0], of_b.edges[0], first.edges[0], second.edges[0]}
    return len(whose) == 1 and first.shape == second.shape


def _aligned(
    op: Op, weights: Address, to_above: list[Op], total: Op, to_total: list[Op], to_summed: list[Op]
) -> bool:
    """Whether each of the ``weights`` is divided by the sum of the group that it is summed in."""
    keeps = len(total.shape) == len(total.operand_shape(0))
    if keeps and not any(o.row.family == "moving" for o in (*to_above, *to_total, *to_summed)):
        return True
    entries = entries_of(weights)
    groups = entries_of(Address(total.node, 0))
    # The group of each summed entry, then of each weight, in their own order.
    summed = torch.Size(total.operand_shape(0))
    place = moved(entries, to_summed).reshape(-1)
    group = torch.full_like(entries.reshape(-1), -1)
    group[place] = _spread(total, groups, summed).reshape(-1)
    divided_by = moved(groups, to_total).expand(op.shape)
    return torch.equal(group[moved(entries, to_above).expand(op.shape)], divided_by)


def _spread(total: Op, groups: Tensor, shape: torch.Size) -> Tensor:
    dims = getattr(total.saved, "dim", ()) if total.row.node != "SumBackward0" else ()
    reduced = {d % len(shape) for d in dims} or set(range(len(shape)))
    kept = [1 if d in reduced else n for d, n in enumerate(shape)]
    return groups.reshape(kept).expand(shape)


def _take_gradient(*ops: Op) -> None:
    from .defaults import Gradient

    for op in ops:
        op.sweep.assign(op.node, Gradient())


def _take_shift(exp: Op) -> None:
    """Subtracting the maximum changes nothing: no stabiliser may divide by the 0 it makes."""
    shift = _shift(exp)
    if shift is not None:
        _take_plain(shift)


def _take_plain(op: Op) -> None:
    op.sweep.assign(op.node, op.row.cases[-1][1])
