"""Fused attention: the node's own backward once, times constants. No L x S matrix is ever made.

For ``o = softmax(q k^T) v`` with q, k and v live, the product with v gives each side half, the softmax
takes its gradient, the product of q and k halves again: ``c_v / 2, c_q / 4, c_k / 4`` (AttnLRP).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dynamiclrp_core.defaults import Gradient, Stop
from dynamiclrp_core.families import custom
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Row, Rule
from torch import Tensor


class FusedAttention(Gradient):
    """``outer`` = 1/2 if v and (q or k) are live, ``inner`` = 1/2 if q and k both are; else 1.

    ``c_v, c_bias`` times outer, ``c_q, c_k`` times outer * inner. Conserves for v; the softmax does not.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        grads = op.backward(*c)
        entries = [None if g is None else g * f for g, f in zip(grads, self.shares(op))]
        self._book(op, c, entries)
        return entries

    @staticmethod
    def shares(op: Op) -> tuple[float, float, float, float]:
        """The factors of q, k, v and the bias."""
        q, k, v = op.live[:3]
        outer = 0.5 if v and (q or k) else 1.0
        inner = 0.5 if q and k else 1.0
        return outer * inner, outer * inner, outer, outer


class ValuesOnly(Rule):
    """CP-LRP (arXiv 2202.07304): attention weights are constants, all goes to v (``0, 0, c_v``).

    Where v is not live nothing passes: all is booked as stopped.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if not op.live[2]:
            return Stop().coefficient(op, *c)
        of_v = op.backward(*c)[2]
        return [of_v if i == 2 else None for i in range(len(op.edges))]


def _attention(op: Op, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    s = op.saved
    if mask is None:
        mask = getattr(s, _mask_field(op), None)
        mask = mask.to(q.dtype) if mask is not None and mask.is_floating_point() else mask
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=s.is_causal, scale=s.scale, enable_gqa=q.shape[1] != k.shape[1]
        )


def _mask_field(op: Op) -> str:
    for name in ("attn_mask", "attn_bias"):
        if hasattr(type(op.node), "_saved_" + name):
            return name
    return "attn_mask"


def _row(node: str, operands: str) -> Row:
    return custom(
        node,
        FusedAttention(),
        operands,
        family="attention",
        results="output",
        forward=_attention,
    )


ROWS = tuple(
    _row(node, operands)
    for node, operands in (
        ("ScaledDotProductFlashAttentionForCpuBackward0", "query key value attn_mask"),
        ("ScaledDotProductFlashAttentionBackward0", "query key value"),
        ("ScaledDotProductEfficientAttentionBackward0", "query key value attn_bias"),
        ("ScaledDotProductCudnnAttentionBackward0", "query key value attn_bias"),
    )
)
