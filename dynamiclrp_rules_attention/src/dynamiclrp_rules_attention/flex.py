"""``torch.nn.attention.flex_attention``: fused where the scores stay as they are, else spelled out.

Its eager form is a Function that keeps the program of the scores (a compiled one is a compiled graph, which
core refuses). A mask only hides scores, so the fused rule holds. A ``score_mod`` is any function of them
(a bias, a soft cap), and each op in it gets its own rule, for which the L x S scores are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dynamiclrp_core.families import custom
from dynamiclrp_core.node import function_tensors
from dynamiclrp_core.numerics import raised
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Row, Value
from dynamiclrp_core.rules.defaults import Moving
from dynamiclrp_core.subgraph import Composite, StandIn
from torch import Tensor, fx

from .sdpa import attention

FLEX = "torch._higher_order_ops.flex_attention.FlexAttentionAutogradOp"
READ = "torch._functorch.autograd_function.VmappedVmappedVmappedVmappedModIndex"


def score_mod(op: Op) -> bool:
    """Whether the scores are changed: their program is anything but one that returns them."""
    program: Any = op.node
    graph = getattr(program._fw_graph, "graph", None)
    if not isinstance(graph, fx.Graph):
        return True
    first, last = next(iter(graph.nodes)), graph.output_node()
    return last.args[0] not in (first, (first,), [first])


def _kept(op: Op) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The operands, and what a mask captured, as the context kept them."""
    node: Any = op.node
    tensors, others = iter(function_tensors(node)), iter(node.non_tensor_args)
    kept = [next(others) if place else next(tensors) for place in node.pos]
    # Rules may run above the model's dtype.
    kept = [t.to(raised(t.dtype, op.sweep.dtype)) if _is_float(t) else t for t in kept]
    captured = kept[BEFORE:]
    of_scores = node._score_mod_other_buffers_len
    return (*kept[:3], *captured[:of_scores]), tuple(captured[of_scores:])


def _is_float(t: Any) -> bool:
    return isinstance(t, Tensor) and t.is_floating_point()


BEFORE = 6 + 16
"""q, k, v, three outputs and the block mask's own fields; then what score_mod captured, then the mask."""


def _attend(op: Op, q: Tensor, k: Tensor, v: Tensor, *captured: Any) -> tuple[Tensor, ...]:
    from torch._higher_order_ops.flex_attention import math_attention  # not public: it may move

    node: Any = op.node
    _, of_mask = _kept(op)
    mask = (node._mask_graph,)
    made: tuple[Tensor, ...] = math_attention(
        q, k, v, node._fw_graph, mask, node.scale, {}, captured, of_mask
    )
    return made


class Reading(Moving):
    """A read of a table, by the node's own backward in both forms: it gives a gradient per index too."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return op.backward(*c)[: len(op.edges)]

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return [None if e is None else Value(e) for e in op.backward(*r)[: len(op.edges)]]


class Flex(Composite):
    """Flex attention by its definition: scores, ``score_mod``, mask, softmax, values."""

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        operands, _ = _kept(op)
        wanted = iter(op.wanted)
        made = [stand_in(t, next(wanted)) if isinstance(t, Tensor) else t for t in operands]
        edges = [t for t in made if isinstance(t, Tensor)]
        return _attend(op, *made), [t if w else None for t, w in zip(edges, op.wanted)]


ROWS: tuple[Row, ...] = (
    # What a score_mod reads at (batch, head, query, key): one entry or a row of a table.
    custom(READ, Reading(), "x", family="moving", degree=1.0),
    attention(FLEX, "query key value", _attend, results="", cases=((score_mod, Flex()),)),
)
