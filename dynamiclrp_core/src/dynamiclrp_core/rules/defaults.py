"""The default rule of each family: relevance as coefficients, no activation asked for where none is needed.

Every rule states its theorem. ``J`` is the Jacobian of the node, ``c`` the arriving coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor

from ..errors import Unrecoverable
from ..numerics import dot, quotient, secant, spare, times, vjp
from ..op import Op
from ..rule import Conserves, Entries, Row, Rule, Value
from .euler import Homogeneous as Homogeneous
from .euler import Quotient as Quotient


def book_shift(op: Op, c: Tensor, cause: str) -> None:
    """Book what the constant part of an affine op absorbs: ``sum f(0) * c``."""
    if op.ledger is None or op.row.shift is None:
        return
    try:
        shift = op.row.shift(op)
    except Unrecoverable:
        op.ledger.book_unknown(op.row.node, cause)
        return
    if shift is not None:
        op.book(cause, dot(shift, c))


def book_or_not(op: Op, cause: str, amount: Callable[[], Tensor]) -> None:
    """Book an amount that needs values, or that it could not be had: the books never make a run fail."""
    assert op.ledger is not None
    try:
        op.book(cause, amount())
    except Unrecoverable:
        op.ledger.book_unknown(op.row.node, cause)


class Linear(Rule):
    """``c_in = J^T c`` by the node's own backward: epsilon -> 0 LRP of any op linear in its input.

    Conserves exactly: ``sum x * J^T c = sum (J x) * c = sum y * c``.
    """

    conserves: ClassVar[Conserves] = "exact"

    def is_backward(self, row: Row) -> bool:
        return type(self).coefficient is Linear.coefficient

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return op.backward(*c)


class Moving(Rule):
    """Entries only change place: both forms take the node's own backward (a 0/1 matrix).

    Constants that come in with the move (padding, fill values) absorb what falls on them.
    """

    def is_backward(self, row: Row) -> bool:
        return type(self).coefficient is Moving.coefficient

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if op.ledger is not None and c[0] is not None:
            book_shift(op, c[0], "constants")
        return op.backward(*c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if op.ledger is not None and op.row.shift is not None and r[0] is not None:
            op.book("constants", r[0].sum() - times(self._routed(op), r[0]).sum())
        return [None if e is None else Value(e) for e in op.backward(*r)]

    @staticmethod
    def _routed(op: Op) -> Tensor:
        """1 where an output entry comes from a live operand, 0 where from a constant."""
        zeros = [op.zeros(i) for i in range(len(op.edges))]
        ones = [z + 1 if live else z for z, live in zip(zeros, op.live)]
        difference = cast(Tensor, op.forward(*ones) - op.forward(*zeros))
        return torch.nan_to_num(difference)


class Elementwise(Rule):
    """``c_in = c * (f(x) - f(0)) / x``, its limit f'(0) at 0; ``f(0) * c`` is absorbed (constants).

    With f(0) infinite, ``f(x)/x``. Where f(0) = 0 relevance itself passes unchanged (value form).
    """

    masks: ClassVar[bool] = True

    def is_backward(self, row: Row) -> bool:
        own = type(self).coefficient is Elementwise.coefficient
        return bool(own and row.slope is None and row.degree == 1.0)

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        row = op.row
        if row.slope is None and row.degree == 1.0:
            return op.backward(ci)
        slope = self._secant(op) if row.slope is None else row.slope(op)
        if op.ledger is not None:
            self._book_offset(op, ci, slope)
        own = spare(slope, ci)
        return [torch.mul(ci, slope.conj(), out=own), *[None] * (len(op.edges) - 1)]

    @staticmethod
    def _book_offset(op: Op, c: Tensor, slope: Tensor) -> None:
        """What f(0) absorbs. An infinite x (a mask) takes nothing, slope 0: there f(x) is all of it."""
        assert op.ledger is not None
        offset = op.offset
        if not offset or not math.isfinite(offset):
            return
        flat = (slope == 0) & (c != 0)
        op.book("constants", offset * torch.where(flat, 0.0, c).real.sum(dtype=torch.float64))
        if bool(flat.any()):
            book_or_not(op, "constants", lambda: dot(op.output(), torch.where(flat, c, 0.0)))

    @staticmethod
    def _secant(op: Op) -> Tensor:
        """The slope from the row's forward, for rows that give none."""
        x = op.input(0)
        at_zero, pull = vjp(op.forward, torch.zeros((), dtype=x.dtype, device=x.device))
        if not math.isfinite(op.offset):
            return quotient(cast(Tensor, op.forward(x)), x)
        return secant(cast(Tensor, op.forward(x)) - at_zero, x, pull(torch.ones_like(at_zero))[0])

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        offset = op.offset
        turns = op.dtype.is_complex  # a complex slope mixes the parts
        if not turns and (offset == 0 or not math.isfinite(offset)):
            return [Value(self.only(r)), *[None] * (len(op.edges) - 1)]
        return super().value(op, *r)


