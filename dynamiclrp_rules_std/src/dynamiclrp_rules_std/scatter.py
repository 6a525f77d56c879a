"""Writing by index: what is written replaces, is added to, or is reduced with what stood there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from dynamiclrp_core.families import constant_part, custom, moving
from dynamiclrp_core.numerics import dot
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Conserves, Entries, Row, Rule
from dynamiclrp_core.rules.defaults import book_or_not, book_shift
from torch import Tensor

from .index import INDEX_PUT, Accumulated, accumulates


class Scattered(Rule):
    """Sums by index: ``c`` to every term, as in any sum; constant terms absorb their share.

    Linear in both operands together, so ``c_in = J^T c`` conserves (LRP-0, Bach et al. 2015).
    """

    conserves: ClassVar[Conserves] = "absorbed"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None:
            book_shift(op, ci, "constants")
        return op.backward(ci)


class Reduced(Rule):
    """Reductions by index (sum, mean, prod, amax, amin) of what stood there and what is written.

    Each output entry is a homogeneous function of its operands: of degree 1, or for a product of the
    number of live factors n. Gradient over degree is exact by Euler's theorem. A product without a
    live factor, and the wins of constants, are absorbed; equal winners share.
    """

    conserves: ClassVar[Conserves] = "absorbed"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.saved.reduce == "prod":
            factors = self._counted(
                op, [self._ones(op, i) if live else None for i, live in enumerate(op.live)]
            )
            if op.ledger is not None:
                book_or_not(op, "constants", lambda: dot(torch.where(factors == 0, op.output(), 0.0), ci))
            return op.backward(ci / factors.clamp(min=1).to(ci.dtype))
        if op.saved.reduce in ("amax", "amin"):
            return self._to_winners(op, ci)
        if op.ledger is not None:
            book_shift(op, ci, "constants")
        return op.backward(ci)

    def _to_winners(self, op: Op, c: Tensor) -> Entries:
        """Not the node's own backward: it counts what stood there as a winner even where it took no part."""
        # Computed anew: of promised operands the winners are equal to no other result.
        result: Tensor = op.forward(*op.inputs())
        index, dim = _wide_index(op), op.saved.dim
        at = result.gather(dim, index)
        stood = self._counted(op, [(op.input(0) == result).to(result), None])
        written = (_like_index(op, op.input(1)) == at).to(result)
        wins = (stood, self._counted(op, [None, written]))
        each = c / (wins[0] + wins[1]).clamp(min=1).to(c.dtype)
        if op.ledger is not None:
            for won, live in zip(wins, op.live):
                if not live:
                    op.book("constants", dot(result * won, each))
        return [each * stood.to(c.dtype), each.gather(dim, index) * written.to(c.dtype)]

    @staticmethod
    def _ones(op: Op, i: int) -> Tensor:
        return torch.ones(op.operand_shape(i), dtype=op.dtype, device=op.input(i).device)

    @staticmethod
    def _counted(op: Op, of: Sequence[Tensor | None]) -> Tensor:
        """The sum of ``of`` over the operands of each output entry."""
        index, dim = _wide_index(op), op.saved.dim
        zeros = torch.zeros(op.shape, device=index.device)  # float32 counts exactly, bfloat16 would not
        stood, written = of
        total = zeros
        if stood is not None:
            replaced = zeros.scatter(dim, index, 1.0) > 0
            total = stood.to(zeros) if op.saved.include_self else torch.where(replaced, 0.0, stood.to(zeros))
        return total if written is None else total.scatter_add(dim, index, _like_index(op, written).to(zeros))


def _wide_index(op: Op) -> Tensor:
    """The index as ``scatter`` takes it; that of ``index_reduce`` is a vector along the dim."""
    index, dim = op.saved.index, op.saved.dim
    if op.row.node.startswith("Scatter"):
        return index
    size = [1] * len(op.shape)
    size[dim] = -1
    wide = list(op.shape)
    wide[dim] = index.numel()
    return index.view(size).expand(wide)


def _like_index(op: Op, src: Tensor) -> Tensor:
    """The entries of src that are written: as many as there are indices."""
    index = _wide_index(op)
    return src[tuple(slice(0, n) for n in index.shape)]


