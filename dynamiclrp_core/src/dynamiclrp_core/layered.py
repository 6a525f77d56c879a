"""Rules of the field for layers: epsilon, gamma, z+ and the paper's epsilon with a shared bias.

All give coefficients. Even gamma and z+ have one: their numerators split by the sign of the input,
``R_i = a_i+ u_i + a_i- v_i``, which is ``a_i * (u_i where a_i > 0, v_i elsewhere)``: no division by a.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from .defaults import Affine
from .numerics import at_least_float32, dot, quotient, stabilize
from .op import Op
from .rule import Entries, Rule

Bias = Literal["absorb", "share"]
Constants = Literal["absorb", "pass"]


class Epsilon(Rule):
    """``R_i = x_i sum_j w_ij R_j / (z_j + epsilon sign(z_j))``, Bach et al. 2015, eq. 58.

    For any op that is affine in its live operands: layers, norms, sums, poolings. ``epsilon`` in the
    units of z. ``bias="absorb"``: an added term takes its share and keeps it. ``bias="share"``: it
    is first an add of its own by absolute ratio (DynamicLRP), so it takes ``|b| / (|b| + |z - b|)``.
    ``constants="pass"`` gives an untracked added term no share at all: all goes to the rest, and the
    term need not be known (where a coefficient arrives, the output must be).
    """

    epsilon: float = Field(1e-6, ge=0)
    bias: Bias = "absorb"
    constants: Constants = "absorb"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        plain = self.epsilon == 0 and self.bias == "absorb" and not self._passes(op)
        if plain and not op.raised:
            return self._step(op, ci)
        z = at_least_float32(op.masked_output())
        return self._stabilized(op, ci * z, None if op.raised else z)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return self._stabilized(op, self.only(r), None)

    def _stabilized(self, op: Op, r: Tensor, z: Tensor | None) -> Entries:
        if self._passes(op):
            z = cast(Tensor, op.forward(*self._without_bias(op)))
            return self._divided(op, r, z, Affine.linear_step)
        z = op.output() if z is None else z
        if self.bias == "absorb" or op.row.bias is None or op.row.shift is None or op.live_bias:
            return self._divided(op, r, z, self._step)
        shift = op.row.shift(op)
        if shift is None:
            return self._divided(op, r, z, Affine.linear_step)
        z = z - shift
        both = z.abs() + shift.abs()
        share = torch.where(both == 0, 1.0, z.abs() / torch.where(both == 0, 1.0, both))
        if op.ledger is not None:
            op.book("bias", (r * (1 - share)).sum())
        return self._divided(op, r * share, z, Affine.linear_step)

    def _divided(self, op: Op, r: Tensor, z: Tensor, step: Callable[[Op, Tensor], Entries]) -> Entries:
        s = r / stabilize(z, self.epsilon) if self.epsilon else quotient(r, z)
        if op.ledger is not None:
            op.book("epsilon", r.sum(dtype=torch.float64) - dot(z, s))
        return step(op, s)

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


class _Signed(Rule):
    """Shared by rules whose numerators split by the sign of input, weight and output.

    They need one live factor: products of two live tensors have a rule of their own, and where only
    the added term is live the layer's default applies.
    """

    epsilon: float = Field(1e-6, ge=0)
    zero_bias: bool = False

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.live_factors != 1:
            return op.row.cases[-1][1].coefficient(op, ci)
        z = at_least_float32(op.masked_output())
        return self._signed(op, ci * z, z)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if op.live_factors != 1:
            return super().value(op, *r)
        return self._signed(op, self.only(r), op.output())

    def _signed(self, op: Op, r: Tensor, z: Tensor) -> Entries:
        raise NotImplementedError

    def _parts(self, op: Op, r: Tensor) -> tuple[int, Tensor, Tensor, Tensor | None]:
        """Number of the live factor, its value, the weights, the added term, in relevance's dtype."""
        row = op.row
        i, j = row.factors if op.live[row.factors[0]] else row.factors[::-1]
        bias = None if self.zero_bias or row.shift is None else row.shift(op)
        bias = None if bias is None else bias.to(r.dtype)
        return i, op.input(i).to(r.dtype), op.input(j).to(r.dtype), bias

    def _split(
        self,
        op: Op,
        r: Tensor,
        i: int,
        x: Tensor,
        up: Callable[[], Tensor],
        down: Callable[[], Tensor],
        bias: tuple[Tensor, Tensor] | None,
    ) -> list[Tensor | None]:
        """Coefficients for numerators ``x+ up() + x- down()`` and, of the bias, ``factor * bias``.

        ``bias``: the added term and its factor. The denominator is the sum of the numerators.
        """
        signed = bool((x < 0).any())
        z = cast(Tensor, op.forward(*_placed(op, i, x.clamp(min=0) if signed else x, up())))
        if signed:
            z = z + cast(Tensor, op.forward(*_placed(op, i, x.clamp(max=0), down())))
        whole = z if bias is None else z + bias[0] * bias[1]
        s = r / stabilize(whole, self.epsilon) if self.epsilon else quotient(r, whole)
        if op.ledger is not None:
            op.book("epsilon", (r - s * whole).sum())
            if bias is not None and not op.live_bias:
                op.book("bias", dot(bias[0] * bias[1], s))
        c = op.pull(s, i, *_placed(op, i, None, up()))
        if signed:
            c = torch.where(x < 0, op.pull(s, i, *_placed(op, i, None, down())), c)
        entries: list[Tensor | None] = [None] * len(op.edges)
        entries[i] = c
        if bias is not None and op.row.bias is not None and op.wanted[op.row.bias]:
            entries[op.row.bias] = op.pull(s * bias[1], op.row.bias)
        return entries


