"""Relevance of attention weights, also where a fused node never made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from dynamiclrp_core.api import propagate
from dynamiclrp_core.matching.softmax_by_hand import SOFTMAX
from dynamiclrp_core.op import Op
from dynamiclrp_core.packs.plugins import preset
from dynamiclrp_core.rule import Entries, Matcher, Rule
from dynamiclrp_core.table import Override, Rules
from pydantic import ConfigDict
from torch import Tensor

from .explicit import weights
from .sdpa import FusedAttention, ValuesOnly

Tensors = Tensor | Sequence[Tensor]


def attention_relevance(
    outputs: Tensors,
    inputs: Tensors | None = None,
    output_relevance: Tensor | Sequence[Tensor | None] | None = None,
    rules: Rules | str = "attnlrp",
    **arguments: Any,
) -> list[Tensor]:
    """Relevance of the attention weights of every attention between outputs and inputs, in forward order.

    One tensor (batch, heads, queries, keys) per fused attention, and one of its own shape per softmax node
    (eager attention; a router's softmax is one too; name a softmax by hand in ``at=``). For a fused node the
    weights are computed here: ``R_P = P * (c v^T)``, times the share of the rule (AttnLRP: 1/2). Where rules
    hold the weights constant (``cp-lrp``) there is nothing to read, and no entry. Arguments and errors as in
    ``propagate``.
    """
    table = preset(rules) if isinstance(rules, str) else rules
    found: list[Tensor] = []
    reading = tuple(
        Override(row.node, "*", _Reading(found=_Found(found), cases=table.cases(row)))
        for row in table.rows.values()
        if row.family == "attention" or row.node in SOFTMAX
    )
    propagate(outputs, inputs, output_relevance, table | Rules(overrides=reading), **arguments)
    return found[::-1]


class _Found:
    """A list that a rule's parameters may hold without a copy of it."""

    def __init__(self, into: list[Tensor]) -> None:
        self.into = into


class _Reading(Rule):
    """The rule of one of ``cases``, and a look at the weights on the way."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    joins: ClassVar[bool] = True  # one tensor per node

    found: _Found
    cases: tuple[tuple[Matcher | None, Rule], ...]

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        rule = self._rule(op)
        if not isinstance(rule, ValuesOnly):
            self.found.into.append(self._weights(op, self.only(c)))
        return rule.coefficient(op, *c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if op.row.family == "softmax":
            self.found.into.append(self.only(r))
            return self._rule(op).value(op, *r)
        return super().value(op, *r)

    def _rule(self, op: Op) -> Rule:
        return next(rule for matcher, rule in self.cases if matcher is None or matcher(op))

    def _weights(self, op: Op, c: Tensor) -> Tensor:
        if op.row.family == "softmax":
            return c * op.output()
        p, v = weights(op), op.input(2)
        v = v.repeat_interleave(p.shape[1] // v.shape[1], 1)
        return p * (c @ v.mT) * FusedAttention.shares(op)["v"]


__all__ = ["attention_relevance"]
