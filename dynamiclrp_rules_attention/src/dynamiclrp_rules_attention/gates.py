"""Who is the gate? In a product of two live tensors, CP-LRP and LSTM rules give all to the signal.

Which factor is the gate is read off the graph: it is the one that was squashed last.
"""

from __future__ import annotations

from typing import Literal

from dynamiclrp_core.matching.matchers import divided, gate, statistic
from dynamiclrp_core.matching.regions import is_scaling
from dynamiclrp_core.matching.softmax_by_hand import SOFTMAX, softmax_by_hand
from dynamiclrp_core.node import Edge
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries
from dynamiclrp_core.rules.defaults import Product
from torch import Tensor

WEIGHTS, SQUASHED, ACTIVATED, SIGNAL = 3, 2, 1, 0


def rank(op: Op, edge: Edge) -> int:
    """How gate-like a factor is, seen through moves, casts and scalings by what is not live.

    3 a softmax (attention weights, router weights, also normalised by their sum); 2 a function that is
    not 0 at 0 (sigmoid, hard-sigmoid, softplus, exp, 1 - sigmoid): it carries no signal of its own; 1 any
    other activation (SiLU, GELU, tanh, ReLU, fused or by hand); 0 anything else.
    """
    lifted = False  # by an added constant: of a function that is no bias (1 + tanh), of a signal it is
    while edge[0] is not None:
        made = op.sweep.op(edge[0])
        if made is None:
            return SIGNAL
        row = made.row
        if row.node in SOFTMAX or (row.family == "elementwise" and softmax_by_hand(made)):
            return WEIGHTS
        if row.family in ("product", "quotient") and all(made.live):
            if softmax_by_hand(made):
                return WEIGHTS
            if gate(made) is not None:
                return SQUASHED if lifted else ACTIVATED
            held = statistic(made)
            if held is None:  # whatever it is divided by, the numerator says what it is
                held = 0 if row.family == "quotient" else divided(made)
            if held is None:
                return SIGNAL
            edge = made.edges[held]
        elif sum(made.live) == 1 and (row.family in ("moving", "adding") or row.copies or is_scaling(made)):
            lifted = lifted or row.family == "adding"
            edge = made.edges[made.live.index(True)]
        elif row.family == "quotient":
            return SQUASHED  # a constant over it
        elif row.family == "elementwise":
            return SQUASHED if lifted or made.offset != 0 else ACTIVATED
        else:
            return SIGNAL
    return SIGNAL


def signal(op: Op, gates: Literal["softmax", "all"] = "all") -> int | None:
    """Number of the factor that is not the gate; None if neither is, or both alike."""
    factors = [i for i in op.row.factors if op.live[i]]
    if len(factors) < 2:
        return None
    ranks = [rank(op, op.edges[i]) for i in factors]
    if ranks[0] == ranks[1] or (gates == "softmax" and max(ranks) < WEIGHTS):
        return None
    return factors[0] if ranks[0] < ranks[1] else factors[1]


class SignalTakesAll(Product):
    """All of a product to its signal, nothing to its gate (Arras et al. 2017; CP-LRP, arXiv 2202.07304).

    ``gates="softmax"``: only attention and router weights count as gates. Where neither factor is a
    gate, or both alike, each takes half.
    """

    gates: Literal["softmax", "all"] = "all"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        taker = signal(op, self.gates)
        if taker is None:
            return super().coefficient(op, *c)
        entries: list[Tensor | None] = [None] * len(op.edges)
        for i, wanted in enumerate(op.wanted):
            if wanted and (i == taker or i not in op.row.factors):
                entries[i] = op.pull(self.only(c), i)
        return entries
