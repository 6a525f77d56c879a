"""Rules from Euler's theorem: ``sum x_i df/dx_i = p f`` for f homogeneous of degree p."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import MissingRule, Unrecoverable
from ..numerics import dot, vjp
from ..op import Op
from ..rule import Conserves, Entries, Rule


class Quotient(Rule):
    """All to the numerator. If only the denominator is live, it is elementwise: ``f(x)/x``.

    In a product with a reciprocal (matcher ``divided``), all to the other factor.
    """

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.row.family == "product":
            return [op.pull(ci, i) if i == op.match else None for i in range(len(op.edges))]
        above = op.pull(ci, 0) if op.wanted[0] else None
        # Degree -1 in the denominator: gradient / -1.
        below = -op.pull(ci, 1) if op.wanted[1] and not op.live[0] else None
        return [above, below]


class Homogeneous(Rule):
    """Gradient / p for f of degree p: Euler's theorem, ``sum x_i df/dx_i = p f``.

    Of several operands p is the joint degree, and what belongs to a constant one is absorbed. Outputs
    may differ in their degree, and so may the entries of one. Raises MissingRule where relevance
    arrives that has degree 0: scaling the operands does not change it, so the theorem passes nothing.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        degree = op.row.degree(op) if callable(op.row.degree) else op.row.degree
        degrees = degree if isinstance(degree, tuple) else (degree,) * len(c)
        scaled = [self._over(op, ci, p) for ci, p in zip(c, degrees)]
        if op.ledger is not None and not all(op.live):
            self._book_constants(op, scaled)
        return op.backward(*scaled)

    @staticmethod
    def _over(op: Op, c: Tensor | None, p: Any) -> Tensor | None:
        if c is None:
            return None
        fixed = p == 0
        if bool((c * fixed != 0).any() if isinstance(fixed, Tensor) else fixed):
            raise MissingRule(
                f"{op.row.node}: relevance arrived at an output that does not change when the operands are "
                "scaled (degree 0), and no rule divides it among them.\n"
                "  cure: detach that output, so that it counts as a constant, or explain a tensor behind it"
            )
        return c / (torch.where(p == 0, 1, p) if isinstance(p, Tensor) else p)

    @staticmethod
    def _book_constants(op: Op, c: Sequence[Tensor | None]) -> None:
        assert op.ledger is not None
        try:
            at = op.inputs()
            for i, (x, live) in enumerate(zip(at, op.live)):
                if x is not None and not live:  # a gradient where x is: nothing is linear here
                    _, pull = vjp(lambda z, i=i: op.forward(*at[:i], z, *at[i + 1 :]), x)
                    op.book("constants", dot(x, pull(Rule.only(c))[0]))
        except Unrecoverable:
            op.ledger.book_unknown(op.row.node, "constants")
