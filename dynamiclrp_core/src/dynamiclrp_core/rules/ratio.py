"""Ratio rules: shares by absolute or squared size, never negative, so they cannot explode by themselves.

DynamicLRP's (arXiv 2512.07010) rules for sums and products. They emit coefficients:
``R_i = share_i R`` with ``R = z c`` is ``c_i = z c * sign(t_i) / sum |t|``.

Shares by size are of real tensors: of a complex output the op's default applies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from ..numerics import at_least_float32, dot, fit, quotient, spare
from ..op import Op
from ..rule import Entries, Rule, Value

Power = Literal["absolute", "squared"]


def _scaled(t: Tensor, w: Any) -> Tensor:
    """``t * w``; most sums weigh their terms by the number 1, and a tensor is not copied for that."""
    return t if type(w) in (int, float) and w == 1 else cast(Tensor, t * w)


class Ratio(Rule):
    """``R_i = |t_i|^p / (sum_j |t_j|^p + epsilon) R`` over the terms of a sum, p = 1 or 2.

    Constants are terms too. ``constants="pass"``: untracked terms take no share and need not be
    known. Relevance of an all-zero group is booked under epsilon.
    """

    real: ClassVar[bool] = True

    epsilon: float = Field(1e-11, ge=0)
    power: Power = "absolute"
    constants: Literal["absorb", "pass"] = "absorb"

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return self._shared(op, self.only(r), as_values=True)

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return self._shared(op, at_least_float32(self.only(c)), as_values=False)

    def _shared(self, op: Op, arriving: Tensor, as_values: bool) -> Entries:
        assert op.row.weights is not None
        weights = op.row.weights(op)
        terms: list[Tensor | None] = []
        for i, w in enumerate(weights):
            if op.edges[i][0] is None and self.constants == "pass":
                terms.append(None)
            else:
                terms.append(_scaled(op.input(i), w))
        if op.row.shift is not None:
            terms.append(op.row.shift(op) if self.constants == "absorb" else None)
        known = [t for t in terms if t is not None]
        r = arriving.clone() if as_values else self._arrived(op, arriving, known, len(known) == len(terms))
        s = self._divided(op, r, known)
        if op.ledger is not None:
            for t, live in zip(terms, [*op.live, False]):
                if t is not None and not live:
                    op.book("constants", dot(self._size(t), s))
        entries: list[Any] = []
        for i, (t, w) in enumerate(zip(terms, weights)):
            if t is None or not op.wanted[i]:
                entries.append(None)
            elif as_values:
                size = self._size(t)
                entries.append(Value(torch.mul(s, size, out=spare(size, s))))
            else:
                # d|t|/dx and d(t^2)/dx / x: the coefficient whose product with x is the share.
                sign = t.sign() if self.power == "absolute" else None
                entry = s * t if sign is None else torch.mul(s, sign, out=spare(sign, s))
                entries.append(_scaled(entry, w))
        return entries

    @staticmethod
    def _arrived(op: Op, c: Tensor, terms: list[Tensor], all_terms: bool) -> Tensor:
        """``c z`` with the output z, the sum of its terms; asked for if some are not known."""
        if not all_terms:
            return c * op.masked_output()
        z = reduce(torch.add, terms)
        limit = torch.finfo(z.dtype).max  # -inf masks: what arrives there is 0, and 0 * inf is not
        z = torch.clamp(z, -limit, limit, out=spare(z) if len(terms) > 1 else None)
        return torch.mul(c, z, out=spare(z, c))

    def _divided(self, op: Op, r: Tensor, terms: list[Tensor]) -> Tensor:
        """``r`` over the sum of all sizes. ``r`` is the rule's own, and is used up."""
        whole = self._size(terms[0])
        for t in terms[1:]:
            whole = torch.add(whole, self._size(t), out=spare(whole, r))
        total = None if op.ledger is None else r.sum(dtype=torch.float64)
        if self.epsilon:
            s = torch.div(r, torch.add(whole, self.epsilon, out=op.spare(whole)), out=spare(r, whole))
        else:
            s = quotient(r, whole)
        if total is not None:
            op.book("epsilon", total - dot(whole, s))
        return s

    def _size(self, t: Tensor) -> Tensor:
        return t.abs() if self.power == "absolute" else t * t


