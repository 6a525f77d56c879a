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
7. recorded:   ``record()`` kept an untracked operand, or the result of a draw or a comparison

and last ``Unrecoverable``. Values depend only on nodes nearer the input, so resolving on demand cannot
deadlock; the stack is explicit, so depth is no limit; a value is computed at most once per run, and
its memo is dropped when the sweep passes its node, because all later demands lie nearer the input.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from ..errors import Unrecoverable
from ..node import Address, kind, leaf, metadata
from .existing import Existing
from .record import recordings
from .statistics import Promises

if TYPE_CHECKING:
    from ..engine import Sweep
    from ..op import Op


class Values:
    """Resolver of one run. ``known``: tensors of the caller, by address."""

    def __init__(self, sweep: Sweep, known: dict[Address, Tensor]) -> None:
        # No cycle: the graph must go when the user drops it, not when the collector comes (it does not
        # know how much memory of a device waits for it).
        self.sweep = cast("Sweep", weakref.proxy(sweep))
        self.stats = Promises(nodes=len(sweep.graph.order))
        self.existing = Existing(self.sweep, known, self.stats)
        self.memo = self.existing.memo

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
        own = self.existing.result(op, nr)
        if own is not None:
            return own
        return self._value(op.node, nr, op)

    def edge(self, at: Address) -> Tensor:
        """The tensor at an address."""
        value = self.existing.known.get(at)
        if value is None:
            op = self.sweep.op(at.node)
            variable = leaf(at.node)
            if variable is not None:
                return self.existing.of_leaf(at.node, variable)
            value = None if op is None else self.output(op, at.output)
        if value is None:
            raise Unrecoverable(f"no row for {kind(at.node)}, whose output is asked for")
        return value

    def absent(self, op: Op, i: int) -> bool:
        """Whether the call had no operand ``i`` (a norm without weight), or does not look at it."""
        row = op.row
        unused = i in row.unused
        if op.edges[i][0] is not None or not (unused or i in row.optional):
            return False
        if unused or getattr(op.node, "_saved_bias_sym_sizes_opt", None) == (0,):
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

    # -- values that must be made ---------------------------------------------------

    def _value(self, node: Node, nr: int, origin: Op) -> Tensor:
        made = self.memo.get(node)
        if made is not None and nr in made:
            return made[nr]
        self.stats.promises += 1
        value = self.existing.find(node, nr)
        if value is not None:
            self.stats.path_length += 1
            self.memo.setdefault(node, {})[nr] = value
            return value
        value = self.existing.of_branch(node, nr)
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
                    self.memo.setdefault(node, {})[nr] = self._result(node, op, origin)
                    stack.pop()
                    continue
                operands, missing = self._operands(op, origin, lost)
                if missing:
                    stack.extend(missing)
                    continue
                made = op.row.forward(op, *operands)
            except Unrecoverable as error:
                value = self.existing.inverted(node, nr)
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

    def _result(self, node: Node, op: Op | None, origin: Op) -> Tensor:
        """What no row computes again (a draw): recorded."""
        kept = (r.argument(node, "result") for r in recordings())
        value = next((t for t in kept if t is not None), None)
        if value is None:
            if op is not None and op.row.family == "stop":
                raise self._lost(op, "the result", origin)
            raise self._no_forward(node, origin)
        self.stats.sources["recorded"] += 1
        return cast(Tensor, value)

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
                value = self.existing.find(node, nr)
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
        value = self.existing.difference(op, i)
        if value is None:
            raise self._lost(op, f"operand {name!r}", origin)
        self.stats.sources["difference"] += 1
        return value

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
