"""Rules whose numerators split by the sign of input, weight and output: gamma, z+, alpha-beta.

Even these give coefficients: ``R_i = a_i+ u_i + a_i- v_i`` is ``a_i * (u_i where a_i > 0, v_i elsewhere)``,
without division by a. Notation as in ``layered.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..numerics import by_sign, dot, quotient, spare, where_not_zero
from ..op import Op
from ..rule import Entries, Value
from .layered import Stabilized
from .weighed import Weighed, any_negative, beside, spread

Bias = Literal["absorb", "ignore", "spread", "share"]
Weighing = Callable[[Tensor], Tensor]
Parts = tuple[int, Tensor, Tensor | None]


class Signed(Stabilized):
    """Shared by rules whose numerators split by the sign of input, weight and output.

    They need one live factor: products of two live tensors have a rule of their own, and where only
    the added term is live the layer's default applies. ``bias``: as for ``Epsilon``.
    """

    bias: Bias = "absorb"

    @property
    def merges(self) -> bool:
        return self.bias != "share"  # op by op, as of Epsilon

    @property
    def without_bias(self) -> bool:
        """Whether the added term is no part of the sum that relevance is divided by."""
        return self.bias in ("ignore", "share")

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        if op.live_factors != 1:
            return op.row.cases[-1][1].coefficient(op, c)
        z = self.output(op)
        return self._beside_bias(op, c * z, z)

    def of_value(self, op: Op, r: Tensor) -> Entries:
        if op.live_factors != 1:
            return op.row.cases[-1][1].value(op, r)
        return self._beside_bias(op, r.clone(), None)

    def _beside_bias(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        """The rule's entries; with ``bias="share"`` for what the added term, shared out first, leaves."""
        shift = op.row.shift(op) if self.bias == "share" and op.row.shift is not None else None
        if shift is None:
            return self.signed(op, r, z)
        z = op.output() if z is None else z
        rest = z - shift
        share = quotient(rest.abs(), rest.abs() + shift.abs())
        if op.ledger is not None and not op.live_bias:
            op.book("bias", (r * (1 - share)).sum(dtype=torch.float64))
        return beside(op, self.signed(op, r * share, rest), z, shift, r)

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        """Entries for relevance ``r``, the rule's own, of the output ``z`` (None: to be asked for)."""
        raise NotImplementedError

    def parts(self, op: Op, r: Tensor) -> Parts:
        """Number of the live factor, its value, the added term, in relevance's dtype."""
        row = op.row
        i = row.factors[0] if op.live[row.factors[0]] else row.factors[1]
        bias = None if self.without_bias or row.shift is None else row.shift(op)
        return i, op.input(i).to(r.dtype), None if bias is None else bias.to(r.dtype)

    def split(self, op: Op, r: Tensor, parts: Parts, up: Weighing, down: Weighing) -> Entries:
        """Entries for numerators ``x+ up(w) + x- down(w)`` and ``up(b)``; the denominator is their sum.

        ``up`` and ``down`` are linear on either side of 0. The sum must be positive, or 0, where r is not 0.
        """
        i, x, b = parts
        signed = any_negative(x)
        above = Weighed(op, i, up, r.dtype)
        below = Weighed(op, i, down, r.dtype) if signed else above
        z = above.forward(x.clamp(min=0) if signed else x)
        if signed:
            z = torch.add(z, below.forward(x.clamp(max=0)), out=spare(z))
        if b is not None:
            z = torch.add(z, up(b), out=spare(z, r))
        s = self.over_size(op, r, z)
        del z
        c = above.pull(s)
        if signed:
            c = by_sign(x, c, below.pull(s))
        return self.entries(op, i, c, s, b, up)

    def entries(self, op: Op, i: int, c: Tensor, s: Tensor, b: Tensor | None, weigh: Weighing) -> Entries:
        """``c`` for the live factor; what the added term takes, ``weigh(b) * s``, by its policy."""
        entries: list[Any] = [None] * len(op.edges)
        entries[i] = c
        if b is None:
            return entries
        if self.bias == "spread" and not op.live_bias:
            return spread(op, entries, s * weigh(b))
        if op.ledger is not None and not op.live_bias:
            op.book("bias", dot(weigh(b), s))
        if op.row.bias is not None and op.wanted[op.row.bias]:
            weighed = weigh(b)
            entries[op.row.bias] = op.pull(s * quotient(weighed, b.expand(weighed.shape)), op.row.bias)
        return entries


