"""Which tensor of the graph is saved where: one pass over the saved fields, when first asked for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.autograd.graph import Node

from ..errors import ModifiedInPlace
from ..node import Address, inside_backward, packing, saved

if TYPE_CHECKING:
    from ..engine import Sweep


class SavedIndex:
    """``found[address]``: (node, field, whether the value is the base of what is saved there).

    ``users[address]``: the nodes that read a tensor. ``leaves[id(leaf)]``: where a leaf, or a view of
    it, is saved, which is version-checked there. ``held``: fields of checkpointed regions, read once for all.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.found: dict[tuple[Node, int], tuple[Node, str, bool]] = {}
        self.users: dict[tuple[Node, int], list[Node]] = defaultdict(list)
        self.leaves: dict[int, tuple[Node, str]] = {}
        self.held: dict[tuple[Node, str], Any] = sweep.held
        self._scan()

    def _scan(self) -> None:
        checkpointed: list[tuple[Node, str]] = []
        sweep, users = self.sweep, self.users
        for node in sweep.graph.inner:  # leaves save nothing
            edges = sweep.graph.edges[node]
            for edge in edges:
                if edge[0] is not None:
                    users[cast(Address, edge)].append(node)
            known = sweep.kind(node)
            if known is None or known.row.variadic:
                continue
            for i, name in enumerate(known.fields):
                if name is None:
                    continue
                holder = packing(node, name)
                if holder == "checkpoint":
                    checkpointed.append((node, name))
                elif holder == "hook":
                    # Unpacking may cost a copy: trust the row, which says that this is operand i.
                    if i < len(edges) and edges[i][0] is not None:
                        self.found.setdefault(cast(Address, edges[i]), (node, name, False))
                else:
                    self._note(node, name)
        if checkpointed:

            def read_all() -> None:
                for node, name in checkpointed:
                    self.held[node, name] = saved(node, name)

            inside_backward(read_all)
            for node, name in checkpointed:
                self._note(node, name)

    def _note(self, node: Node, name: str) -> None:
        """Enter one saved field into the index: its own address, and that of the base it views."""
        try:
            value = self.sweep.read(node, name)
        except ModifiedInPlace:  # only an error if a rule asks for it, here or as a leaf
            value = getattr(node, "_raw_saved_" + name).data
            for t in (value, getattr(value, "_base", None)):
                if isinstance(t, Tensor) and t.is_leaf:
                    self.leaves[id(t)] = (node, name)
            return
        except RuntimeError:
            return  # freed: only an error if a rule asks for it
        if not isinstance(value, Tensor):
            return
        if value.grad_fn is not None:
            self.found.setdefault((value.grad_fn, value.output_nr), (node, name, False))
        elif value.requires_grad:
            self.leaves.setdefault(id(value), (node, name))
        base = value._base
        if base is not None and base.grad_fn is not None:
            self.found.setdefault((base.grad_fn, base.output_nr), (node, name, True))
        elif base is not None and base.requires_grad:  # a view has its base's version
            self.leaves.setdefault(id(base), (node, name))
