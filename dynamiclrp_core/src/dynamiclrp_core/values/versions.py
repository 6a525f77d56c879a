"""Which version leaves had when a forward read them: a node holds the leaf itself, not the value it had."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from torch import Tensor, nn

_Seen = tuple[weakref.ref[Tensor], int]


class Versions:
    """Versions of leaves at their first reading; apart from those, at the first without a node."""

    def __init__(self) -> None:
        # By id: a WeakIdKeyDictionary is slow. The reference tells a new tensor that got an old one's id.
        self._read: dict[int, _Seen] = {}
        self._without_grad: dict[int, _Seen] = {}

    def watch(self, arguments: tuple[object, ...], grad: bool) -> None:
        """Remember the leaves among a call's arguments. ``grad``: whether the call makes a node.

        Also without: a reentrant checkpoint runs its region so.
        """
        versions = self._read if grad else self._without_grad
        for leaf in _leaves(arguments):
            seen = versions.get(id(leaf))
            if seen is None or seen[0]() is not leaf:
                versions[id(leaf)] = weakref.ref(leaf), leaf._version

    def of(self, leaf: Tensor) -> int | None:
        """The version ``leaf`` had when a node first read it, if that was seen."""
        seen = self._read.get(id(leaf))
        return None if seen is None or seen[0]() is not leaf else seen[1]

    def written(self) -> Tensor | None:
        """A leaf that was written to after it was first read, with a node or without."""
        for ref, version in (*self._read.values(), *self._without_grad.values()):
            leaf = ref()
            if leaf is not None and leaf._version != version:
                return leaf
        return None


def _leaves(arguments: tuple[object, ...]) -> Iterator[Tensor]:
    for value in arguments:
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, Tensor) and each.is_leaf and not each.is_inference() and _lasts(each):
                yield each


def _lasts(leaf: Tensor) -> bool:
    return leaf.requires_grad or isinstance(leaf, nn.Parameter)
