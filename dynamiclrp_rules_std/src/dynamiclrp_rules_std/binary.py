"""Functions of two and three tensors, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from dynamiclrp_core.errors import Unrecoverable
from dynamiclrp_core.families import affine, composite, custom, elementwise, homogeneous, softmax
from dynamiclrp_core.numerics import dot, quotient, secant
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Entry, Row, Rule
from dynamiclrp_core.rules.secants import SecantIn
from torch import Tensor

from .reduce import TheLarger


def _book(op: Op, *terms: Callable[[], Tensor]) -> None:
    """Book what constant terms absorb, each the product of a value and a coefficient."""
    if op.ledger is None:
        return
    try:
        for term in terms:
            op.book("constants", term())
    except Unrecoverable:
        op.ledger.book_unknown(op.row.node, "constants")


class Lerp(Rule):
    """``y = start + w (end - start)``: c to start, and of the product c/k to each live factor.

    Without a live w both terms are weighed by constants; with one, k is 2 (AttnLRP 2402.05602, proposition
    3.2), or 1 if w alone is live.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        inner = op.live[0] or op.live[1]
        share = ci / 2 if op.live[2] and inner else ci
        entries: list[Entry] = [None, None, None]
        start = ci - share * op.input(2) if inner else ci
        if op.wanted[0]:
            entries[0] = start
        if op.wanted[1]:
            entries[1] = share * op.input(2)
        if op.wanted[2]:
            entries[2] = share * (op.input(1) - op.input(0))
        if not op.live[0]:
            _book(op, lambda: dot(op.input(0), start))
        if inner and not op.live[1]:
            _book(op, lambda: dot(op.input(1), share * op.input(2)))
        return entries


class AddedQuotient(Rule):
    """``y = self + value * a / b``: c to self, the quotient's to its numerator (see Quotient)."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        below = ci * op.saved.value / op.input(2)
        entries: list[Entry] = [ci if op.wanted[0] else None, None, None]
        if op.wanted[1]:
            entries[1] = below
        if op.wanted[2] and not op.live[1]:
            entries[2] = below * op.input(1) / op.input(2)
        if not op.live[0]:
            _book(op, lambda: dot(op.input(0), ci))
        if not (op.live[1] or op.live[2]):
            _book(op, lambda: dot(op.input(1), below))
        return entries


def _addcmul(op: Op, added: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    z = a * b * op.saved.value
    return z if added is None else added + z


def _pull_addcmul(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    return c if i == 0 else c * op.saved.value * at(3 - i)


def xlog(f: Callable[[Tensor], Tensor]) -> Callable[[Op, Tensor, Tensor], Tensor]:
    """x f(y), and 0 where x is."""

    def forward(op: Op, x: Tensor, y: Tensor) -> Tensor:
        return x * f(torch.where(x == 0, 1.0, y))

    return forward


def _clamped(op: Op, x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """What is within its bounds, and at them, stays itself (torch.maximum would share it with the bound)."""
    x = x if low is None else torch.where(x < low, low, x)
    return x if high is None else torch.where(x > high, high, x)


def _modulo(node: str, f: Callable[..., Tensor]) -> Any:
    return elementwise(
        node,
        forward=lambda op, x: f(x, op.constant("other")),
        slope=lambda op: secant(op.output(), op.input(0), 1.0),
    )


def _remainder(op: Op, x: Tensor, y: Tensor) -> Tensor:
    """``x - y floor(x / y)``. Torch takes the exact quotient: one that rounds up to the next is not that."""
    rounded = x / y
    exact = ((x - torch.remainder(x, y)) / y).round()
    return x - y * (rounded * quotient(exact, rounded).detach()).round()


def _larger(node: str, operands: str, function: Callable[..., Tensor], sign: int = 1) -> Row:
    return custom(
        node, TheLarger(sign=sign), operands, family="entrywise", forward=lambda op, a, b: function(a, b)
    )


ROWS = (
    # -- sums with a product in them ----------------------------------------------------------------
    affine("AddcmulBackward0", "self tensor1 tensor2", factors=(1, 2), bias=0, forward=_addcmul,
        pull=_pull_addcmul, shift=lambda op: op.input(0), times=lambda op: op.saved.value),
    custom("AddcdivBackward0", AddedQuotient(), "self tensor1 tensor2",
        forward=lambda op, added, a, b: added + op.saved.value * a / b),
    custom("LerpBackward1", Lerp(), "self end weight",
        forward=lambda op, start, end, weight: start + weight * (end - start)),
    # -- homogeneous in both, and log-sums ----------------------------------------------------------
    homogeneous("HypotBackward0", "self other", degree=1.0, results="result",
        forward=lambda op, x, y: torch.hypot(x, y)),
    softmax("LogaddexpBackward0", "self other", forward=lambda op, x, y: torch.logaddexp(x, y)),
    softmax("Logaddexp2Backward0", "self other", forward=lambda op, x, y: torch.logaddexp2(x, y)),
    # -- a secant in one operand, the other held ----------------------------------------------------
    # The base before the exponent, the numerator of the angle before its denominator.
    custom("PowBackward1", SecantIn(), "self exponent", results="result", forward=lambda op, x, y: x**y),
    custom("Atan2Backward0", SecantIn(), "self other", forward=lambda op, y, x: torch.atan2(y, x)),
    custom("CopysignBackward0", SecantIn(), "self other", results="result",
        forward=lambda op, x, y: torch.copysign(x, y)),
    # torch differentiates these in their argument only, not in the parameter that comes first.
    custom("IgammaBackward0", SecantIn(order=(1, 0)), "self other",
        forward=lambda op, a, x: torch.igamma(a, x)),
    custom("IgammacBackward0", SecantIn(order=(1, 0)), "self other",
        forward=lambda op, a, x: torch.igammac(a, x)),
    custom("SpecialZetaBackward0", SecantIn(order=(1, 0)), "self other",
        forward=lambda op, x, q: torch.special.zeta(x, q)),
    _modulo("RemainderBackward0", torch.remainder),
    _modulo("FmodBackward0", torch.fmod),
    # -- made of other ops --------------------------------------------------------------------------
    composite("RemainderBackward1", "self other", forward=_remainder),
    composite("FmodBackward1", "self other", forward=lambda op, x, y: x - y * (x / y).trunc()),
    composite("LdexpBackward0", "self other", results="result",
        forward=lambda op, x, y: x * torch.exp2(y)),
    composite("XlogyBackward0", "self other", forward=xlog(torch.log)),
    composite("SpecialXlog1PyBackward0", "self other", forward=xlog(torch.log1p)),
    # -- the larger, the smaller --------------------------------------------------------------------
    _larger("FmaxBackward0", "self other", torch.fmax),
    _larger("FminBackward0", "self other", torch.fmin, -1),
    composite("ClampBackward0", "self min max", optional=(1, 2), forward=_clamped),
    custom("ClampMinBackward1", TheLarger(tie=1), "self min", family="entrywise",
        forward=lambda op, x, low: _clamped(op, x, low, None)),
    custom("ClampMaxBackward1", TheLarger(sign=-1, tie=1), "self max", family="entrywise",
        forward=lambda op, x, high: _clamped(op, x, None, high)),
)  # fmt: skip