def _scatter_reduce(op: Op, x: Tensor, src: Tensor) -> Tensor:
    s = op.saved
    return x.scatter_reduce(
        s.dim, _wide_index(op), _like_index(op, src), s.reduce, include_self=s.include_self
    )


def _kept(op: Op, name: str) -> Any:
    """An index, which autograd drops where only the operand that was written to is tracked."""
    value = getattr(op.saved, name)
    return op.constant(name) if value is None else value


def _scattered(node: str, forward: Callable[..., Tensor], operands: str = "self src") -> Row:
    return custom(node, Scattered(), operands, family="scatter", forward=forward, shift=constant_part)


def _put(op: Op, x: Tensor, source: Tensor) -> Tensor:
    return x.put(op.saved.index, source, op.saved.accumulate)


def _as_strided_scatter(op: Op, x: Tensor, src: Tensor) -> Tensor:
    s = op.saved
    # torch demands a contiguous operand if it is tracked; a constant one is the tensor of the call.
    x = x if op.edges[0][0] is None else x.contiguous()
    return torch.as_strided_scatter(x, src, s.size, s.stride, s.storage_offset)


def _as_strided_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    # Not the node's own backward: torch 2.13 keeps the written entries for self and drops the others.
    s = op.saved
    read = c.contiguous().as_strided(s.size, s.stride, s.storage_offset or 0)
    return read if i == 1 else _as_strided_scatter(op, c.contiguous(), torch.zeros_like(read))


def _masked_put(op: Op, x: Tensor, values: Tensor) -> Tensor:
    made: Tensor = torch.ops.aten._unsafe_masked_index_put_accumulate(
        x, _kept(op, "mask"), _kept(op, "indices"), values
    )
    return made


def _accumulating(row: Row) -> Row:
    """``row``, adding up where the call said so."""
    return replace(row, cases=((accumulates, Accumulated()), *row.cases))


ROWS = (
    # -- what is written replaces ---------------------------------------------------------------------
    moving("ScatterBackward1", fills=True,
        forward=lambda op, x: x.scatter(op.saved.dim, op.saved.index, op.constant("value"))),
    moving("IndexCopyBackward0", "self source", fills=True,
        forward=lambda op, x, source: x.index_copy(op.saved.dim, op.saved.index, source)),
    moving("IndexFillBackward0", fills=True,
        forward=lambda op, x: x.index_fill(op.saved.dim, op.saved.index, op.constant("value"))),
    moving("IndexFillBackward1", "self value", fills=True,
        forward=lambda op, x, value: x.index_fill(op.saved.dim, op.saved.index, value)),
    moving("MaskedScatterBackward0", "self source", fills=True,
        forward=lambda op, x, source: x.masked_scatter(op.saved.mask, source)),
    moving("DiagonalScatterBackward0", "self src", fills=True, forward=lambda op, x, src:
        x.diagonal_scatter(src, op.saved.offset, op.saved.dim1, op.saved.dim2)),
    moving("AsStridedScatterBackward0", "self src", fills=True, forward=_as_strided_scatter,
        pull=_as_strided_pull),
    # -- and adds up if asked to ------------------------------------------------------------------------
    _accumulating(moving("PutBackward0", "self source", fills=True, forward=_put)),
    replace(INDEX_PUT, node="UnsafeIndexPutBackward0"),
    replace(INDEX_PUT, node="IndexPutImplBackward0"),
    # -- sums and other reductions ----------------------------------------------------------------------
    _scattered("ScatterAddBackward0",
        lambda op, x, src: x.scatter_add(op.saved.dim, _kept(op, "index"), src)),
    _scattered("IndexAddBackward0", lambda op, x, source: x.index_add(
        op.saved.dim, _kept(op, "index"), source, alpha=op.saved.alpha), "self source"),
    _scattered("UnsafeMaskedIndexPutAccumulateBackward0", _masked_put, "self values"),
    custom("ScatterReduceBackward0", Reduced(), "self src", family="scatter", results="result",
        forward=_scatter_reduce, shift=constant_part),
    custom("IndexReduceBackward0", Reduced(), "self source", family="scatter", results="result",
        forward=_scatter_reduce, shift=constant_part),
)  # fmt: skip
