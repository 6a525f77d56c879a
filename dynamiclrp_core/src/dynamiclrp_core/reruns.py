"""What a non-reentrant checkpoint has run again, and nobody reads (see Note [Checkpoints] in node.py).

It keeps every tensor until that is read once, or as long as the graph lives. A gradient reads all of them
and frees the graph; relevance does neither, so the sweep drops what it has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.graph import Node

from .node import CHECKPOINT

sequence_nr: Callable[[], int] = torch._C._autograd._get_sequence_nr


class Reruns:
    """Watches one sweep over ``order`` (outputs first)."""

    __slots__ = ("_number", "_order", "_since")

    def __init__(self, order: list[Node]) -> None:
        self._order = order
        self._number = sequence_nr()
        self._since = 0

    def passed(self, i: int) -> None:
        """Node ``i`` needs nothing more. Called once nodes were made, perhaps by a checkpoint."""
        if sequence_nr() != self._number:
            self._number = sequence_nr()
            _drop(self._order[self._since : i + 1])
            self._since = i + 1
        else:
            _drop((self._order[i],))


def _drop(passed: Iterable[Node]) -> None:
    """Forget what checkpoints hold for fields of these nodes in the backward that is running."""
    backward = torch._C._current_graph_task_id()
    for node in passed:
        for name in _fields(type(node)):
            try:
                raw = getattr(node, name)
            except RuntimeError:
                continue  # freed
            for one in raw if isinstance(raw, tuple | list) else (raw,):
                held: Any = None if one is None else one.data
                if type(held).__module__ == CHECKPOINT and held.handles.get(backward) is not None:
                    held.handles[backward] = None  # as reading it does


@lru_cache(maxsize=1024)
def _fields(node_type: type) -> tuple[str, ...]:
    """The fields of a node type that may be packed."""
    return tuple(name for name in dir(node_type) if name.startswith("_raw_saved_"))
