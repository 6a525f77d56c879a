"""Nodes that hide a graph (reentrant checkpoints, fused recurrent layers), and module hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import torch
from torch import Tensor

from .graph import Graph
from .node import Address, address, function_tensors
from .numerics import dot, times
from .op import Op
from .reruns import unchanged
from .rule import Conserves, Entries, Entry, Rule, Value
from .values.record import recorded
from .values.statistics import RUN_AGAIN


class ThroughHook(Rule):
    """Module hooks' identity Function: entries pass, the hook itself is never run."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return list(c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return [None if ri is None else Value(ri) for ri in r]


def through_hook(op: Op, *xs: Tensor | None) -> Any:
    """The forward of a module hook's identity."""
    return xs[0] if len(xs) == 1 else xs


StandIn = Callable[[Tensor, bool], Tensor]


def _detached(t: Tensor, wanted: bool) -> Tensor:
    """A leaf with the value of ``t``; what is constant and not wanted stays itself.

    (A number that torch has wrapped reaches a recording as a number, which has no ``detach``.)
    """
    return t.detach().requires_grad_(wanted) if wanted or t.requires_grad else t


def _linked(t: Tensor, wanted: bool) -> Tensor:
    """``t`` under another name, so that relevance can be differentiated by what t is made of."""
    if not wanted:
        return t
    return t.view_as(t) if t.requires_grad else _detached(t, wanted)


class SubGraph(Rule):
    """A node that hides a graph: make it again, sweep it with the same rules, and go on.

    ``rebuild(op, stand_in)`` returns the outputs and the tensors that stand for the node's operands (None
    for operands without one), made under enable_grad on ``stand_in(operand, wanted)``.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return self._swept(op, c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return self._swept(op, [None if ri is None else Value(ri) for ri in r])

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        raise NotImplementedError

    def _swept(self, op: Op, seeds: Sequence[Entry]) -> Entries:
        # Held until the sweep is done: what the region drops is lost again afterwards.
        stand_in = _linked if torch.is_grad_enabled() else _detached
        with torch.enable_grad(), recorded() as held:
            outputs, operands = self.rebuild(op, stand_in)
        pairs = [(address(o), s) for o, s in zip(outputs, seeds) if s is not None and _tracked(o)]
        wanted = [None if t is None or not w else address(t) for t, w in zip(operands, op.wanted)]
        live = [t for t, w in zip(wanted, op.live) if t is not None and w]
        also = [t for t, w in zip(wanted, op.live) if t is not None and not w]
        if op.ledger is not None:
            self._book_constants(op, outputs, seeds, live)
        known = {address(t): t for t in [*outputs, *operands] if _tracked(t)}
        results = op.sweep.inside(pairs, live, also, known)
        held.clear()
        entries: list[Entry] = []
        for t in wanted:
            found = results.get(t) if t is not None else None
            if found is None:
                entries.append(None)
            else:
                c, r, value = found
                entries.append(c if r is None else Value(r if c is None else r + times(value, c)))
        return entries

    @staticmethod
    def _book_constants(
        op: Op, outputs: Sequence[Any], seeds: Sequence[Entry], live: Sequence[Address]
    ) -> None:
        """What arrived at outputs that are made of constants alone, or of what takes no relevance."""
        assert op.ledger is not None
        graph = Graph([address(o) for o in outputs if _tracked(o)])
        reach = graph.reaching(live, op.sweep.rules.separate)
        for nr, (o, s) in enumerate(zip(outputs, seeds)):
            if s is None or (op.node, nr) not in op.sweep.live:  # an entry for a read-out takes no share
                continue
            if not (_tracked(o) and address(o) in reach):
                op.book("constants", s.relevance.sum() if isinstance(s, Value) else dot(o, s))


class Composite(SubGraph):
    """An op made of others: its row's forward is made again on its operands and swept.

    So the fused op gets the relevance that the same maths gets when it is spelled out.
    """

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        made = [None if t is None else stand_in(t, wanted) for t, wanted in zip(op.inputs(), op.wanted)]
        outputs = op.forward(*made)
        operands = [t if wanted else None for t, wanted in zip(made, op.wanted)]
        return outputs if isinstance(outputs, tuple) else (outputs,), operands


class Checkpoint(SubGraph):
    """A reentrant checkpoint: one node that hides its region. Re-run once, RNG state kept."""

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        if not unchanged(op.node):
            op.sweep.values.stats.notes.add(RUN_AGAIN)
        # Leaves always: torch cannot differentiate a reentrant checkpoint twice.
        tensors = [t.detach().requires_grad_(t.requires_grad) for t in function_tensors(op.node)]
        return run_again(op, *tensors), [t if t.requires_grad else None for t in tensors]


def run_again(op: Op, *tensors: Tensor | None) -> tuple[Any, ...]:
    """The region of a reentrant checkpoint on ``tensors``, its operands: one per edge, None as saved."""
    node: Any = op.node
    inputs = list(node.inputs)
    for i, t, saved in zip(node.tensor_indices, tensors, function_tensors(node)):
        inputs[i] = saved if t is None else t
    devices = getattr(node, "fwd_devices", [])
    with torch.random.fork_rng(devices=devices, enabled=node.preserve_rng_state):
        if node.preserve_rng_state:
            torch.set_rng_state(node.fwd_cpu_state)
            if devices:
                torch.utils.checkpoint.set_device_states(devices, node.fwd_device_states)
        with ExitStack() as stack:
            stack.enter_context(torch.autocast("cpu", **_autocast(node.cpu_autocast_kwargs)))
            if node.device_autocast_kwargs is not None and torch.cuda.is_available():
                device = torch.autocast(node.device_type, **_autocast(node.device_autocast_kwargs))
                stack.enter_context(device)
            made = node.run_function(*inputs)
    return made if isinstance(made, tuple) else (made,)


def _tracked(t: Any) -> bool:
    return isinstance(t, Tensor) and t.requires_grad


def _autocast(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: kwargs[k] for k in ("enabled", "dtype", "cache_enabled") if k in kwargs}
