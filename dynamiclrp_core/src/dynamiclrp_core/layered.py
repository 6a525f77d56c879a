"""Rules of the field for layers: epsilon, gamma, alpha-beta, z+ and the paper's epsilon with a shared bias.

All give coefficients. Even gamma and z+ have one: their numerators split by the sign of the input,
``R_i = a_i+ u_i + a_i- v_i``, which is ``a_i * (u_i where a_i > 0, v_i elsewhere)``: no division by a.

Notation: ``z_j = sum_i a_i w_ij + b_j``; ``x+``, ``x-`` the positive and negative parts; ``stab`` the
stabiliser of ``Stabilized``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from .defaults import Affine
from .merged import Whole, merged, placed
from .numerics import at_least_float32, dot, quotient, stabilize
from .op import Op
from .rule import Entries, Rule, Value
from .shifted import shifted

Bias = Literal["absorb", "ignore", "spread"]
Constants = Literal["absorb", "pass"]


class Stabilized(Rule):
    """A rule that divides by a sum of contributions z, kept away from zero.

    ``stab(z) = z + epsilon sign(z)`` with sign(0) = +1. ``clip``: ``max(|z|, epsilon) sign(z)`` instead.
    ``norm_scale``: epsilon in units of the root mean square of z over all dimensions of the node's
    output but the first. These are zennit's options and names; epsilon = 0 is LRP-0, with 0/0 = 0.
    """

    epsilon: float = Field(1e-6, ge=0)
    clip: bool = False
    norm_scale: bool = False

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        whole = merged(op) or shifted(op) if self.merges else None
        if whole is None:
            return self.of_coefficient(op, self.only(c))
        return whole.sent(op, self._of(whole).coefficient(whole, *whole.arrived(c)))

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        whole = merged(op) or shifted(op) if self.merges else None
        if whole is None:
            return self.of_value(op, self.only(r))
        return whole.sent(op, self._of(whole).value(whole, *whole.arrived(r)))

    def _of(self, whole: Whole) -> Rule:
        if whole.before:
            return self
        rule = whole.sweep.rule_of(whole.layer)
        whole.sweep.used.append(rule)
        return rule

    @property
    def merges(self) -> bool:
        """Whether a batch norm or a bias beside a layer is part of it (``merged.py``, ``shifted.py``)."""
        return True

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        """Entries for a coefficient, of a node or a merged layer."""
        raise NotImplementedError

    def of_value(self, op: Op, r: Tensor) -> Entries:
        """Entries for a relevance value, of a node or a merged layer."""
        raise NotImplementedError

    def over(self, op: Op, r: Tensor, z: Tensor) -> Tensor:
        """``r / stab(z)``; what the stabiliser keeps is booked."""
        if self.epsilon == 0 or self.norm_scale:  # rows of zeros have no scale
            s = quotient(r, stabilize(z, self.epsilon, self.clip, self.norm_scale) if self.epsilon else z)
        else:
            s = r / stabilize(z, self.epsilon, self.clip)
        if op.ledger is not None:
            op.book("epsilon", r.sum(dtype=torch.float64) - dot(z, s))
        return s


class Epsilon(Stabilized):
    """``R_i = x_i sum_j w_ij R_j / stab(z_j)``, Bach et al. 2015, eq. 58.

    For any op that is affine in its live operands: layers, norms, sums, poolings. The added term, ``bias``:
    "absorb"   takes its share and keeps it (read it with ``at=[layer.bias]``)
    "ignore"   takes nothing: z is the sum without it (zennit's ``zero_params="bias"``)
    "spread"   takes its share and spreads it evenly over the inputs that reach j
    "share"    is first an add of its own by absolute ratio, takes ``|b| / (|b| + |z - b|)`` (DynamicLRP)

    ``constants="pass"`` gives an untracked added term no share at all: all goes to the rest, and the
    term need not be known (where a coefficient arrives, the output must be).
    """

    bias: Literal["absorb", "ignore", "spread", "share"] = "absorb"
    constants: Constants = "absorb"

    @property
    def merges(self) -> bool:
        return self.bias != "share"  # the paper takes op by op

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        plain = self.epsilon == 0 and self.bias == "absorb" and not self._passes(op)
        if plain and not op.raised:
            return self._step(op, c)
        z = at_least_float32(op.masked_output())
        return self._stabilized(op, c * z, None if op.raised else z)

    def of_value(self, op: Op, r: Tensor) -> Entries:
        return self._stabilized(op, r, None)

    def _stabilized(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        if self._passes(op):
            z = cast(Tensor, op.forward(*self._without_bias(op)))
            return Affine.linear_step(op, self.over(op, r, z))
        z = op.output() if z is None else z
        if self.bias == "absorb" or op.row.bias is None or op.row.shift is None or op.live_bias:
            return self._step(op, self.over(op, r, z))
        shift = op.row.shift(op)
        if shift is None:
            return Affine.linear_step(op, self.over(op, r, z))
        if self.bias == "spread":
            s = self.over(op, r, z)
            return spread(op, Affine.linear_step(op, s), s * shift)
        z = z - shift
        if self.bias == "share":
            both = z.abs() + shift.abs()
            share = torch.where(both == 0, 1.0, z.abs() / torch.where(both == 0, 1.0, both))
            if op.ledger is not None:
                op.book("bias", (r * (1 - share)).sum())
            r = r * share
        return Affine.linear_step(op, self.over(op, r, z))

    def _passes(self, op: Op) -> bool:
        bias = op.row.bias
        return self.constants == "pass" and bias is not None and op.edges[bias][0] is None

    @staticmethod
    def _without_bias(op: Op) -> list[Tensor | None]:
        return [None if i == op.row.bias else op.optional(i) for i in range(len(op.edges))]

    @staticmethod
    def _step(op: Op, s: Tensor) -> Entries:
        # The row's own linear step, whatever the family: it books the bias and constants at s.
        return op.row.cases[-1][1].coefficient(op, s)


class Norm(Epsilon):
    """zennit's name for the epsilon rule where there are no weights: average pooling, residual sums."""


def spread(op: Op, entries: Entries, share: Tensor) -> Entries:
    """``entries`` and, as values, each output's ``share`` in equal parts on the inputs that reach it.

    Inputs reach an output of a layer where its weights lie, padding excluded; of any other op (a norm)
    the input at the output's own place.
    """
    i = op.row.factors[0] if op.live[op.row.factors[0]] else op.row.factors[1]
    if op.row.family == "affine":
        w = torch.ones_like(op.input(next(f for f in op.row.factors if f != i)), dtype=share.dtype)
        ones = torch.ones(op.operand_shape(i), dtype=share.dtype, device=share.device)
        count = cast(Tensor, op.forward(*placed(op, i, ones, w)))
        if op.ledger is not None:  # an output that no input reaches is all bias
            op.book("bias", (share * (count == 0)).sum())
        share = op.pull(quotient(share, count), i, *placed(op, i, None, w))
    made = list(entries)
    c = made[i]
    assert c is None or isinstance(c, Tensor)
    made[i] = Value(share if c is None else op.input(i) * c + share)
    return made


class Signed(Stabilized):
    """Shared by rules whose numerators split by the sign of input, weight and output.

    They need one live factor: products of two live tensors have a rule of their own, and where only
    the added term is live the layer's default applies. ``bias``: as for ``Epsilon``.
    """

    bias: Bias = "absorb"

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        if op.live_factors != 1:
            return op.row.cases[-1][1].coefficient(op, c)
        z = at_least_float32(op.masked_output())
        return self.signed(op, c * z, z)

    def of_value(self, op: Op, r: Tensor) -> Entries:
        if op.live_factors != 1:
            return op.row.cases[-1][1].value(op, r)
        return self.signed(op, r, None)

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        """Entries for relevance ``r`` of the output ``z`` (None: to be asked for)."""
        raise NotImplementedError

    def parts(self, op: Op, r: Tensor) -> tuple[int, Tensor, Tensor, Tensor | None]:
        """Number of the live factor, its value, the weights, the added term, in relevance's dtype."""
        row = op.row
        i, j = row.factors if op.live[row.factors[0]] else row.factors[::-1]
        bias = None if self.bias == "ignore" or row.shift is None else row.shift(op)
        bias = None if bias is None else bias.to(r.dtype)
        return i, op.input(i).to(r.dtype), op.input(j).to(r.dtype), bias

    def split(
        self,
        op: Op,
        r: Tensor,
        i: int,
        x: Tensor,
        up: Callable[[], Tensor],
        down: Callable[[], Tensor],
        bias: Tensor | None,
    ) -> Entries:
        """Entries for numerators ``x+ up() + x- down()`` and ``bias``; the denominator is their sum.

        ``up`` and ``down`` make a copy of the weights each; the second only where x has negative entries.
        """
        negative = x < 0
        signed = bool(negative.any())
        above = up()
        below = down() if signed else above
        z = cast(Tensor, op.forward(*placed(op, i, x.clamp(min=0) if signed else x, above)))
        if signed:
            z = z + cast(Tensor, op.forward(*placed(op, i, x.clamp(max=0), below)))
        s = self.over(op, r, z if bias is None else z + bias)
        c = op.pull(s, i, *placed(op, i, None, above))
        if signed:
            c = torch.where(negative, op.pull(s, i, *placed(op, i, None, below)), c)
        entries: list[Any] = [None] * len(op.edges)
        entries[i] = c
        if bias is None:
            return entries
        if self.bias == "spread" and not op.live_bias:
            return spread(op, entries, s * bias)
        if op.ledger is not None and not op.live_bias:
            op.book("bias", dot(bias, s))
        if op.row.bias is not None and op.wanted[op.row.bias]:
            assert op.row.shift is not None
            whole = cast(Tensor, op.row.shift(op))
            entries[op.row.bias] = op.pull(s * quotient(bias, whole), op.row.bias)
        return entries


def added(first: Entries, second: Entries) -> Entries:
    """The entries of two branches of one rule, added. Both branches use the same form per operand."""
    made: list[Any] = []
    for a, b in zip(first, second):
        if a is None or b is None:
            made.append(a if b is None else b)
        elif isinstance(a, Value) and isinstance(b, Value):
            made.append(Value(a.relevance + b.relevance))
        else:
            made.append(cast(Tensor, a) + cast(Tensor, b))
    return made


class Gamma(Signed):
    """Favours contributions of the output's sign by ``1 + gamma`` (Montavon et al. 2019, table 10.1),

    generalised to signed inputs and outputs: for z > 0 the numerators are
    ``a+ (w + gamma w+) + a- (w + gamma w-)``, for z < 0 ``a+ (w + gamma w-) + a- (w + gamma w+)``,
    the bias likewise; each divided by its own stabilised sum. Relevance of z = 0 is booked. gamma = 0
    is the epsilon rule.
    """

    gamma: float = Field(0.25, ge=0)

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        z = op.output() if z is None else z
        i, x, w, b = self.parts(op, r)
        g = self.gamma

        def up() -> Tensor:
            return w.clamp(min=0).mul_(g).add_(w)

        def down() -> Tensor:
            return w.clamp(max=0).mul_(g).add_(w)

        if op.ledger is not None:
            op.book("zero output", (r * (z == 0)).sum())
        favoured = None if b is None else b + g * b.clamp(min=0)
        entries = self.split(op, torch.where(z > 0, r, 0.0), i, x, up, down, favoured)
        negative = torch.where(z < 0, r, 0.0)
        if bool(negative.any()):
            favoured = None if b is None else b + g * b.clamp(max=0)
            entries = added(entries, self.split(op, negative, i, x, down, up, favoured))
        return entries


class ZPlus(Signed):
    """Only positive contributions: numerators ``a+ w+ + a- w-``, bias ``b+`` (alpha1-beta0).

    Bach et al. 2015, eq. 60 with alpha = 1; for a >= 0 the z+ rule of Montavon et al. 2017. Where no
    contribution is positive, relevance is booked under epsilon.
    """

    def signed(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        i, x, w, b = self.parts(op, r)
        positive = None if b is None else b.clamp(min=0)
        return self.split(op, r, i, x, lambda: w.clamp(min=0), lambda: w.clamp(max=0), positive)


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
        i, x, w, b = self.parts(op, r)

        def up() -> Tensor:
            return w.clamp(min=0)

        def down() -> Tensor:
            return w.clamp(max=0)

        entries = self.split(op, self.alpha * r, i, x, up, down, None if b is None else b.clamp(min=0))
        if self.beta == 0:
            return entries
        negative = None if b is None else b.clamp(max=0)
        return added(entries, self.split(op, -self.beta * r, i, x, down, up, negative))
