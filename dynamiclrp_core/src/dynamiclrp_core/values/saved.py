"""A node's saved fields, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.autograd.graph import Node

from ..node import INTEGERS, signed

if TYPE_CHECKING:
    from ..engine import Sweep


class Saved:
    """``op.saved.dim``: the node's ``_saved_dim``, integers signed, each field unpacked once."""

    def __init__(self, node: Node, sweep: Sweep) -> None:
        self._node = node
        self._sweep = sweep

    def __getattr__(self, name: str) -> Any:
        # A descriptor per name ever asked for: Python's way through here costs three times as much.
        if name.startswith("_") or name in Saved.__dict__:
            raise AttributeError(f"{self._node.name()} has no field _saved_{name}")
        setattr(Saved, name, _Field(name))
        return getattr(self, name)


class _Field:
    """One name of ``Saved``: found only until the instance holds the value itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.saved = "_saved_" + name

    def __get__(self, saved: Saved, _: Any) -> Any:
        sweep = saved._sweep
        if sweep.held:
            value = sweep.read(saved._node, self.name)
        else:
            try:
                value = getattr(saved._node, self.saved)
            except RuntimeError:
                value = sweep.read(saved._node, self.name)
            if type(value) in INTEGERS:
                value = signed(value)
        saved.__dict__[self.name] = value
        return value
