"""Rules of what a matcher saw whole: an operand is held constant, or a region is one function f(x)."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from ..matching.regions import Numbered, Region, entries_of, shape_of
from ..numerics import dot, secant, vjp
from ..op import Op
from ..rule import Conserves, Entries, Rule, Value


class Held(Rule):
    """All to the operand the matcher chose; the other factor or divisor is held constant."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        return [op.pull(ci, i) if i == op.match else None for i in range(len(op.edges))]


class ScalarFunction(Held):
    """A region that is f(x) of one tensor x: ``c * (f(x) - f(0)) / x``, sent to x itself.

    With f(0) not finite, ``c * f(x) / x``.
    """

    conserves: ClassVar[Conserves] = "absorbed"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if isinstance(op.match, int):
            return super().coefficient(op, *c)
        ci = self.only(c)
        assert isinstance(op.match, Region)
        region = op.match
        x = op.sweep.values.edge(region.x)
        y = self._replayed(op, region, x)
        at_zero = self._replayed(op, region, torch.zeros_like(x))
        at_zero = torch.where(at_zero.isfinite(), at_zero, 0.0)
        if op.ledger is not None:
            op.book("constants", dot(at_zero, ci))
        index = self._index(op, region)
        moved = x if index is None else x.reshape(-1)[index.clamp(min=0)].view(y.shape)
        rise: Tensor | float = 0.0
        if bool((x == 0).any()):
            rise = self._rise(op, region, x, index).view(y.shape)
        c_y = (ci * secant(y - at_zero, moved, rise)).to(ci.dtype)
        op.send_to(region.x)
        return [c_y if index is None else self._gathered(c_y, index, x.shape)]

    @classmethod
    def _rise(cls, op: Op, region: Region, x: Tensor, index: Tensor | None) -> Tensor:
        """f'(0) of each entry of the output."""
        made, pull = vjp(lambda z: cls._replayed(op, region, z), torch.zeros_like(x))
        (rise,) = pull(torch.ones_like(made))
        if index is not None:  # entry by entry, so J^T 1 is f'(0), summed over the copies of an entry
            copies = torch.bincount(index[index >= 0], minlength=x.numel()).clamp(min=1)
            rise = (rise.reshape(-1) / copies)[index.clamp(min=0)]
        return torch.where(rise.isfinite(), rise, 0.0)

    @classmethod
    def _index(cls, op: Op, region: Region) -> Tensor | None:
        """For each entry of the output, the entry of x that it is a function of, or -1; None: its own."""
        sweep = op.sweep
        families = [cast(Op, sweep.op(n)).row.family for n in region.nodes]
        if "moving" not in families and shape_of(region.x).numel() == op.shape.numel():
            return None
        return cls._replayed(op, region, entries_of(region.x), moves=True).reshape(-1)

    @staticmethod
    def _gathered(entry: Tensor, index: Tensor, shape: torch.Size) -> Tensor:
        """``entry`` of the output, added up at the entries of x."""
        total = torch.zeros(shape.numel(), dtype=entry.dtype, device=entry.device)
        return total.index_add(0, index[index >= 0], entry.reshape(-1)[index >= 0]).view(shape)

    @staticmethod
    def _replayed(op: Op, region: Region, x: Tensor, moves: bool = False) -> Tensor:
        """f(x) by the rows' forwards; with ``moves``, where the entries of x go instead."""
        made: dict[tuple[object, int], Tensor] = {region.x: x}
        ops = [cast(Op, op.sweep.op(n)) for n in reversed(region.nodes)]
        for o in [*ops, op]:
            if moves and o.row.family != "moving":
                arriving = next(made[e] for e in o.edges if e in made)
                made[o.node, 0] = arriving.expand(o.shape)
                continue
            operands = [
                made[e] if e in made else None if o.row.separate else o.optional(i)
                for i, e in enumerate(o.edges)
            ]
            result = cast(Any, o.row.forward)(Numbered(o) if moves else o, *operands)
            for nr, part in enumerate(result if isinstance(result, tuple) else (result,)):
                if part is not None:
                    made[o.node, nr] = part
        return made[op.node, 0]


class RegionIdentity(ScalarFunction):
    """Relevance passes unchanged through a whole scalar function by hand, as ``Identity`` does fused."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return super().coefficient(op, *c) if isinstance(op.match, int) else Rule.coefficient(self, op, *c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if isinstance(op.match, int):
            return super().value(op, *r)
        assert isinstance(op.match, Region)
        x = op.match.x
        sent, index = self.only(r), self._index(op, op.match)
        if index is not None:
            sent = self._gathered(sent, index, shape_of(x))
        op.send_to(x)
        return [Value(sent)]
