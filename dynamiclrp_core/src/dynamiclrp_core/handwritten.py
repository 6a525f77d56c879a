"""Rows for autograd's hand-written nodes: writes into views, hooks, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from .defaults import Elementwise
from .errors import MissingRule
from .families import copying, custom
from .node import address, call, kind
from .op import Op
from .rule import Conserves, Entries, Entry, Rule, Value


class SliceWrite(Rule):
    """``base[view] = value`` and the like: routing, if that is what the write was.

    Autograd hides the inner op of CopySlices but lets it be called. For a seed of ones, the gradient
    to the base is 0 or 1 everywhere for copy_, fill_, add_ and relu_, whose rule is that gradient; for
    mul_, div_, pow_ it is something else, and the op must be known.
    """

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        self._must_route(op, self.only(c))
        return op.backward(*c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ones = torch.ones_like(self.only(r), dtype=op.dtype)
        shares = self._must_route(op, ones)
        sent = sum(float(s.sum()) for s in shares if s is not None)
        if sent > ones.numel():  # add_: both terms are asked, so shares need the values
            return super().value(op, *r)
        return [None if e is None else Value(e) for e in op.backward(*r)]

    @staticmethod
    def _must_route(op: Op, like: Tensor) -> tuple[Tensor | None, ...]:
        shares = call(op.node, [torch.ones_like(like, dtype=op.dtype)])
        base = shares[0]
        if base is not None and not bool(((base == 0) | (base == 1)).all()):
            raise MissingRule(
                f"{kind(op.node)}: an in-place write into a view (output shape {tuple(op.shape)}) that "
                "multiplies or maps what stood there (mul_, div_, pow_, sigmoid_ on a slice); autograd "
                "does not tell which.\n  cure: write it out of place, x = torch.cat / torch.where / "
                "x * factor"
            )
        return shares


class CopyInto(Rule):
    """``base.copy_(value)``: all to the value, nothing to what stood there."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return [None, c[0]]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return [None, Value(self.only(r))]


class ThroughHook(Rule):
    """Module hooks' identity Function: entries pass, the hook itself is never run."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return list(c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return [None if ri is None else Value(ri) for ri in r]


class SubGraph(Rule):
    """A node that hides a graph: make it again, sweep it with the same rules, and go on.

    ``rebuild(op)`` returns the outputs and the tensors that stand for the node's operands (None for
    operands without one), made under enable_grad on detached leaves.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return self._swept(op, c)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return self._swept(op, [None if ri is None else Value(ri) for ri in r])

    def rebuild(self, op: Op) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        raise NotImplementedError

    def _swept(self, op: Op, seeds: Sequence[Entry]) -> Entries:
        with torch.enable_grad():
            outputs, operands = self.rebuild(op)
        pairs = [(address(o), s) for o, s in zip(outputs, seeds) if s is not None]
        wanted = [
            None if t is None or not w else address(t) for t, w in zip(operands, op.wanted)
        ]
        live = [t for t, w in zip(wanted, op.live) if t is not None and w]
        also = [t for t, w in zip(wanted, op.live) if t is not None and not w]
        known = {address(t): t for t in [*outputs, *operands] if t is not None and t.requires_grad}
        results = op.sweep.inside(pairs, live, also, known)
        entries: list[Entry] = []
        for t in wanted:
            found = results.get(t) if t is not None else None
            if found is None:
                entries.append(None)
            else:
                c, r, value = found
                entries.append(c if r is None else Value(r if c is None else r + c * value))
        return entries


class Checkpoint(SubGraph):
    """A reentrant checkpoint: one node that hides its region. Re-run once, RNG state kept."""

    def rebuild(self, op: Op) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        node: Any = op.node
        inputs = list(node.inputs)
        for i, t in zip(node.tensor_indices, node.saved_tensors):
            inputs[i] = t.detach().requires_grad_(t.requires_grad)
        devices = getattr(node, "fwd_devices", [])
        with torch.random.fork_rng(devices=devices, enabled=node.preserve_rng_state):
            if node.preserve_rng_state:
                torch.set_rng_state(node.fwd_cpu_state)
                if devices:
                    torch.utils.checkpoint.set_device_states(devices, node.fwd_device_states)
            with torch.autocast("cpu", **_autocast(node.cpu_autocast_kwargs)):
                made = node.run_function(*inputs)
        outputs = made if isinstance(made, tuple) else (made,)
        # Edge 0 is the checkpoint's own dummy; then one edge per argument.
        operands = [x if isinstance(x, Tensor) and x.requires_grad else None for x in inputs]
        missing = len(op.edges) - len(operands)
        return outputs, [*[None] * missing, *operands]


def _autocast(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: kwargs[k] for k in ("enabled", "dtype", "cache_enabled") if k in kwargs}


ROWS = (
    custom("CopySlices", SliceWrite(), "self"),
    custom("CopyBackwards", CopyInto(), "self src", family="moving", forward=lambda op, a, b: b),
    custom("torch.nn.modules._functions.BackwardHookFunction", ThroughHook(), family="moving"),
    custom("torch.utils.checkpoint.CheckpointFunction", Checkpoint()),
    copying("AliasBackward0", forward=lambda op, x: x),
    copying("IdentityBackward0", forward=lambda op, x: x),
)

__all__ = ["ROWS", "Elementwise"]
