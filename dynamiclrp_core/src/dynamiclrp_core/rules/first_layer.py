"""Rules for the layers that read the input: w-square, flat, z-box; and the matcher of those layers.

They give relevance to inputs that are 0 (a black pixel), which no coefficient can carry, so they emit
values. One live factor, as for the signed rules; elsewhere the row's default applies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from pydantic import ConfigDict
from torch import Tensor
from torch.autograd.graph import Node

from ..engine import Sweep
from ..errors import BadRule
from ..numerics import at_least_float32, dot
from ..op import Op
from ..rule import Entries, Value
from .layered import Stabilized
from .merged import placed, weights

Bound = float | tuple[float, ...] | Tensor


class _OfWeights(Stabilized):
    """Shared: which factor is the input, which the weights; coefficients become values."""

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        if op.live_factors != 1:
            return op.row.cases[-1][1].coefficient(op, c)
        return self._of_input(op, c * at_least_float32(op.masked_output()))

    def of_value(self, op: Op, r: Tensor) -> Entries:
        if op.live_factors != 1:
            return op.row.cases[-1][1].value(op, r)
        return self._of_input(op, r.clone())

    def _of_input(self, op: Op, r: Tensor) -> Entries:
        i = op.row.factors[0] if op.live[op.row.factors[0]] else op.row.factors[1]
        return self.of_weights(op, r, i, weights(op, i).to(r.dtype))

    def of_weights(self, op: Op, r: Tensor, i: int, w: Tensor) -> Entries:
        """Entries for relevance ``r``, the rule's own, at the weights w for the input, factor i."""
        raise NotImplementedError

    @staticmethod
    def _ones(op: Op, i: int, like: Tensor) -> Tensor:
        return torch.ones(op.operand_shape(i), dtype=like.dtype, device=like.device)

    @staticmethod
    def _at(op: Op, i: int, relevance: Tensor) -> list[Any]:
        entries: list[Any] = [None] * len(op.edges)
        entries[i] = Value(relevance)
        return entries


class WSquare(_OfWeights):
    """``R_i = sum_j w_ij^2 / stab(sum_i w_ij^2 + b_j^2) R_j`` (Montavon et al. 2017, section 4.1).

    Padding does not count. ``bias="ignore"`` leaves ``b_j^2`` out.
    """

    bias: Literal["absorb", "ignore"] = "absorb"

    def of_weights(self, op: Op, r: Tensor, i: int, w: Tensor) -> Entries:
        squared = w.square()
        z = cast(Tensor, op.forward(*placed(op, i, self._ones(op, i, w), squared)))
        b = None if self.bias == "ignore" or op.row.shift is None else op.row.shift(op)
        s = self.over(op, r, z if b is None else z + b.square())
        entries = self._at(op, i, op.pull(s, i, *placed(op, i, None, squared)))
        if b is not None:
            if op.ledger is not None and not op.live_bias:
                op.book("bias", dot(b.square(), s))
            if op.row.bias is not None and op.wanted[op.row.bias]:
                entries[op.row.bias] = op.pull(s * b, op.row.bias)
        return entries


class Flat(_OfWeights):
    """``R_i = sum_j R_j / n_j`` over the n_j inputs that reach j (Lapuschkin et al. 2019).

    w-square with all weights 1 and without the bias. Padding does not count.
    """

    def of_weights(self, op: Op, r: Tensor, i: int, w: Tensor) -> Entries:
        same = torch.ones_like(w)
        z = cast(Tensor, op.forward(*placed(op, i, self._ones(op, i, w), same)))
        return self._at(op, i, op.pull(self.over(op, r, z), i, *placed(op, i, None, same)))


class ZBox(_OfWeights):
    """For inputs in ``[low, high]`` (Montavon et al. 2017, section 4.2; the z^B rule):

    ``R_i = sum_j n_ij / stab(sum_i n_ij) R_j`` with ``n_ij = x_i w_ij - low_i w_ij+ - high_i w_ij-``.

    ``low``, ``high``: a number, a number per channel (of normalised images: ``(0 - mean) / std`` and
    ``(1 - mean) / std``), or a tensor that broadcasts to the input. The bias cancels, so it need not be
    known. Raises BadRule for bounds that do not fit the input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    low: Bound
    high: Bound

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, f"tensor of {tuple(value.shape)}" if isinstance(value, Tensor) else value

    def of_weights(self, op: Op, r: Tensor, i: int, w: Tensor) -> Entries:
        # n = (x - low) w+ + (x - high) w-: no negative term within the bounds, so nothing cancels.
        x = op.input(i).to(r.dtype)
        terms = ((x - _filling(self.low, x), w.clamp(min=0)), (x - _filling(self.high, x), w.clamp(max=0)))
        z = sum(cast(Tensor, op.forward(*placed(op, i, a, v))) for a, v in terms)
        s = self.over(op, r, cast(Tensor, z))
        relevance = sum(a * op.pull(s, i, *placed(op, i, None, v)) for a, v in terms)
        return self._at(op, i, cast(Tensor, relevance))


def _filling(bound: Bound, x: Tensor) -> Tensor:
    t = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if t.dim() == 1 and x.dim() > 2:
        t = t.view(-1, *[1] * (x.dim() - 2))  # per channel
    try:
        return t.expand(x.shape)
    except RuntimeError:
        raise BadRule(
            f"ZBox: bounds of shape {tuple(t.shape)} do not fit the input of shape {tuple(x.shape)}"
        ) from None


# -- which layers are first ---------------------------------------------------------------------------


def first_layer(op: Op) -> bool:
    """Matcher: a layer (family "affine") whose live operands reach the inputs past no other layer.

    ``rules.where(lrp.first_layer, lrp.override(affine=lrp.Flat()))``. Several layers may be first: both
    branches that read an image, all layers of a model of several inputs.
    """
    if op.row.family != "affine":
        return False
    behind = op.sweep.once(_nodes_behind_a_layer)
    return not any(live and edge[0] in behind for edge, live in zip(op.edges, op.live))


def _nodes_behind_a_layer(sweep: Sweep) -> set[Node]:
    """Nodes of which a live operand has passed a layer, and the layers themselves."""
    behind: set[Node] = set()
    graph, live = sweep.graph, sweep.live
    for node in graph.order:
        edges = [edge for edge in graph.edges[node] if edge in live]
        known = sweep.kind(node) if edges else None
        if any(edge[0] in behind for edge in edges) or (known is not None and known.row.family == "affine"):
            behind.add(node)
    return behind