class LinearRatio(Rule):
    """The same for sums over dimensions (sum, mean, cumsum, average pooling; weights must be >= 0):

    ``R_i = |x_i| sum_j w_ij R_j / sum_k w_kj |x_k|``.
    """

    real: ClassVar[bool] = True

    epsilon: float = Field(1e-11, ge=0)

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        x = op.input(0)
        return self._shared(op, x, self.only(c) * cast(Tensor, op.forward(x)))

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return self._shared(op, op.input(0), self.only(r))

    def _shared(self, op: Op, x: Tensor, r: Tensor) -> Entries:
        whole = cast(Tensor, op.forward(x.abs()))
        s = r / (whole + self.epsilon) if self.epsilon else quotient(r, whole)
        if op.ledger is not None:
            op.book("epsilon", (r - s * whole).sum())
        (pulled,) = op.backward(s.to(op.sweep.dtype or op.dtype))
        sign = x.sign()
        return [torch.mul(cast(Tensor, pulled), sign, out=spare(sign, pulled))]


class ProductRatio(Rule):
    """``R_a = |a| / (|a| + |b|) R`` between live factors (DynamicLRP); a constant factor takes nothing.

    Not invariant to ``a -> ka, b -> b/k``; kept because it is the paper's rule.
    """

    real: ClassVar[bool] = True

    epsilon: float = Field(1e-11, ge=0)

    conserves: ClassVar[Literal["exact", "absorbed", "none"]] = "absorbed"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.live_factors < 2:
            return op.pulls(ci)
        return [
            None if share is None else torch.mul(op.pull(ci, i), share, out=spare(share, ci))
            for i, share in enumerate(self._shares(op, lambda: ci * op.output()))
        ]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        if op.live_factors < 2:
            return [Value(ri) if live else None for live in op.live]
        return [
            None if share is None else Value(torch.mul(ri, share, out=spare(share, ri)))
            for share in self._shares(op, lambda: ri)
        ]

    def _shares(self, op: Op, r: Callable[[], Tensor]) -> list[Tensor | None]:
        """The share of each factor that is wanted. ``r``: what arrives, for the ledger alone."""
        sizes = [op.input(i).abs() for i in range(2)]
        whole = sizes[0] + sizes[1]
        # 0 of 0 is 0, whatever it is divided by.
        whole = torch.add(whole, self.epsilon or torch.finfo(whole.dtype).tiny, out=spare(whole))
        if op.ledger is not None:
            op.book("epsilon", (r() * (1 - sizes[0] / whole - sizes[1] / whole)).sum())
        return [
            torch.div(size, whole, out=spare(size, whole)) if w else None for w, size in zip(op.wanted, sizes)
        ]


class Identity(Rule):
    """Relevance passes unchanged through an elementwise op, whatever f(0) is (AttnLRP eq. 9)."""

    masks: ClassVar[bool] = True
    conserves: ClassVar[Literal["exact", "absorbed", "none"]] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if op.offset == 0:
            return op.row.cases[-1][1].coefficient(op, *c)
        return super().coefficient(op, *c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return [Value(self.only(r)), *[None] * (len(op.edges) - 1)]


class Filter(Rule):
    """Only the largest ``top`` fraction of the arriving relevance (by size, per sample) goes on.

    The paper's relevance filter; what is dropped is booked. Then ``rule`` is applied, or without one
    the row's own rule.
    """

    top: float = Field(0.5, gt=0, le=1)
    rule: Rule | None = None

    joins: ClassVar[bool] = True

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        kept = [None if ci is None else ci * self._kept(op, ci * op.output(i)) for i, ci in enumerate(c)]
        return (self.rule or op.row.cases[-1][1]).coefficient(op, *kept)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        kept = [None if ri is None else ri * self._kept(op, ri) for ri in r]
        return (self.rule or op.row.cases[-1][1]).value(op, *kept)

    def _kept(self, op: Op, r: Tensor) -> Tensor:
        flat = r.abs().reshape(r.shape[0] if r.dim() > 1 else 1, -1)
        if not flat.numel():
            return torch.ones_like(r)
        n = max(1, round(self.top * flat.shape[1]))
        threshold = flat.topk(n, dim=1).values[:, -1:]
        kept = (flat >= threshold).view(r.shape)
        if op.ledger is not None:
            op.book("filter", (r * ~kept).sum())
        return fit(kept, r.shape, r.dtype)