class Adding(Rule):
    """``c`` to every term, times its factor: the ratio rule ``R_i = t_i / sum(t) * R``."""

    def is_backward(self, row: Row) -> bool:
        return type(self).coefficient is Adding.coefficient

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None:
            self._book_constants(op, ci)
        if ci.dtype == op.dtype:
            return op.sweep.call(op.node, c)  # a sum's own backward copies nothing
        assert op.row.weights is not None
        return [ci * w if wanted else None for w, wanted in zip(op.row.weights(op), op.wanted)]

    @staticmethod
    def _book_constants(op: Op, c: Tensor) -> None:
        assert op.ledger is not None and op.row.weights is not None
        book_shift(op, c, "constants")
        for i, (w, live) in enumerate(zip(op.row.weights(op), op.live)):
            if not live:
                book_or_not(op, "constants", lambda i=i, w=w: dot(w * op.input(i), c))  # type: ignore[misc]


class Affine(Rule):
    """``c_in = J^T c`` for the one live factor; the added term (bias) absorbs ``sum bias * c``."""

    def is_backward(self, row: Row) -> bool:
        # Of a norm only its ``pull`` is: torch's backward does not hold the scale.
        return type(self).coefficient is Affine.coefficient and row.pull is not None

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        self._book_constants(op, ci)
        return op.pulls(ci)

    def _book_constants(self, op: Op, c: Tensor) -> None:
        if op.ledger is None:
            return
        if op.live_factors == 0:
            self._book_factors(op, c)
            return
        book_shift(op, c, "bias")
        bias = op.row.bias
        if op.live_bias and bias is not None:  # takes its share instead
            book_or_not(op, "bias", lambda: -dot(op.input(bias), op.pull(c, bias)))

    @staticmethod
    def _book_factors(op: Op, c: Tensor) -> None:
        """Only the added term is live: the product of the constant factors absorbs."""

        def absorbed() -> Tensor:
            factors = (None if i == op.row.bias else x for i, x in enumerate(op.inputs()))
            return dot(op.forward(*factors), c)

        book_or_not(op, "constants", absorbed)


class Product(Affine):
    """Gradient over the number k of live factors: each takes 1/k (AttnLRP, propositions 3.2 and 3.3)."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        k, bias = op.live_factors, op.row.bias
        if k < 2:
            return super().coefficient(op, *c)
        ci = self.only(c)
        self._book_constants(op, ci)
        # Divided in their own memory: c / k would be one tensor more where a gated product is the peak.
        return [
            e if e is None or i == bias else torch.div(e, k, out=spare(e)) for i, e in enumerate(op.pulls(ci))
        ]


class Gradient(Rule):
    """The plain gradient. For softmax this is the AttnLRP rule (arXiv 2402.05602, proposition 3.1).

    Not conserving: books ``sum y*c - sum x*c_in``, for softmax ``sum R - sum R_i (x_i - E_p[x])``.
    """

    cause: ClassVar[str] = "softmax"

    def is_backward(self, row: Row) -> bool:
        return type(self).coefficient is Gradient.coefficient

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        entries = op.backward(*c)
        self._book(op, c, entries)
        return entries

    def _book(self, op: Op, c: Sequence[Tensor | None], entries: Sequence[Tensor | None]) -> None:
        """What the gradient does not carry on, under ``cause``."""
        if op.ledger is None:
            return
        try:
            for nr, ci in enumerate(c):
                if ci is not None:
                    op.book(self.cause, dot(op.output(nr), ci))
            for i, e in enumerate(entries):
                if e is not None and op.live[i]:
                    op.book(self.cause, -dot(op.input(i), e))
        except Unrecoverable:
            op.ledger.book_unknown(op.row.node, self.cause)


class Stop(Rule):
    """Nothing passes: sources, comparisons, indices. All that arrives is booked as stopped."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if op.ledger is not None:
            for nr, ci in enumerate(c):
                if ci is not None:
                    book_or_not(op, "stopped", lambda nr=nr, ci=ci: dot(op.output(nr), ci))  # type: ignore[misc]
        return [None] * len(op.edges)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if op.ledger is not None:
            for ri in r:
                if ri is not None:
                    op.book("stopped", ri.sum())
        return [None] * len(op.edges)


class Pass(Rule):
    """Relevance passes unchanged to the only live operand, whatever the op does (value form)."""

    conserves: ClassVar[Conserves] = "exact"

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        return [Value(ri) if live else None for live in op.live]
