"""In-place writes into views: autograd's CopySlices and CopyBackwards."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from .errors import MissingRule, Unrecoverable
from .node import kind, metadata
from .numerics import dot
from .op import Op
from .rule import Entries, Rule, Value
from .rules.defaults import book_or_not


class SliceWrite(Rule):
    """``base[view] = value`` and the like: routing, if that is what the write was.

    Autograd hides the inner op of CopySlices but lets it be called. For a seed of ones, the gradient
    to the base is 0 or 1 everywhere for copy_, fill_, add_ and relu_, whose rule is that gradient; for
    mul_, div_, pow_ it is something else, and the op must be known.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        shares = write_shares(op)
        if op.ledger is not None:
            self._book_constants(op, ci, shares)
        return routed(op, ci)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        if not is_copy(op, write_shares(op)) or not all(op.live):
            return super().value(op, ri)
        return [None if e is None else Value(e) for e in routed(op, ri)]

    @staticmethod
    def _book_constants(op: Op, c: Tensor, shares: tuple[Tensor | None, ...]) -> None:
        """What stands in the output and comes from no live operand, entry by entry."""
        base = shares[0] if op.live[0] and shares[0] is not None else torch.zeros_like(c)
        live_value = len(op.edges) > 1 and op.live[1]
        adds = op.live[0] and len(op.edges) > 1 and bool((base == 1).all())

        def amount() -> Tensor:
            if op.sweep.values.recorded_name(op) == "Fill":
                value = torch.as_tensor(op.constant("value"), dtype=c.dtype, device=c.device)
                return dot(value * (1 - base), c)
            if adds:  # add_ of a constant: what the write added to the base
                return dot(op.output() - op.input(0), c)
            if live_value and is_added(op):  # what stood in the base is the rest
                return dot(op.output(), c) - dot(op.input(1), cast(Tensor, routed(op, c)[1]))
            covered = base + value_places(op, op.operand_shape(1))[1] if live_value else base
            rest = c * (1 - covered)
            # A buffer that later writes cover again holds nothing that counts, whatever stood there.
            return dot(op.output(), rest) if bool(rest.any()) else rest.sum()

        if not (live_value and op.live[0] and (adds or is_copy(op, shares))):
            book_or_not(op, "constants", amount)


def routed(op: Op, c: Tensor) -> list[Tensor | None]:
    """The node's own backward, in any dtype: pieces that its dtype holds exactly, added up."""
    total: list[Tensor | None] = [None] * len(op.edges)
    rest = c
    for _ in range(12):
        piece = rest.to(op.dtype)
        parts = op.sweep.call(op.node, [piece])
        total = [
            p if t is None or p is None else t + p.to(c.dtype)
            for t, p in zip(total, (None if p is None else p.to(c.dtype) for p in parts))
        ]
        rest = rest - piece.to(c.dtype)
        if not bool(rest.any()):
            break
    return total


def write_shares(op: Op) -> tuple[Tensor | None, ...]:
    """The node's gradient for a seed of ones. Raises MissingRule if the base's is not 0 or 1."""
    ones = torch.ones(op.shape, dtype=op.dtype, device=metadata(op.node)[0].device)
    shares = op.sweep.call(op.node, [ones])
    base = shares[0]
    if base is not None and not bool(((base == 0) | (base == 1)).all()):
        raise MissingRule(
            f"{kind(op.node)}: an in-place write into a view (output shape {tuple(op.shape)}) that "
            "multiplies or maps what stood there (mul_, div_, pow_, sigmoid_ on a slice); autograd "
            "does not tell which.\n  cure: write it out of place, x = torch.cat / torch.where / "
            "x * factor"
        )
    return shares


def is_copy(op: Op, shares: tuple[Tensor | None, ...]) -> bool:
    """Every entry comes from exactly one of base and value, both tracked: the write was copy_."""
    if len(shares) != 2 or shares[0] is None or shares[1] is None or bool((shares[0] == 1).all()):
        return False
    return float(shares[0].sum()) + float(shares[1].sum()) == float(op.shape.numel())


def is_added(op: Op) -> bool:
    """Whether ``record()`` saw that the write was add_ (with a constant base nothing else tells)."""
    return op.sweep.values.recorded_name(op) == "Add"


def written(op: Op, base: Tensor, value: Tensor | None = None) -> Tensor:
    """The base after a copy_ into a view of it: the node's own backward tells where entries go."""
    shares = write_shares(op)
    if value is not None and is_copy(op, shares):
        where, _ = value_places(op, value.shape)
        out = base.clone().reshape(-1)
        return out.index_put((where.reshape(-1),), value.reshape(-1).to(out.dtype)).view(op.shape)
    if (
        shares[0] is not None
        and value is not None
        and value.numel() == 1
        and not bool((shares[0] == 1).all())
    ):
        return torch.where(shares[0] == 1, base, value)  # one recorded number
    raise Unrecoverable(
        f"{kind(op.node)}: the value after this in-place write into a view (fill_, add_, relu_ ...) "
        "was not saved and autograd does not tell what was written.\n  cure: write it out of place"
    )


def value_places(op: Op, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Where in the output each entry of the written value went (flat), and 1 at those places.

    Digit by digit, so that every digit is exact in half precision too.
    """
    count = op.shape.numel()
    device = metadata(op.node)[0].device
    place = torch.arange(count, device=device)
    where = torch.zeros(shape, dtype=torch.long, device=device)
    digit = 1
    # Entries of a broadcast value come back summed: a first look at ones tells.
    (_, ones) = op.sweep.call(op.node, [torch.ones(op.shape, dtype=op.dtype, device=device)])
    if ones is None or not bool((ones == 1).all()):
        raise Unrecoverable(
            f"{kind(op.node)}: the written value was broadcast, where to is not told.\n"
            "  cure: write x.expand_as(part), or write it out of place"
        )
    while digit < max(count, 2):
        part = (place // digit % 128).to(op.dtype).view(op.shape)
        sent = op.sweep.call(op.node, [part])[1]
        assert sent is not None
        where = where + sent.long().expand(shape) * digit
        digit *= 128
    mask = torch.zeros(count, dtype=op.dtype, device=device)
    mask[where.reshape(-1)] = 1
    return where, mask.view(op.shape)


class CopyInto(Rule):
    """``base.copy_(value)``: all to the value, nothing to what stood there. A constant value absorbs it."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None and not op.live[1]:
            book_or_not(op, "constants", lambda: dot(op.output(), ci))
        return [None, ci]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        if op.ledger is not None and not op.live[1]:
            op.book("constants", ri.sum())
        return [None, Value(ri)]
