"""Norms whose mean is held constant too, or that relevance passes unchanged: fused and by hand alike.

By default only the scale of a norm is held, and centring by the mean is linear. What differs is thus the
difference ``x - mean(x)`` that is then divided by a scale of x; norms without one (RMS, L2) are the same
under all variants. A fused norm is taken apart and swept, so that both spellings get one map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from dynamiclrp_core.matching.matchers import statistic
from dynamiclrp_core.matching.regions import chain, is_move, is_scaling
from dynamiclrp_core.numerics import at_least_float32, dot
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Rule, Value
from dynamiclrp_core.rules.defaults import book_or_not, book_shift
from dynamiclrp_core.rules.scalar_function import Held
from dynamiclrp_core.subgraph import StandIn, SubGraph
from torch import Tensor

from .norm import dims_of, eps_of

Variant = Literal["statistics", "identity"]


class HeldNorm(Held):
    """``x * s(x)``, ``x / s(x)``: the scale is held, and the mean in ``x`` is as ``variant`` says."""

    variant: Variant

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        self._hold_mean(op)
        return super().coefficient(op, *c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        self._hold_mean(op)
        return [Value(self.only(r)) if i == op.match else None for i in range(len(op.edges))]

    def _hold_mean(self, op: Op) -> None:
        found = _centring(op)
        if found is not None:
            difference, x = found
            op.sweep.assign(difference.node, Centred(variant=self.variant, x=x))


class Centred(Rule):
    """``x - mean(x)`` within a norm, x being term number ``x``.

    ``"statistics"``: the mean is a constant, ``c_x = c``, and absorbs ``-mean(x) c`` (LRP-0).
    ``"identity"``: ``R_x = R`` (DynamicLRP, arXiv 2512.07010).
    """

    variant: Variant
    x: int

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if self.variant == "identity":
            return super().coefficient(op, *c)
        ci = self.only(c)
        assert op.row.weights is not None
        weights = op.row.weights(op)
        if op.ledger is not None:
            mean = 1 - self.x
            book_or_not(op, "mean", lambda: dot(op.input(mean) * weights[mean], ci.expand(op.shape)))
        return [ci * weights[i] if i == self.x else None for i in range(2)]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if self.variant == "statistics":
            return super().value(op, *r)
        return [Value(self.only(r)) if i == self.x else None for i in range(2)]


def _centring(op: Op) -> tuple[Op, int] | None:
    """The sum ``x - mean(x)`` that the normalised operand of ``op`` is made of, and x's number in it."""
    difference = chain(op, op.edges[op.match], _is_plain).end
    if difference is None or difference.row.family != "adding" or difference.live != (True, True):
        return None
    for x in (0, 1):
        to_mean = chain(difference, difference.edges[1 - x], _is_plain)
        mean = to_mean.end
        if mean is None or not (mean.row.family == "linear" or to_mean.tensors[-1][1] in mean.row.straight):
            continue
        sources = chain(difference, difference.edges[x], is_move).tensors
        if mean.row.reduces and any(t in sources for t in chain(mean, mean.edges[0], is_move).tensors):
            return difference, x
    return None


def _is_plain(op: Op) -> bool:
    return is_move(op) or is_scaling(op)


class SpelledNorm(SubGraph):
    """A fused norm as the ops it is made of, without the added term: of a bias, ``"statistics"`` books the
    share ``b c``, and ``"identity"`` gives it none. Norms by statistics that are constants (batch norm in
    evaluation), and norms with other live operands, take ``rule``, or without one the row's own.
    """

    variant: Variant
    rule: Rule | None = None

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if not self._applies(op):
            return (self.rule or op.row.cases[-1][1]).coefficient(op, *c)
        if self.variant == "identity":
            return Rule.coefficient(self, op, *c)
        book_shift(op, self.only(c), "bias")
        return super().coefficient(op, *c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if not self._applies(op):
            return (self.rule or op.row.cases[-1][1]).value(op, *r)
        return super().value(op, *r) if self.variant == "identity" else Rule.value(self, op, *r)

    @staticmethod
    def _applies(op: Op) -> bool:
        return op.live[0] and not any(op.live[1:]) and bool(getattr(op.saved, "training", True))

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        x, weight = stand_in(at_least_float32(op.input(0)), True), op.optional(1)
        made = self.spelled(op, x, None if weight is None else stand_in(weight, False))
        return (made,), [x, *[None] * (len(op.edges) - 1)]

    @staticmethod
    def spelled(op: Op, x: Tensor, weight: Tensor | None) -> Tensor:
        """The norm in steps: not by the row's forward, which may fold the mean into an added term."""
        s = op.saved
        if op.row.node == "NativeLayerNormBackward0":
            y = _normalised(x, dims_of(op), eps_of(op))
        elif op.row.channelwise is not None:
            eps = s.eps if hasattr(type(op.node), "_saved_eps") else s.epsilon
            y = _normalised(x, (0, *range(2, x.dim())), eps)
        elif op.row.node == "NativeGroupNormBackward0":
            y = _normalised(x.reshape(s.N, s.group, -1), (2,), s.eps).view(x.shape)
        else:  # without a mean
            made: Tensor = op.forward(x, weight)
            return made
        if weight is None:
            return y
        per_channel = op.row.node != "NativeLayerNormBackward0"
        return y * (weight.view(-1, *[1] * (x.dim() - 2)) if per_channel else weight)


def _normalised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()


class NormBias(Rule):
    """``rule``, but a constant that is added to a norm takes nothing: ``"identity"`` for a bias by hand.

    ``rule=None``: the row's own.
    """

    rule: Rule | None = None

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if self._is_bias(op):
            return super().coefficient(op, *c)
        return self._other(op).coefficient(op, *c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if self._is_bias(op):
            return [Value(self.only(r)) if live else None for live in op.live]
        return self._other(op).value(op, *r)

    def _other(self, op: Op) -> Rule:
        return self.rule or op.row.cases[-1][1]

    @staticmethod
    def _is_bias(op: Op) -> bool:
        if sum(op.live) != 1:
            return False
        norm = chain(op, op.edges[op.live.index(True)], _is_plain).end
        if norm is None:
            return False
        if norm.row.family == "norm":
            bias = norm.row.bias
            return bias is None or (norm.edges[bias][0] is None and norm.optional(bias) is None)
        return norm.row.family in ("product", "quotient") and statistic(norm) is not None


def norm_rules(variant: Variant, stabilized: Rule | None) -> dict[str, Rule]:
    """Rules by family and case; ``stabilized``: the rule of other norms and sums, None: their own."""
    rules: dict[str, Rule] = {"norm": SpelledNorm(variant=variant, rule=stabilized)}
    rules |= dict.fromkeys(("product__statistic", "quotient__statistic"), HeldNorm(variant=variant))
    return rules | ({"adding": NormBias(rule=stabilized)} if variant == "identity" else {})
