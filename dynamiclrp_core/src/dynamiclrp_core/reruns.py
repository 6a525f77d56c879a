"""What checkpoints run again (Note [Checkpoints] in node.py): is it what the forward ran, and who keeps it?

An optimizer step in between makes another region of it. Torch does not notice; ``record()`` does.

A non-reentrant checkpoint keeps every tensor until that is read once, or as long as the graph lives. A
gradient reads all of them and frees the graph; relevance does neither, so the sweep drops what it has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.graph import Node

from .errors import ModifiedInPlace
from .node import CHECKPOINT, kind
from .values.record import Recording, recordings
from .values.statistics import RUN_AGAIN

sequence_nr: Callable[[], int] = torch._C._autograd._get_sequence_nr


class Reruns:
    """Watches one sweep over ``order`` (outputs first); ``notes`` is told what is taken for granted."""

    __slots__ = ("_notes", "_number", "_order", "_seen", "_since")

    def __init__(self, order: list[Node], notes: set[str]) -> None:
        self._order = order
        self._notes = notes
        self._seen: list[Recording] = []
        self._number = sequence_nr()
        self._since = 0

    def passed(self, i: int) -> None:
        """Node ``i`` needs nothing more. Called once nodes were made, perhaps by a checkpoint.

        Raises ModifiedInPlace if that ran a region again on other parameters than the forward.
        """
        if sequence_nr() != self._number:
            self._number = sequence_nr()
            again = _drop(self._order[self._since : i + 1])
            self._since = i + 1
        else:
            again = _drop((self._order[i],))
        for node in again:
            if not any([recording.saw(node) for recording in self._seen]):
                self._seen += unchanged(node)
                if not self._seen:
                    self._notes.add(RUN_AGAIN)


def unchanged(node: Node) -> list[Recording]:
    """The recordings that saw the forward of ``node``, of which a checkpoint runs a region again.

    Raises ModifiedInPlace if a leaf or parameter that it read was written to since: the region would be
    another one. (No recording watches buffers.)
    """
    seen = [r for r in recordings() if r.saw(node)]
    for leaf in [r.versions.written() for r in seen]:
        if leaf is not None:
            raise ModifiedInPlace(
                f"{kind(node)}: a checkpoint runs its region again, and a tensor of shape "
                f"{tuple(leaf.shape)} was changed in place after the forward (an optimizer step?).\n"
                "  cure: run the forward again"
            )
    return seen


def _drop(passed: Iterable[Node]) -> list[Node]:
    """Forget what checkpoints hold for fields of these nodes in the backward that is running.

    Returns the nodes whose fields were made again, now or earlier.
    """
    backward = torch._C._current_graph_task_id()
    again = []
    for node in passed:
        for name in _fields(type(node)):
            try:
                raw = getattr(node, name)
            except RuntimeError:
                continue  # freed
            for one in raw if isinstance(raw, tuple | list) else (raw,):
                held: Any = None if one is None else one.data
                if type(held).__module__ == CHECKPOINT and held.handles:
                    again.append(node)
                    if held.handles.get(backward) is not None:
                        held.handles[backward] = None  # as reading it does
    return again


@lru_cache(maxsize=1024)
def _fields(node_type: type) -> tuple[str, ...]:
    """The fields of a node type that may be packed."""
    return tuple(name for name in dir(node_type) if name.startswith("_raw_saved_"))
