"""Distances between rows: homogeneous of degree 1 in all rows together."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from dynamiclrp_core.families import custom
from dynamiclrp_core.numerics import dot
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Conserves, Entries, Rule
from dynamiclrp_core.rules.defaults import Homogeneous, Stop, book_or_not
from torch import Tensor


class Distance(Rule):
    """The gradient: ``sum x1 df/dx1 + sum x2 df/dx2 = f`` (Euler), so it conserves.

    Rows that are not live take their share and keep it, as the terms of a difference do.
    """

    conserves: ClassVar[Conserves] = "absorbed"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None:
            for i, live in enumerate(op.live):
                if not live:
                    book_or_not(op, "constants", lambda i=i: dot(op.input(i), op.pull(ci, i)))  # type: ignore[misc]
        return [op.pull(ci, i) if wanted else None for i, wanted in enumerate(op.wanted)]


def counts(op: Op) -> bool:
    """p = 0: the number of entries that differ, which no relevance passes."""
    return cast(float, op.saved.p) == 0


def _pull(op: Op, c: Tensor, i: int, at: object) -> Tensor:
    """c times the derivative of ``|x1 - x2|_p``: ``sign(d) |d|^(p-1) / dist^(p-1)``, 0 at distance 0."""
    x1, x2 = op.input(0).to(c.dtype), op.input(1).to(c.dtype)
    p = getattr(op.saved, "p", 2.0) if op.row.node.startswith("Cdist") else 2.0
    d = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    size, distance = d.abs(), op.output().to(c.dtype).unsqueeze(-1)
    if p == float("inf"):
        largest = (size == distance).to(c.dtype)
        slope = largest / largest.sum(-1, keepdim=True)  # equal ones share
    else:
        ratio = size / torch.where(distance == 0, 1.0, distance)
        slope = torch.where(size == 0, 0.0, ratio ** (p - 1))
    g = c.unsqueeze(-1) * d.sign() * torch.where(distance == 0, 0.0, slope)
    return g.sum(-2) if i == 0 else -g.sum(-3)


def _cdist(op: Op, x1: Tensor, x2: Tensor) -> Tensor:
    return torch.cdist(x1, x2, op.saved.p, compute_mode="donot_use_mm_for_euclid_dist")


ROWS = (
    custom("CdistBackward0", Distance(), "x1 x2", family="homogeneous", cases=((counts, Stop()),),
        results="result", reduces=True, forward=_cdist, pull=_pull),
    custom("EuclideanDistBackward0", Distance(), "x1 x2", family="homogeneous", results="result",
        reduces=True, forward=lambda op, x1, x2: torch.cdist(x1, x2), pull=_pull),
    custom("PdistBackward0", Homogeneous(), "self", family="homogeneous", cases=((counts, Stop()),),
        results="result", degree=1.0, reduces=True,
        forward=lambda op, x: torch.nn.functional.pdist(x, op.saved.p)),
)  # fmt: skip
