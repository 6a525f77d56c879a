"""Rules that are wrong in what they send for one relevance at one node, each in one respect."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from dynamiclrp_core.rule import Rule, Value
from torch import Tensor


class Linear(Rule):
    """The node's own backward: right for ops of degree 1, and what the rules below make of it."""

    conserves: ClassVar[Any] = "exact"

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        entry, *others = op.sweep.call(op.node, c)
        return [self.entry(op, entry), *others]

    def entry(self, op: Any, c: Tensor) -> Any:
        return c


class Halves(Rule):
    """Half of a product to each factor, and what the rules below make of it."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        own = self.only(c)
        return [own * op.input(1 - i) * self.share(op, i) for i in range(2)]

    def share(self, op: Any, i: int) -> float:
        return 0.5


class Sent(Linear):
    """The same, without a look at any value."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(self.only(r))]


class Whole(Linear):
    """An entry that does not sum to the operand's shape."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c[:, :-1]


class Twice(Linear):
    """An entry too many."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return [*super().coefficient(op, *c), None]


class Number(Linear):
    """An entry in a dtype that relevance cannot have, where that loses nothing."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c.long() if bool((c == c.round()).all()) else c


class WholeValue(Linear):
    """The first in value form."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(self.only(r)[:, :-1])]


class Listed(Linear):
    """An entry that is no tensor."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c.tolist()


class Doubled(Linear):
    """Makes relevance out of nothing."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return 2 * c


class Booked(Linear):
    """Keeps a half and books it, and says that it keeps nothing."""

    def entry(self, op: Any, c: Tensor) -> Any:
        if op.ledger is not None:
            op.book("kept", (c * op.input(0)).sum() / 2)
        return c / 2


class Bent(Linear):
    """Not linear in relevance, and says that it is."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        own, y = self.only(r), op.output()
        return [Value(torch.where(y == 0, 0.0, own * own.abs() / y.abs()))]


class Given(Linear):
    """Relevance for nothing."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        own = self.only(r)
        return [Value(own if own.any() else own + 1)]


class Divided(Linear):
    """Not a number where the operand is 0."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * op.input(0) / op.input(0)


class DividedValue(Linear):
    """Not a number where the operand is 0, in the other form."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(self.only(r) * op.input(0) / op.input(0))]


class Apart(Linear):
    """The two forms disagree."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(-self.only(r))]


class Once(Linear):
    """Answers once for a node, where it may be asked in either form."""

    asked: ClassVar[list[Any]] = []

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return [None] if any(op is other for other in self.asked) else super().coefficient(op, *c)

    def value(self, op: Any, *r: Tensor | None) -> Any:
        self.asked.append(op)
        return [Value(self.only(r))]