def _placed(op: Op, i: int, x: Tensor | None, w: Tensor) -> list[Tensor | None]:
    """Operands of ``op``: x as factor i, w as the other, no added term."""
    operands: list[Tensor | None] = [None] * len(op.edges)
    operands[i] = x
    operands[next(f for f in op.row.factors if f != i)] = w
    return operands


class Gamma(_Signed):
    """Favours contributions of the output's sign by ``1 + gamma`` (Montavon et al. 2019, table 10.1),

    generalised to signed inputs and outputs: for z > 0 the numerators are
    ``a+ (w + gamma w+) + a- (w + gamma w-)``, for z < 0 ``a+ (w + gamma w-) + a- (w + gamma w+)``,
    the bias likewise; each divided by its own stabilised sum. Relevance of z = 0 is booked. gamma = 0
    is the epsilon rule.
    """

    gamma: float = Field(0.25, ge=0)

    def _signed(self, op: Op, r: Tensor, z: Tensor) -> Entries:
        i, x, w, b = self._parts(op, r)
        g = self.gamma

        # Made when needed and not kept: one copy of the weights at a time.
        def up() -> Tensor:
            return w.clamp(min=0).mul_(g).add_(w)

        def down() -> Tensor:
            return w.clamp(max=0).mul_(g).add_(w)

        favoured = None if b is None else (b, 1 + g * (b > 0).to(b))
        if op.ledger is not None:
            op.book("zero output", (r * (z == 0)).sum())
        entries = self._split(op, torch.where(z > 0, r, 0.0), i, x, up, down, favoured)
        negative = torch.where(z < 0, r, 0.0)
        if bool(negative.any()):
            favoured = None if b is None else (b, 1 + g * (b < 0).to(b))
            also = self._split(op, negative, i, x, down, up, favoured)
            entries = [e if a is None or e is None else e + a for e, a in zip(entries, also)]
        return entries


class ZPlus(_Signed):
    """Only positive contributions: numerators ``a+ w+ + a- w-``, bias ``b+`` (alpha1-beta0).

    Bach et al. 2015, eq. 60 with alpha = 1; for a >= 0 the z+ rule of Montavon et al. 2017. Where no
    contribution is positive, relevance is booked under epsilon.
    """

    def _signed(self, op: Op, r: Tensor, z: Tensor) -> Entries:
        i, x, w, b = self._parts(op, r)
        positive = None if b is None else (b, (b > 0).to(b))
        return self._split(op, r, i, x, lambda: w.clamp(min=0), lambda: w.clamp(max=0), positive)
