"""The resolver: forward values that a rule asks for, wherever they can be had.

Note [Promises]
``op.input(i)`` is a promise when autograd did not store operand i at the node that asks (the origin
node). Sources are tried from exact and free to costly:

1. saved:      the producer's own saved result, a tensor of the caller, a leaf
2. consumer:   another consumer saved it (the address of a saved tensor is its grad_fn and output_nr),
               or saved a view whose ``_base`` it is
3. move:       a consumer that only moves entries (view, permute) has a value that 1 or 2 finds: undo it
4. difference: a sum whose value and other terms are found gives the output of a layer that it reads (a
               residual branch), if no more digits are lost than the layer's own product loses
5. recomputed: the producer's ``forward`` on its own inputs, each of which may be promised again; a lost
               constant of a sum is a difference, too
6. inverse:    a consumer that saved f(x) and has an inverse (tanh, sigmoid, exp); loses digits, so the
               run notes it
7. recorded:   ``record()`` kept an untracked operand

and last ``Unrecoverable``. Values depend only on nodes nearer the input, so resolving on demand cannot
deadlock; the stack is explicit, so depth is no limit; a value is computed at most once per run, and
its memo is dropped when the sweep passes its node, because all later demands lie nearer the input.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from .errors import ModifiedInPlace, Unrecoverable
from .node import Address, Edge, kind, leaf, metadata
from .record import recordings, written_since
from .saved_index import SavedIndex
from .statistics import ASSUMED, Promises

if TYPE_CHECKING:
    from .engine import Sweep
    from .op import Op


class Values:
    """Resolver of one run. ``known``: tensors of the caller, by address."""

    def __init__(self, sweep: Sweep, known: dict[Address, Tensor]) -> None:
        # No cycle: the graph must go when the user drops it, not when the collector comes (it does not
        # know how much memory of a device waits for it).
        self.sweep = cast("Sweep", weakref.proxy(sweep))
        self.known: dict[tuple[Node, int], Tensor] = {(a.node, a.output): t for a, t in known.items()}
        self.memo: dict[Node, dict[int, Tensor]] = {}
        self.stats = Promises(nodes=len(sweep.graph.order))
        self._index: SavedIndex | None = None

    @property
    def index(self) -> SavedIndex:
        """The index of saved fields, made when a value is first asked for."""
        if self._index is None:
            self._index = SavedIndex(self.sweep)
        return self._index

    # -- what rules call (through Op) ---------------------------------------------------------------

    def operand(self, op: Op, i: int) -> Tensor:
        """Operand ``i`` of ``op``: saved at the node itself, or promised."""
        own = op.kept(i)
        if own is not None:
            return own
        node, nr = op.edges[i]
        if node is not None:
            return self._value(node, nr, op)
        return self._constant_operand(op, i, op)

    def output(self, op: Op, nr: int) -> Tensor:
        """Output ``nr`` of ``op``: saved at the node itself, or promised."""
        own = self._result(op, nr)
        if own is not None:
            return own
        return self._value(op.node, nr, op)

    def edge(self, at: Address) -> Tensor:
        """The tensor at an address."""
        value = self.known.get(at)
        if value is None:
            op = self.sweep.op(at.node)
            variable = leaf(at.node)
            if variable is not None:
                return self._leaf(at.node, variable)
            value = None if op is None else self.output(op, at.output)
        if value is None:
            raise Unrecoverable(f"no row for {kind(at.node)}, whose output is asked for")
        return value

    def absent(self, op: Op, i: int) -> bool:
        """Whether the call had no operand ``i`` (a norm without weight), or does not look at it."""
        row = op.row
        if op.edges[i][0] is not None or i not in (*row.optional, *row.unused):
            return False
        if i in row.unused or getattr(op.node, "_saved_bias_sym_sizes_opt", None) == (0,):
            return True
        if op.kind.fields[i] is not None:
            return op.kept(i) is None
        return any(r.lacks(op.node, row.operands[i]) for r in recordings())

    def recorded_name(self, op: Op) -> str | None:
        """Name of the call that made ``op``, if it was recorded."""
        return next((n for r in recordings() if (n := r.name(op.node))), None)

    def constant(self, op: Op, name: str) -> Any:
        """Argument ``name`` of the call that made ``op``, from ``record()``."""
        for recording in recordings():
            if recording.lacks(op.node, name):
                return None
            kept = recording.argument(op.node, name)
            if kept is not None:
                self.stats.sources["recorded"] += 1
                return kept
        raise self._lost(op, f"argument {name!r}")

    def stand_in(self, op: Op) -> Tensor | None:
        """The saved result of a relu-like node that alone consumes ``op``'s output, if cheaper.

        Where it differs from the output, the coefficient that comes back through it is 0.
        """
        if self._found(op.node, 0) is not None:
            return None
        users = self.index.users.get((op.node, 0), [])
        if len(users) != 1 or (op.node, 0) in self.sweep.targets:
            return None
        user = self.sweep.op(users[0])
        if user is None or not user.row.stands_in or not self.sweep.rule_of(user).masks:
            return None
        found = self._found(user.node, 0)
        if found is not None:
            self.stats.promises += 1
            self.stats.sources["stand-in"] += 1
        return found

    # -- sources 1 to 3: values that exist ----------------------------------------------------------

    def _result(self, op: Op, nr: int) -> Tensor | None:
        """Output ``nr`` as saved at ``op`` itself."""
        if nr >= len(op.row.results):
            return None
        value = getattr(op.saved, op.row.results[nr], None)
        return value if isinstance(value, Tensor) else None

    def _found(self, node: Node, nr: int) -> Tensor | None:
        """The value of (node, nr) if it exists somewhere: memo, known, own, leaf, consumer, move."""
        made = self.memo.get(node)
        if made is not None and nr in made:
            return made[nr]
        value = self.known.get((node, nr))
        source = "saved"
        if value is None:
            variable = leaf(node)
            if variable is not None:
                value, source = self._leaf(node, variable), "leaf"
            else:
                op = self.sweep.op(node)
                value = None if op is None else self._result(op, nr)
                if value is None:
                    value, source = self._from_consumer(node, nr), "consumer"
                if value is None:
                    value, source = self._from_move(node, nr), "move"
        if value is not None:
            self.stats.sources[source] += 1
        return value

    def _leaf(self, node: Node, variable: Tensor) -> Tensor:
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

    def _from_consumer(self, node: Node, nr: int) -> Tensor | None:
        entry = self.index.found.get((node, nr))
        if entry is None:
            return None
        value = cast(Tensor, self.sweep.read(entry[0], entry[1]))
        return value._base if entry[2] else value

    def _from_move(self, node: Node, nr: int) -> Tensor | None:
        # Up through consumers that only move entries, then back down undoing each move.
        for op, at, moves in self._readers(node, nr):
            if not op.row.exact or op.edges[0] != at:
                continue
            value = self.known.get((op.node, 0))
            if value is None:
                value = self.memo.get(op.node, {}).get(0)
            if value is None:
                value = self._result(op, 0)
            if value is None:
                value = self._from_consumer(op.node, 0)
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

    def _from_sum(self, node: Node, nr: int) -> Tensor | None:
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
            value = self._difference(op, list(op.edges).index(at), 16 * eps)
            if value is None or value.shape != torch.Size(mine.shape) or value.dtype != mine.dtype:
                continue
            if bool(value.isfinite().all()):  # no mask was subtracted from itself, no factor is 0
                self.stats.sources["difference"] += 1
                return self._undone(moves, value)
        return None

    # -- sources 5 to 7: values that must be made ---------------------------------------------------

    def _value(self, node: Node, nr: int, origin: Op) -> Tensor:
        made = self.memo.get(node)
        if made is not None and nr in made:
            return made[nr]
        self.stats.promises += 1
        value = self._found(node, nr)
        if value is not None:
            self.stats.path_length += 1
            self.memo.setdefault(node, {})[nr] = value
            return value
        value = self._from_sum(node, nr)
        if value is not None:
            self.memo.setdefault(node, {})[nr] = value
            return value
        self._fulfil(node, nr, origin)
        return self.memo[node][nr]

    def _fulfil(self, wanted: Node, output: int, origin: Op) -> None:
        """Recompute an output of ``wanted`` from values that exist, depth first with an explicit stack."""
        lost: dict[Node, Unrecoverable] = {}
        stack: list[tuple[Node, int]] = [(wanted, output)]
        while stack:
            node, nr = stack[-1]
            if nr in self.memo.get(node, ()) or node in lost:
                stack.pop()
                continue
            self.stats.max_depth = max(self.stats.max_depth, len(stack))
            op = self.sweep.op(node)
            try:
                if op is None or op.row.forward is None:
                    raise self._no_forward(node, origin)
                operands, missing = self._operands(op, origin, lost)
                if missing:
                    stack.extend(missing)
                    continue
                made = op.row.forward(op, *operands)
            except Unrecoverable as error:
                value = self._last_resort(node, nr)
                if value is None:
                    lost[node] = error
                else:
                    self.memo.setdefault(node, {})[nr] = value
                stack.pop()
                continue
            results = made if isinstance(made, tuple) else (made,)
            self.memo[node] = {**dict(enumerate(results)), **self.memo.get(node, {})}
            if nr not in self.memo[node]:
                lost[node] = self._no_forward(node, origin)
            self.stats.internal_nodes += 1
            self.stats.sources["recomputed"] += 1
            stack.pop()
        if wanted in lost:
            raise lost[wanted]

    def _operands(
        self, op: Op, origin: Op, lost: dict[Node, Unrecoverable]
    ) -> tuple[list[Tensor | None], list[tuple[Node, int]]]:
        """Operands of ``op`` that exist, and the addresses of those that must be made first."""
        operands: list[Tensor | None] = []
        missing: list[tuple[Node, int]] = []
        for i, (node, nr) in enumerate(op.edges):
            value = op.kept(i)
            if value is None and node is None:
                if self.absent(op, i):
                    operands.append(None)
                    continue
                value = self._constant_operand(op, i, origin)
            elif value is None:
                assert node is not None
                value = self._found(node, nr)
                if value is None:
                    if node in lost:
                        raise lost[node]
                    missing.append((node, nr))
            if value is not None:
                self.stats.path_length += 1
            operands.append(value)
        return operands, missing

    def _constant_operand(self, op: Op, i: int, origin: Op) -> Tensor:
        """An operand that has no node: recorded, or a sum's missing term."""
        name = op.row.name_of(i)
        meta = metadata(op.node)[0]
        for recording in recordings():
            if op.row.variadic:  # the operands are the entries of one list, or of several in turn
                lists = [recording.argument(op.node, n) for n in op.row.operands]
                entries = [e for each in lists for e in (each if isinstance(each, list) else [each])]
                value = entries[i] if i < len(entries) else None
            else:
                value = recording.argument(op.node, name)
            if value is not None:
                self.stats.sources["recorded"] += 1
                if isinstance(value, Tensor):
                    return value
                dtype = meta.dtype
                return torch.as_tensor(value, dtype=dtype, device=meta.device)
        value = self._difference(op, i)
        if value is None:
            raise self._lost(op, f"operand {name!r}", origin)
        self.stats.sources["difference"] += 1
        return value

    def _difference(self, op: Op, i: int, limit: float = 1e-4) -> Tensor | None:
        """Term ``i`` of a sum: (output - other terms) / its factor, if its relative error is in ``limit``."""
        row = op.row
        if row.weights is None or row.variadic or op.dtype not in (torch.float32, torch.float64):
            return None
        total = self._found(op.node, 0)
        if total is None:
            return None
        weights = row.weights(op)
        rest = total
        scale = total.abs().amax() if total.numel() else total.sum()
        for j, (node, nr) in enumerate(op.edges):
            if j == i:
                continue
            term = None if node is None else self._found(node, nr)
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

    def _last_resort(self, node: Node, nr: int) -> Tensor | None:
        """x from f(x) that a consumer saved. Exact only up to the digits that f kept."""
        for user in self.index.users.get((node, nr), ()):
            op = self.sweep.op(user)
            if op is None or op.row.inverse is None or op.edges[0] != (node, nr) or op.row.exact:
                continue
            result = self._result(op, 0)
            if result is not None:
                self.stats.sources["inverse"] += 1
                self.stats.notes.add(
                    f"inputs of {op.row.node} were inverted from its result (digits are lost where "
                    "it saturates); record() keeps what is needed to compute them exactly"
                )
                return op.row.inverse(op, result)
        return None

    # -- errors -------------------------------------------------------------------------------------

    def _lost(self, op: Op, what: str, origin: Op | None = None) -> Unrecoverable:
        origin = origin or op
        error = Unrecoverable(
            f"{kind(origin.node)} needs a forward value that depends on {what} of "
            f"{kind(op.node)} (output shape {tuple(op.shape)}), which autograd does not keep.\n"
            "  cure: run the forward under `with dynamiclrp_core.record():` (in this thread), or use "
            'coefficient rules (rules="default" asks for nothing here)'
        )
        error.position = self.sweep.graph.position[op.node]
        return error

    def _no_forward(self, node: Node, origin: Op) -> Unrecoverable:
        error = Unrecoverable(
            f"{kind(origin.node)} needs the output of {kind(node)}, which was not saved, and no row "
            f"says how to recompute it.\n  cure: a row for {kind(node)} with a `forward` (CONTRIBUTING.md)"
        )
        error.position = self.sweep.graph.position[node]
        return error