class Gamma(Signed):
    """Favours contributions of the output's sign by ``1 + gamma`` (Montavon et al. 2019, table 10.1),

    generalised to signed inputs and outputs: for z > 0 the numerators are
    ``a+ (w + gamma w+) + a- (w + gamma w-)``, for z < 0 ``a+ (w + gamma w-) + a- (w + gamma w+)``,
    the bias likewise; each divided by its own stabilised sum. z is the output as it is, even where
    ``bias="ignore"`` leaves the bias out of the sum (as in zennit). Relevance of z = 0 is booked. gamma = 0
    is the epsilon rule.

    With ``h = gamma / 2`` and ``k = h sign(z)``, all of these are ``(1 + h) a w + k |a w|``. So the
    denominators are ``(1 + h) z + k q`` with ``q = sum |a w| + |b|``, where nothing cancels, and the
    coefficients ``(1 + h) sum w s + sign(a) sum |w| k s``.
    """

    gamma: float = Field(0.25, ge=0)

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        if z is None:
            z = op.output()
            if op.ledger is not None:
                op.book("zero output", (r * (z == 0)).sum())
            r = r * (z != 0)
        parts = i, x, b = self.parts(op, r)
        mixed = any_negative(x)
        if not mixed and not (any_negative(z) and any_negative(where_not_zero(r, z))):
            return self.split(op, r, parts, self._favoured, self._favoured)  # up to here z > 0, a >= 0
        h, sign = self.gamma / 2, z.sign()
        plain, sizes = Weighed(op, i, _same, r.dtype), Weighed(op, i, torch.abs, r.dtype)
        if z.dtype != op.dtype or self.without_bias:  # a sum that was rounded, or that has another bias
            z = plain.forward(x)
            z = z if b is None else z + b
        q = sizes.forward(x.abs() if mixed else x)
        q = q if b is None else torch.add(q, b.abs(), out=spare(q, r))
        whole = torch.add(torch.mul(q, h, out=spare(q)), z * sign, alpha=1 + h, out=spare(q))
        s = self.over_size(op, r, whole)
        del q, whole
        of_sizes = sizes.pull(s)
        s = torch.mul(s, sign, out=spare(s))
        c = plain.pull(s)
        c = torch.mul(c, 1 + h, out=spare(c))
        if mixed:
            c = torch.addcmul(c, x.sign(), of_sizes, value=h, out=spare(c))
        else:
            c = torch.add(c, of_sizes, alpha=h, out=spare(c))
        return self.entries(op, i, c, s, b, lambda b: (1 + h) * b + h * sign * b.abs())

    def over_size(self, op: Op, r: Tensor, z: Tensor) -> Tensor:
        # A sum without the bias, or of terms that are not rounded, may be of another sign than the output.
        other = self.without_bias or r.dtype != op.dtype
        return self.over(op, r, z) if other else super().over_size(op, r, z)

    def _favoured(self, w: Tensor) -> Tensor:
        return w.clamp(min=0).mul_(self.gamma).add_(w)


class ZPlus(Signed):
    """Only positive contributions: numerators ``a+ w+ + a- w-``, bias ``b+`` (alpha1-beta0).

    Bach et al. 2015, eq. 60 with alpha = 1; for a >= 0 the z+ rule of Montavon et al. 2017. Where no
    contribution is positive, relevance is booked under epsilon.
    """

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        return self.split(op, r, self.parts(op, r), _positive, _negative)


class AlphaBeta(Signed):
    """``R_i = sum_j (alpha P_ij / stab(P_j) - beta N_ij / stab(N_j)) R_j``, Bach et al. 2015, eq. 60.

    P and N are the positive and negative contributions, ``P_ij = a_i+ w_ij+ + a_i- w_ij-`` and
    ``N_ij = a_i+ w_ij- + a_i- w_ij+``, with b+ and b- in the sums. Where an output has no contribution of
    one sign, that part of its relevance is booked under epsilon.

    Raises pydantic.ValidationError unless alpha - beta = 1.
    """

    alpha: float = Field(2.0, ge=1)
    beta: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _conserving(self) -> AlphaBeta:
        if abs(self.alpha - self.beta - 1) > 1e-12:
            raise ValueError(f"alpha - beta must be 1, not {self.alpha:g} - {self.beta:g}")
        return self

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        parts = self.parts(op, r)
        entries = self.split(op, self.alpha * r, parts, _positive, _negative)
        if self.beta == 0:
            return entries
        r = torch.mul(r, -self.beta, out=spare(r))
        return _added(entries, self.split(op, r, parts, _minus_negative, _minus_positive))


def _positive(w: Tensor) -> Tensor:
    return w.clamp(min=0)


def _negative(w: Tensor) -> Tensor:
    return w.clamp(max=0)


def _minus_negative(w: Tensor) -> Tensor:
    return w.clamp(max=0).neg_()


def _minus_positive(w: Tensor) -> Tensor:
    return w.clamp(min=0).neg_()


def _same(w: Tensor) -> Tensor:
    return w


def _added(first: Entries, second: Entries) -> Entries:
    """The entries of two branches of one rule, added. Both branches use the same form per operand."""
    made: list[Any] = []
    for a, b in zip(first, second):
        if a is None or b is None:
            made.append(a if b is None else b)
        elif isinstance(a, Value) and isinstance(b, Value):
            made.append(Value(a.relevance + b.relevance))
        else:
            made.append(torch.add(cast(Tensor, a), cast(Tensor, b), out=spare(cast(Tensor, a))))
    return made
