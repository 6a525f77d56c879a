"""A layer at other weights, without a copy of large ones; its bias spread over its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import cast

import torch
from torch import Tensor

from ..numerics import quotient, spare
from ..op import Op
from ..rule import Entries, Value
from .merged import Merged, placed, weights


def any_negative(x: Tensor) -> bool:
    """Whether an entry is below 0."""
    return x.numel() > 0 and bool(x.amin() < 0)


class Weighed:
    """The linear part of ``op`` in its factor ``i``, at ``f`` of its weights.

    ``f`` works entry by entry and is linear on either side of 0. So ``f(k w) = k f(w)`` for k >= 0: of a
    layer merged with a norm it needs the layer's own weights, and outputs (or inputs) are scaled instead.

    A large matrix product is worked off a few columns of the weights at a time (rows, if they are its
    first factor): what f makes of them stays in the cache, and there is never a copy of all of them.
    """

    def __init__(self, op: Op, i: int, f: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        self.op, self.i, self.f = op, i, f
        self.merged = op if isinstance(op, Merged) else None
        w = weights(op if self.merged is None else self.merged.layer, i).to(dtype)
        if self.merged is not None and any_negative(self.merged.scale):
            w = self.merged.weights(w, self.merged.scale.sign())
        self.w = w
        # About the size of a cache; where launching a kernel costs more than reading that much, more.
        self.most = 2**21 if w.device.type == "cpu" else 2**28
        self.size = w.numel() * w.element_size()
        self.dim, self.inner = (-1, -2) if i == op.row.factors[0] else (-2, -1)
        self.whole = None if op.row.columns and self.size > self.most else f(w)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for ``x``, without the added term."""
        if self.merged is None:
            return self._forward(x)
        k = self.merged.scale.abs()
        if self.merged.before:
            return self._forward(self.merged.scaled(x, k))
        return self.merged.scaled(self._forward(x), k, own=True)

    def pull(self, s: Tensor) -> Tensor:
        """The gradient of the factor for ``s``, in the output's shape."""
        if self.merged is None:
            return self._pull(s)
        k = self.merged.scale.abs()
        if self.merged.before:
            return self.merged.scaled(self._pull(s), k, own=True)
        return self._pull(self.merged.scaled(s, k))

    def _forward(self, x: Tensor) -> Tensor:
        if self.whole is not None:
            return cast(Tensor, self.op.forward(*placed(self.op, self.i, x, self.whole)))
        rows = x.numel() // self.w.shape[self.inner]
        made = [self.op.forward(*placed(self.op, self.i, x, w)) for w, _ in self._pieces(rows)]
        return torch.cat(made, self.dim)

    def _pull(self, s: Tensor) -> Tensor:
        if self.whole is not None:
            return self.op.pull(s, self.i, *placed(self.op, self.i, None, self.whole))
        rows = s.numel() // self.w.shape[self.dim]
        parts = (
            self.op.pull(s.narrow(*at), self.i, *placed(self.op, self.i, None, w))
            for w, at in self._pieces(rows)
        )
        total = next(parts)
        for part in parts:
            total = torch.add(total, part, out=spare(total))
        return total

    def _pieces(self, rows: int) -> Iterator[tuple[Tensor, tuple[int, int, int]]]:
        # With as many columns as there are rows, it is no longer the weights that take the time.
        columns = self.w.shape[self.dim]
        n = max(columns * self.most // self.size, rows, 1)
        for start in range(0, columns, n):
            at = (self.dim, start, min(n, columns - start))
            yield self.f(self.w.narrow(*at)), at


def beside(op: Op, entries: Entries, z: Tensor, shift: Tensor, *factors: Tensor) -> Entries:
    """``entries`` and, if a read-out asks for it, the added term's share by size of the output ``z``.

    ``|b| / (|b| + |z - b|) r``, where r is the product of ``factors``.
    """
    bias = op.row.bias
    if bias is None or not op.wanted[bias]:
        return entries
    share = quotient(shift.sign(), shift.abs() + (z - shift).abs())
    made = list(entries)
    made[bias] = op.pull(reduce(torch.mul, factors, share), bias)
    return made


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
