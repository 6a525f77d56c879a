"""What has arrived at the tensors of a graph and waits for its node's turn in the sweep."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import Node

from .node import Edge
from .numerics import fit, raised
from .op import Op
from .rule import Value

Arrived = list[Tensor | None]
"""What has arrived at a node in one of the two forms, by output."""


class Arrivals:
    """Sums of the entries that readers of a tensor have sent, in the tensor's shape and dtype."""

    __slots__ = ("_dtype", "_sums", "coefficients", "values")

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.coefficients: dict[Node, Arrived] = {}
        self.values: dict[Node, Arrived] = {}
        self._dtype = dtype
        self._sums: set[Edge] = set()  # coefficients that are sums of ours, which nobody else holds

    def add(self, edge: Edge, entry: Tensor | Value) -> None:
        """Add ``entry`` to what ``edge`` has received."""
        node, nr = edge
        assert node is not None
        metadata = node._input_metadata
        here = self.coefficients.get(node)
        if here is None:  # also for a value: the sweep looks here for nodes that anything has arrived at
            here = self.coefficients[node] = [None] * len(metadata)
        mine = metadata[nr]
        if isinstance(entry, Value):
            here = self.values.setdefault(node, [None] * len(metadata))
            dtype = torch.promote_types(raised(mine.dtype, self._dtype), torch.float32)
            r = fit(entry.relevance, tuple(mine.shape), dtype)
            have = here[nr]
            here[nr] = r if have is None else have + r
            return
        if entry.shape != (shape := tuple(mine.shape)) or entry.dtype is not (self._dtype or mine.dtype):
            entry = fit(entry, shape, raised(mine.dtype, self._dtype))
        have = here[nr]
        if have is None:
            here[nr] = entry
        elif edge in self._sums:
            have.add_(entry)
        else:
            here[nr] = have + entry
            if not torch.is_grad_enabled():
                self._sums.add(edge)

    def has_sum_at(self, edge: Edge) -> bool:
        """Whether a coefficient waits at ``edge`` to which a part may be added in place."""
        node, nr = edge
        here = None if node is None else self.coefficients.get(node)
        return here is not None and here[nr] is not None and not torch.is_grad_enabled()

    def add_part(self, edge: Edge, op: Op, c: Tensor) -> None:
        """Add ``c`` to the part of the coefficient at ``edge`` that ``op`` is a view of.

        A tensor that is read step by step gets one sum; the node's own backward would make a tensor of
        zeros for every step: time quadratic in the steps.
        """
        node, nr = edge
        assert node is not None
        have = self.coefficients[node][nr]
        assert have is not None
        if edge not in self._sums:
            self._sums.add(edge)
            have = self.coefficients[node][nr] = have.clone(memory_format=torch.contiguous_format)
        op.forward(have).add_(c)
