"""Secants from 0 beyond functions of one entry: of one operand among several, and along the ray from 0."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..numerics import dot, secant, vjp
from ..op import Op
from ..rule import Entries, Entry, Rule


class SecantIn(Rule):
    """An elementwise f of several operands as a function of one: ``c (f - f(0)) / x``, the rest held.

    ``order``: the first live operand in it takes all; f(0), the value at 0 of that operand, absorbs. An
    infinite f(0) counts as 0 (see Elementwise).
    """

    order: tuple[int, ...] = (0, 1)

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        taking = op.takes
        i = next(i for i in self.order if taking[i])
        x, others = op.input(i), op.inputs()

        def f(z: Tensor) -> Tensor:
            return cast(Tensor, op.forward(*others[:i], z, *others[i + 1 :]))

        wide = x.expand(op.shape)
        at_zero, pull = vjp(f, torch.zeros_like(wide))
        limit: float | Tensor = 0.0
        if bool((wide == 0).any()):
            limit = pull(torch.ones_like(at_zero))[0].nan_to_num(0.0, 0.0, 0.0)
        # There are two zeros, and a jump may lie between them.
        at_zero = torch.where(wide == 0, f(wide), at_zero).nan_to_num(0.0, 0.0, 0.0)
        if op.ledger is not None:
            op.book("constants", dot(at_zero, ci))
        entries: list[Entry] = [None] * len(op.edges)
        entries[i] = ci * secant(f(wide) - at_zero, wide, limit)
        return entries


class Ray(Rule):
    """``c_i = int_0^1 J(t x)^T c dt`` over the live operands: the secant from 0 of what mixes entries.

    ``sum x_i c_i = (f(x) - f(0)) c`` by the fundamental theorem of calculus, and for an elementwise f it
    is the secant (Aumann-Shapley; integrated gradients from 0, Sundararajan et al. 2017, eq. 1). f(0)
    absorbs. Gauss-Legendre on ``points`` nodes: exact for polynomials of degree < 2 points.
    """

    points: int = 24

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        at = op.inputs()
        which = [i for i, takes in enumerate(op.takes) if takes]

        def f(*x: Tensor) -> Tensor:
            operands = list(at)
            for i, xi in zip(which, x):
                operands[i] = xi
            return cast(Tensor, op.forward(*operands))

        live = [cast(Tensor, at[i]) for i in which]
        if op.ledger is not None:
            op.book("constants", dot(f(*(torch.zeros_like(x) for x in live)), ci))
        total = [torch.zeros_like(x) for x in live]
        nodes, weights = np.polynomial.legendre.leggauss(self.points)
        for t, w in zip((nodes + 1) / 2, weights / 2):
            _, pull = vjp(f, *(x * t for x in live))
            total = [a + w * g for a, g in zip(total, pull(ci))]
        entries: list[Entry] = [None] * len(op.edges)
        for i, a in zip(which, total):
            entries[i] = a
        return entries
