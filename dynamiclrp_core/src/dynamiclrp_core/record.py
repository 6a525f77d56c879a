"""``record()``: keep what autograd drops for good (scalars and untracked operands).

Note [Recording]
A dispatch mode sees every aten call, also those inside C++ composites (attention, GRU). Autograd has
made the call's node just before, so the node's sequence number is ``_get_sequence_nr() - 1``. An entry
is used only if the node found under that number, in this thread, has the call's name: inner calls of
a custom Function or a reentrant checkpoint have no node of their own and must not match another.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from .node import kind

# Calls of which autograd drops an operand or an argument that the forward needs.
_RECORDED = frozenset(
    """add sub rsub where masked_fill constant_pad_nd cat stack addmm baddbmm addbmm addmv addr addcmul
    addcdiv lerp convolution native_batch_norm native_group_norm cudnn_batch_norm masked_scatter
    index_fill index_put index_copy index_add scatter scatter_add select_scatter slice_scatter
    diagonal_scatter threshold nan_to_num remainder fmod igamma copy fill""".split()
)
_KEPT_RECORDINGS = 8


class Recording:
    """What one ``with record()`` block kept, keyed by autograd's sequence number.

    The last eight recordings stay alive by themselves, older ones as long as you hold them
    (``with record() as kept``). ``kept.clear()`` frees at once.
    """

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._calls: dict[int, tuple[str, dict[str, Any]]] = {}
        self._versions = WeakIdKeyDictionary()

    def keep(self, name: str, arguments: dict[str, Any]) -> None:
        """Keep a call's untracked arguments, under the number of the node just made."""
        self._calls.setdefault(torch.autograd._get_sequence_nr() - 1, (name, arguments))

    def watch(self, leaf: Tensor) -> None:
        """Remember a leaf's version: its node holds the leaf itself, not the value it had."""
        self._versions.setdefault(leaf, leaf._version)

    def version(self, leaf: Tensor) -> int | None:
        """The version ``leaf`` had in the forward, if it was seen."""
        return self._versions.get(leaf)

    def arguments(self, node: Node) -> dict[str, Any] | None:
        """What was kept of the call that made ``node``."""
        entry = self._calls.get(node._sequence_nr())
        if entry is None or not kind(node).startswith(entry[0] + "Backward"):
            return None
        return entry[1]

    def clear(self) -> None:
        """Drop everything kept."""
        self._calls.clear()

    def __len__(self) -> int:
        return len(self._calls)


_alive: weakref.WeakSet[Recording] = weakref.WeakSet()
_latest: deque[Recording] = deque(maxlen=_KEPT_RECORDINGS)


def recordings() -> list[Recording]:
    """All recordings that are still alive, the latest first."""
    return sorted(_alive, key=lambda r: r is not _latest[-1] if _latest else False)


class _Mode(TorchDispatchMode):
    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording
        self._plans: dict[Any, tuple[str, tuple[str, ...]] | None] = {}

    def _plan(self, func: Any) -> tuple[str, tuple[str, ...]] | None:
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        if name not in _RECORDED:
            return None
        camel = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
        return camel, tuple(a.name for a in func._schema.arguments)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        plans = self._plans
        plan = plans[func] if func in plans else plans.setdefault(func, self._plan(func))
        if plan is not None and torch.is_grad_enabled():
            self._keep(plan, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _keep(self, plan: tuple[str, tuple[str, ...]], args: Any, kwargs: Any) -> None:
        tracked = False
        kept: dict[str, Any] = {}
        for name, value in [*zip(plan[1], args), *kwargs.items()]:
            if isinstance(value, Tensor):
                if not value.requires_grad:
                    kept[name] = value
                else:
                    tracked = True
                    if value.is_leaf:
                        self._recording.watch(value)
            elif isinstance(value, list) and any(isinstance(v, Tensor) for v in value):
                tracked |= any(isinstance(v, Tensor) and v.requires_grad for v in value)
                kept[name] = [
                    None if isinstance(v, Tensor) and v.requires_grad else v for v in value
                ]
            else:
                kept[name] = value
        if tracked:
            self._recording.keep(plan[0], kept)


class record:
    """Context manager around a forward: keeps the operands that autograd drops for good.

    Needed only by rules that ask for values, for constants added without grad (``x + mask``,
    ``var + eps``, frozen biases). Changes no result; about 10 microseconds per recorded call.

    >>> with record():
    ...     y = model(x)
    >>> run = propagate(y, x, rules="dynamiclrp")
    """

    def __init__(self) -> None:
        self.recording = Recording()
        self._mode = _Mode(self.recording)

    def __enter__(self) -> Recording:
        _alive.add(self.recording)
        _latest.append(self.recording)
        self._mode.__enter__()
        return self.recording

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._mode.__exit__(exc_type, exc, traceback)
