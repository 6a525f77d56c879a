"""Forward values that exist somewhere: where a value may be saved besides the node that asks for it.

The first sources of a promise (Note [Promises]), and the two that need arithmetic alone: a difference, an
inverse. Nothing here runs an operation of the model again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from ..errors import ModifiedInPlace
from ..node import Address, Edge, leaf, metadata
from .record import written_since
from .saved_index import SavedIndex
from .statistics import ASSUMED, Promises

if TYPE_CHECKING:
    from ..engine import Sweep
    from ..op import Op


class Existing:
    """What one run can look up.

    ``known``: tensors of the caller, by address. ``memo``: values had so far. ``of_...``: one source each.
    """

    def __init__(self, sweep: Sweep, known: dict[Address, Tensor], stats: Promises) -> None:
        self.sweep, self.stats = sweep, stats
        self.known: dict[tuple[Node, int], Tensor] = {(a.node, a.output): t for a, t in known.items()}
        self.memo: dict[Node, dict[int, Tensor]] = {}
        self._index: SavedIndex | None = None

    @property
    def index(self) -> SavedIndex:
        """The index of saved fields, made when a value is first asked for."""
        if self._index is None:
            self._index = SavedIndex(self.sweep)
        return self._index

    def result(self, op: Op, nr: int) -> Tensor | None:
        """Output ``nr`` as saved at ``op`` itself."""
        if nr >= len(op.row.results):
            return None
        value = getattr(op.saved, op.row.results[nr], None)
        return value if isinstance(value, Tensor) else None

    def find(self, node: Node, nr: int) -> Tensor | None:
        """The value of (node, nr) if it exists somewhere: memo, known, own, leaf, consumer, move."""
        made = self.memo.get(node)
        if made is not None and nr in made:
            return made[nr]
        value = self.known.get((node, nr))
        source = "saved"
        if value is None:
            variable = leaf(node)
            if variable is not None:
                value, source = self.of_leaf(node, variable), "leaf"
            else:
                op = self.sweep.op(node)
                value = None if op is None else self.result(op, nr)
                if value is None:
                    value, source = self._of_consumer(node, nr), "consumer"
                if value is None:
                    value, source = self._of_move(node, nr), "move"
        if value is not None:
            self.stats.sources[source] += 1
        return value

    def of_leaf(self, node: Node, variable: Tensor) -> Tensor:
        """A leaf, if nobody has written to it since the forward. Raises ModifiedInPlace."""
        # A leaf saved somewhere is version-checked there; AccumulateGrad.variable is not.
        where = self.index.leaves.get(id(variable))
        if where is not None:
            self.sweep.read(*where)
            return variable
        written = written_since(variable, self.index.users.get((node, 0), ()))
        if written:
            raise ModifiedInPlace(
                f"a leaf of shape {tuple(variable.shape)} was changed in place after the forward "
                "(an optimizer step?): run the forward again before explaining"
            )
        if written is None:
            self.stats.notes.add(ASSUMED)
        return variable

    def _of_consumer(self, node: Node, nr: int) -> Tensor | None:
        entry = self.index.found.get((node, nr))
        if entry is None:
            return None
        value = cast(Tensor, self.sweep.read(entry[0], entry[1]))
        return value._base if entry[2] else value

    def _of_move(self, node: Node, nr: int) -> Tensor | None:
        # Up through consumers that only move entries, then back down undoing each move.
        for op, at, moves in self._readers(node, nr):
            if not op.row.exact or op.edges[0] != at:
                continue
            value = self.known.get((op.node, 0))
            if value is None:
                value = self.memo.get(op.node, {}).get(0)
            if value is None:
                value = self.result(op, 0)
            if value is None:
                value = self._of_consumer(op.node, 0)
            if value is not None:
                return self._undone((op, *moves), value)
        return None

    def _readers(self, node: Node, nr: int) -> Iterator[tuple[Op, Edge, tuple[Op, ...]]]:
        """What reads a tensor or its moved entries: the reader, the address it reads, the moves before."""
        seen: set[Edge] = set()
        trails: list[tuple[Edge, tuple[Op, ...]]] = [((node, nr), ())]
        while trails:
            at, moves = trails.pop()
            for user in self.index.users.get(cast(Address, at), ()):
                op = self.sweep.op(user)
                if op is None or (user, 0) in seen:
                    continue
                yield op, at, moves
                if op.row.exact and op.edges[0] == at and len(moves) < 8:
                    seen.add((user, 0))
                    trails.append(((user, 0), (op, *moves)))

    @staticmethod
    def _undone(moves: Sequence[Op], value: Tensor) -> Tensor:
        for move in moves:
            assert move.row.inverse is not None
            value = move.row.inverse(move, value)
        return value

    def of_branch(self, node: Node, nr: int) -> Tensor | None:
        """Output of a layer, maybe moved, that a sum reads: the sum less its other terms.

        Of layers only: a product is dear to compute again, and in float32 no more exact than a difference
        that loses four bits.
        """
        layer = self.sweep.op(node)
        while layer is not None and layer.row.exact and layer.edges[0][0] is not None:
            layer = self.sweep.op(layer.edges[0][0])
        if layer is None or layer.row.family != "affine":
            return None
        for op, at, moves in self._readers(node, nr):
            if op.row.family != "adding" or at not in op.edges:
                continue
            mine = metadata(cast(Node, at[0]))[at[1]]
            eps = torch.finfo(op.dtype).eps if op.dtype.is_floating_point else 0.0
            value = self.difference(op, list(op.edges).index(at), 16 * eps)
            if value is None or value.shape != torch.Size(mine.shape) or value.dtype != mine.dtype:
                continue
            if bool(value.isfinite().all()):  # no mask was subtracted from itself, no factor is 0
                self.stats.sources["difference"] += 1
                return self._undone(moves, value)
        return None

    def difference(self, op: Op, i: int, limit: float = 1e-4) -> Tensor | None:
        """Term ``i`` of a sum: (output - other terms) / its factor, if its relative error is in ``limit``."""
        row = op.row
        if row.weights is None or row.variadic or op.dtype not in (torch.float32, torch.float64):
            return None
        total = self.find(op.node, 0)
        if total is None:
            return None
        weights = row.weights(op)
        rest = total
        scale = total.abs().amax() if total.numel() else total.sum()
        for j, (node, nr) in enumerate(op.edges):
            if j == i:
                continue
            term = None if node is None else self.find(node, nr)
            if term is None:
                return None
            rest = rest - weights[j] * term
            scale = torch.maximum(scale, (weights[j] * term).abs().amax())
        if not rest.numel():
            return rest
        lost_digits = torch.finfo(op.dtype).eps * scale
        if not bool(lost_digits <= limit * rest.abs().amax()):
            return None
        return rest if type(weights[i]) is int and weights[i] == 1 else rest / weights[i]

    def inverted(self, node: Node, nr: int) -> Tensor | None:
        """x from f(x) that a consumer saved. Exact only up to the digits that f kept."""
        for user in self.index.users.get((node, nr), ()):
            op = self.sweep.op(user)
            if op is None or op.row.inverse is None or op.edges[0] != (node, nr) or op.row.exact:
                continue
            result = self.result(op, 0)
            if result is not None:
                self.stats.sources["inverse"] += 1
                self.stats.notes.add(
                    f"inputs of {op.row.node} were inverted from its result (digits are lost where "
                    "it saturates); record() keeps what is needed to compute them exactly"
                )
                return op.row.inverse(op, result)
        return None

    def stand_in(self, op: Op) -> Tensor | None:
        """The saved result of a relu-like node that alone consumes ``op``'s output, if cheaper.

        Where it differs from the output, the coefficient that comes back through it is 0.
        """
        if self.find(op.node, 0) is not None:
            return None
        users = self.index.users.get((op.node, 0), [])
        if len(users) != 1 or (op.node, 0) in self.sweep.targets:
            return None
        user = self.sweep.op(users[0])
        if user is None or not user.row.stands_in or not self.sweep.rule_of(user).masks:
            return None
        found = self.find(user.node, 0)
        if found is not None:
            self.stats.promises += 1
            self.stats.sources["stand-in"] += 1
        return found
