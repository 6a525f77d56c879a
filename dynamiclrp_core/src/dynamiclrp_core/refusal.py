"""Nodes that no rule should cross, or that no rule can: a row that says why, and what to do instead."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from .errors import MissingRule
from .families import custom
from .op import Op
from .rule import Conserves, Entries, Row, Rule


class Refused(Rule):
    """Raises MissingRule with ``reason`` and ``cure`` when relevance arrives."""

    reason: str
    cure: str

    conserves: ClassVar[Conserves] = "none"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        raise MissingRule(f"{op.row.node}: {self.reason}.\n  cure: {self.cure}")

    value = coefficient


def refused(nodes: str, reason: str, cure: str) -> tuple[Row, ...]:
    """Rows of the family ``refused``, one per name in ``nodes``: relevance does not pass, and why."""
    rule = Refused(reason=reason, cure=cure)
    return tuple(custom(node, rule, family="refused") for node in nodes.split())


def refusal(row: Row) -> str | None:
    """Why a row refuses; None if it does not."""
    rule = row.cases[-1][1]
    return rule.reason if isinstance(rule, Refused) else None
