"""The fused rules written out in relevance values: to read attention weights, and to test against.

Each is the same rule as its coefficient twin, but divides by what the twin never divides by.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from dynamiclrp_core.errors import Unrecoverable
from dynamiclrp_core.numerics import dot, stabilize
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Rule, Value
from dynamiclrp_core.rules.defaults import Product
from pydantic import Field
from torch import Tensor

from .sdpa import FusedAttention


class SoftmaxTaylor(Rule):
    """``R_i = x_i (R_i - p_i sum_k R_k)``, AttnLRP (arXiv 2402.05602) proposition 3.1, 0 at x = -inf.

    Asks for the logits. Books ``sum R - sum R_i (x_i - E_p[x])``, as its twin ``Gradient`` does.
    """

    real: ClassVar[bool] = True

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri, x, p = self.only(r), op.input(0), op.output()
        h = ri - p * ri.sum(op.saved.dim, keepdim=True)
        sent = torch.where(torch.isinf(x), 0.0, x) * h
        op.book("softmax", ri.sum(dtype=torch.float64) - sent.sum(dtype=torch.float64))
        return [Value(sent)]


class HalfSplit(Rule):
    """``R_ij = a_ij sum_k b_jk R_ik / (2 z_ik + epsilon)``: the epsilon rule on each of two live factors,
    half each (AttnLRP, proposition 3.3). The twin of ``Product`` for matrix products.
    """

    real: ClassVar[bool] = True

    epsilon: float = Field(1e-12, ge=0)

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri, z = self.only(r), op.output()
        s = ri / stabilize(z, self.epsilon)
        op.book("epsilon", ri.sum(dtype=torch.float64) - dot(z, s))
        entries = Product().coefficient(op, s)
        return [None if e is None else Value(op.input(i) * cast(Tensor, e)) for i, e in enumerate(entries)]


class ExplicitAttention(FusedAttention):
    """``o = softmax(scale q k^T + mask) v`` taken apart: ``P``, the relevance of ``P``, then q, k and v.

    With ``s = R / o``: ``R_v = v (P^T s)``, ``R_P = P (s v^T)``, ``h = R_P - P sum R_P``, and of the logits
    ``scale q k^T`` takes ``u = scale h``: ``R_q = q (u k)``, ``R_k = k (u^T q)``, all times the shares of
    ``FusedAttention``. The L x S matrices are made.
    """

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        ri, z = self.only(r), op.output()
        s = ri / stabilize(z, 1e-12)
        op.book("epsilon", ri.sum(dtype=torch.float64) - dot(z, s))
        return [None if e is None else Value(op.input(i) * e) for i, e in enumerate(self._apart(op, s))]

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return self._apart(op, self.only(c))

    def _apart(self, op: Op, c: Tensor) -> list[Tensor | None]:
        p = weights(op)
        q, k, v = (op.input(i) for i in range(3))
        groups = q.shape[1] // k.shape[1]
        k, v = (t.repeat_interleave(groups, 1) for t in (k, v))
        share = FusedAttention.shares(op)
        r_p = p * (c @ v.mT)
        h = r_p - p * r_p.sum(-1, keepdim=True)
        u = h * scale(op)
        made = (u @ k * share["q"], self._grouped(u.mT @ q, groups) * share["k"])
        of_v = self._grouped(p.mT @ c, groups) * share["v"]
        entries = [*made, of_v, *([h * share["b"]] * (len(op.edges) - 3))]
        sent = [e if w else None for e, w in zip(entries, op.wanted)]
        self._book(op, (c,), sent)
        return sent

    @staticmethod
    def _grouped(entry: Tensor, groups: int) -> Tensor:
        return entry.unflatten(1, (-1, groups)).sum(2)


def scale(op: Op) -> float:
    """The factor of ``q k^T``: given, or 1 / sqrt(width)."""
    given = op.saved.scale
    width: int = op.operand_shape(0)[-1]
    return width**-0.5 if given is None else float(given)


def weights(op: Op) -> Tensor:
    """Attention weights of a node of ``scaled_dot_product_attention``, (batch, heads, queries, keys).

    Raises Unrecoverable for other fused attentions (packed, heads last) and under dropout.
    """
    name = op.row.node
    if not name.startswith("ScaledDotProduct") or op.saved.dropout_p:
        why = "under dropout" if name.startswith("ScaledDotProduct") else "in this layout"
        raise Unrecoverable(
            f"{name}: attention weights {why} cannot be computed from what the node saved\n"
            '  cure: attn_implementation="sdpa" or "eager", in evaluation mode'
        )
    q, k = op.input(0), op.input(1)
    logits = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * scale(op)
    mask = op.optional(3) if len(op.edges) > 3 else None
    for name in ("attn_mask", "attn_bias"):
        mask = getattr(op.saved, name, None) if mask is None and _has(op, name) else mask
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    if op.saved.is_causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~seen, -torch.inf)
    return torch.ops.aten._safe_softmax(logits, -1)


def _has(op: Op, name: str) -> bool:
    return hasattr(type(op.node), "_saved_" + name)
