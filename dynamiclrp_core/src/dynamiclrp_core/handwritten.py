"""Rows for autograd's hand-written nodes: writes into views, hooks, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import torch
from torch import Tensor

from .defaults import Elementwise
from .errors import MissingRule, Unrecoverable
from .families import copying, custom
from .node import address, kind, metadata
from .numerics import dot
from .op import Op
from .record import recorded
from .rule import Conserves, Entries, Entry, Rule, Value


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
        return op.backward(ci)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri = self.only(r)
        if not is_copy(op, write_shares(op)) or not all(op.live):
            return super().value(op, ri)
        return [None if e is None else Value(e) for e in op.backward(ri.to(op.dtype))]

    @staticmethod
    def _book_constants(op: Op, c: Tensor, shares: tuple[Tensor | None, ...]) -> None:
        """What stands in the output and comes from no live operand, entry by entry."""
        base = shares[0] if op.live[0] and shares[0] is not None else torch.zeros_like(c)
        live_value = len(op.edges) > 1 and op.live[1]
        if live_value and not is_copy(op, shares) and op.live[0]:
            return  # add_: both terms are live
        if len(op.edges) > 1 and not is_copy(op, shares) and bool((base == 1).all()):
            # add_ of a constant: what the write added to the base
            book_or_not(op, "constants", lambda: dot(op.output() - op.input(0), c))
            return
        covered = base
        if live_value:
            covered = covered + value_places(op, op.operand_shape(1))[1]
        book_or_not(op, "constants", lambda: dot(op.output() * (1 - covered), c))


def book_or_not(op: Op, cause: str, amount: Callable[[], Tensor]) -> None:
    """Book an amount that needs values, or that it could not be had."""
    assert op.ledger is not None
    try:
        op.book(cause, amount())
    except Unrecoverable:
        op.ledger.book_unknown(op.node, cause)


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
    """Every entry comes from exactly one of base and value: the write was copy_."""
    return len(shares) == 2 and sum(float(s.sum()) for s in shares if s is not None) == float(
        op.shape.numel()
    )


def written(op: Op, base: Tensor, value: Tensor | None = None) -> Tensor:
    """The base after a copy_ into a view of it: the node's own backward tells where entries go."""
    if value is None or not is_copy(op, write_shares(op)):
        raise Unrecoverable(
            f"{kind(op.node)}: the value after this in-place write into a view (fill_, add_, relu_ ...) "
            "was not saved and autograd does not tell what was written.\n"
            "  cure: write it out of place"
        )
    where, _ = value_places(op, value.shape)
    out = base.clone().reshape(-1)
    return out.index_put((where.reshape(-1),), value.reshape(-1).to(out.dtype)).view(op.shape)


def value_places(op: Op, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Where in the output each entry of the written value went (flat), and 1 at those places.

    Digit by digit, so that every digit is exact in half precision too.
    """
    count = op.shape.numel()
    device = metadata(op.node)[0].device
    place = torch.arange(count, device=device)
    where = torch.zeros(shape, dtype=torch.long, device=device)
    digit = 1
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
    """``base.copy_(value)``: all to the value, nothing to what stood there."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.ledger is not None and not op.live[1]:
            book_or_not(op, "constants", lambda: dot(op.output(), ci))
        return [None, ci]

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
        # Held until the sweep is done: what the region drops is lost again afterwards.
        with torch.enable_grad(), recorded() as held:
            outputs, operands = self.rebuild(op)
        pairs = [(address(o), s) for o, s in zip(outputs, seeds) if s is not None and _tracked(o)]
        wanted = [
            None if t is None or not w else address(t) for t, w in zip(operands, op.wanted)
        ]
        live = [t for t, w in zip(wanted, op.live) if t is not None and w]
        also = [t for t, w in zip(wanted, op.live) if t is not None and not w]
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
                entries.append(c if r is None else Value(r if c is None else r + c * value))
        return entries


class Checkpoint(SubGraph):
    """A reentrant checkpoint: one node that hides its region. Re-run once, RNG state kept."""

    def rebuild(self, op: Op) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        node: Any = op.node
        tensors = [t.detach().requires_grad_(t.requires_grad) for t in node.saved_tensors]
        return _run_again(op, *tensors), [t if t.requires_grad else None for t in tensors]


def _run_again(op: Op, *tensors: Tensor | None) -> tuple[Any, ...]:
    """The region of a reentrant checkpoint on ``tensors``, which are its operands: one per edge."""
    node: Any = op.node
    inputs = list(node.inputs)
    for i, t in zip(node.tensor_indices, tensors):
        inputs[i] = t
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


def _same(op: Op, *xs: Tensor) -> Any:
    return xs[0] if len(xs) == 1 else xs


ROWS = (
    custom("CopySlices", SliceWrite(), "self value", forward=written),
    custom("CopyBackwards", CopyInto(), "self src", family="moving", unused=(0,),
        forward=lambda op, base, src: src.expand(op.shape)),
    custom("torch.nn.modules._functions.BackwardHookFunction", ThroughHook(), "args*", forward=_same),
    custom("torch.utils.checkpoint.CheckpointFunction", Checkpoint(), forward=_run_again),
    copying("AliasBackward0", forward=lambda op, x: x),
    copying("IdentityBackward0", forward=lambda op, x: x),
)  # fmt: skip

__all__ = ["ROWS", "Elementwise"]
