"""Fused attention: the node's own backward once, times constants. No L x S matrix is ever made.

For ``o = softmax(q k^T) v`` with q, k and v live, the product with v gives each side half, the softmax
takes its gradient, the product of q and k halves again: ``c_v / 2, c_q / 4, c_k / 4`` (AttnLRP).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.errors import Unrecoverable
from dynamiclrp_core.families import custom
from dynamiclrp_core.node import function_tensors
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Row, Rule
from dynamiclrp_core.rules.defaults import Gradient, Stop
from torch import Tensor

HOLDS = {"query": "q", "key": "k", "value": "v", "qkv": "qkv", "kv": "kv", "attn_mask": "b", "attn_bias": "b",
    "bias": "b"}  # fmt: skip
"""What each operand holds; several in one are stacked along the dimension before heads and width."""


class FusedAttention(Gradient):
    """``outer`` = 1/2 if v and (q, k or the bias) are live, ``inner`` = 1/2 if q and k both are; else 1.

    ``c_v, c_bias`` times outer, ``c_q, c_k`` times outer * inner. Conserves for v; the softmax does not.
    AttnLRP (arXiv 2402.05602), propositions 3.1 and 3.3. With dropout the backward replays the kernel's
    own random numbers.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        entries = gradients(op, c, self.shares(op))
        self._book(op, c, entries)
        return entries

    @staticmethod
    def shares(op: Op) -> dict[str, float]:
        """The factors of q, k, v and the bias b."""
        live = set("".join(HOLDS.get(name, "") for name, is_live in zip(op.row.operands, op.live) if is_live))
        outer = 0.5 if "v" in live and len(live) > 1 else 1.0
        inner = 0.5 if {"q", "k"} <= live else 1.0
        return {"q": outer * inner, "k": outer * inner, "v": outer, "b": outer}


def gradients(op: Op, c: Sequence[Tensor | None], shares: Mapping[str, float]) -> list[Tensor | None]:
    """The gradients of the operands, each times the share of what it holds; None where that is 0."""
    entries: list[Tensor | None] = []
    # A Python node returns a gradient per argument of its call; those that are no tensors come last.
    for name, g in zip(op.row.operands[: len(op.edges)], op.backward(*c)):
        factors = [shares.get(held, 0.0) for held in HOLDS.get(name, "")]
        if g is None or not any(factors):
            entries.append(None)
        elif len(factors) == 1:
            entries.append(g * factors[0])
        else:
            entries.append(g * g.new_tensor(factors)[:, None, None])
    return entries


class ValuesOnly(Rule):
    """CP-LRP (arXiv 2202.07304): attention weights are constants, all goes to v (``0, 0, c_v``).

    Where v is not live nothing passes: all is booked as stopped.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if not any("v" in HOLDS.get(name, "") and live for name, live in zip(op.row.operands, op.live)):
            return Stop().coefficient(op, *c)
        return gradients(op, c, {"v": 1.0})


# -- forwards: for a rule dtype above the kernel's, and for values that nobody saved -----------------


def _no_dropout(op: Op) -> None:
    if op.saved.dropout_p:
        raise Unrecoverable(
            f"{op.row.node}: which attention weights the kernel dropped, only the kernel knows, so its "
            "output cannot be computed again\n  cure: dropout_p=0 (model.eval()), or rules in the "
            "model's own dtype"
        )


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    """Attention by the math backend; batch, heads, length, width; fewer key heads are repeated."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=q.shape[-3] != k.shape[-3]
        )


def _heads_first(op: Op, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Nodes of scaled_dot_product_attention."""
    _no_dropout(op)
    if mask is None:
        mask = getattr(op.saved, _mask_field(op), None)
        mask = mask.to(q.dtype) if mask is not None and mask.is_floating_point() else mask
    return attend(q, k, v, mask, op.saved.is_causal, op.saved.scale)


def _mask_field(op: Op) -> str:
    for name in ("attn_mask", "attn_bias"):
        if hasattr(type(op.node), "_saved_" + name):
            return name
    return "attn_mask"


def window(rows: int, columns: int, left: int, right: int, device: Any) -> Tensor:
    """Which keys a query may see: ``left`` before its own place and ``right`` after it, -1 all.

    Places count from the end, so that the last query's own place is the last key's.
    """
    place = torch.arange(rows, device=device)[:, None] + columns - rows
    key = torch.arange(columns, device=device)
    far = max(rows, columns)
    return (key >= place - (far if left < 0 else left)) & (key <= place + (far if right < 0 else right))


def _heads_last(op: Op, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``_flash_attention_forward`` and its kin: batch, length, heads, width, or packed sequences."""
    _no_dropout(op)
    s = op.saved
    right = 0 if s.is_causal else _number(s.window_size_right)
    return packed(q, k, v, s.cum_seq_q, s.cum_seq_k, _number(s.window_size_left), right, s.scale)


def _number(size: int | None) -> int:
    return -1 if size is None else size


def packed(
    q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor | None, ends_k: Tensor | None,
    left: int, right: int, scale: float | None,
) -> Tensor:  # fmt: skip
    """Attention within each sequence; ``ends``: 0 and where each ends, if they lie one after another."""

    def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = window(q.shape[-3], k.shape[-3], left, right, q.device)
        q, k, v = (t.transpose(-3, -2) for t in (q, k, v))
        # A query that sees no key gives 0, as the kernels do.
        return attend(q, k, v, mask, False, scale).transpose(-3, -2)

    if ends_q is None or not ends_q.numel():
        return one(q, k, v)
    at_q, at_k = ends_q.tolist(), (ends_q if ends_k is None else ends_k).tolist()
    parts = [one(q[a:b], k[c:d], v[c:d]) for a, b, c, d in zip(at_q[:-1], at_q[1:], at_k[:-1], at_k[1:])]
    return torch.cat(parts)


def _varlen(op: Op, q: Tensor, k: Tensor, v: Tensor, *_: Tensor | None) -> Tensor:
    """``torch.nn.attention.varlen.varlen_attn``: a custom op, so its node keeps a context."""
    node: Any = op.node
    ends_q, ends_k = function_tensors(node)[3:5]
    left, right = node.window_size
    return packed(q, k, v, ends_q, ends_k, left, 0 if node.is_causal else right, node.scale)


def attention(node: str, operands: str, forward: Callable[..., Any] | None, **facts: Any) -> Row:
    """A row of the family attention. Its node saves ``output``, if ``results`` says no other."""
    facts.setdefault("results", "output")
    return custom(node, FusedAttention(), operands, family="attention", forward=forward, **facts)


_QKV = "query key value"
VARLEN = "torch._library.autograd.GeneratedBackwardFor_torch_attn__varlen_attn_default"

ROWS = (
    attention("ScaledDotProductFlashAttentionForCpuBackward0", f"{_QKV} attn_mask", _heads_first),
    # -- other devices ------------------------------------------------------------------------------
    attention("ScaledDotProductFlashAttentionBackward0", _QKV, _heads_first, unexecuted="needs CUDA"),
    attention("ScaledDotProductEfficientAttentionBackward0", f"{_QKV} attn_bias", _heads_first,
        unexecuted="needs CUDA"),
    attention("ScaledDotProductCudnnAttentionBackward0", _QKV, _heads_first, unexecuted="needs CUDA"),
    attention("ScaledDotProductFusedAttentionOverrideableBackward0", f"{_QKV} attn_bias", _heads_first,
        unexecuted="needs a backend that overrides the operation"),
    # -- sequences of several lengths, packed or jagged ----------------------------------------------
    attention("FlashAttentionBackward0", _QKV, _heads_last, unexecuted="needs CUDA"),
    attention("EfficientAttentionBackward0", f"{_QKV} bias", None, unexecuted="needs CUDA"),
    attention("CudnnAttentionBackward0", _QKV, None, unexecuted="needs CUDA"),
    attention(VARLEN, f"{_QKV} cu_seq_q cu_seq_k", _varlen, results="", unused=(3, 4)),
    # -- the flash-attn library ----------------------------------------------------------------------
    *(attention(f"flash_attn.flash_attn_interface.{name}", operands, None, results="")
      for name, operands in {
        "FlashAttnFunc": _QKV,
        "FlashAttnKVPackedFunc": "query kv",
        "FlashAttnQKVPackedFunc": "qkv",
        "FlashAttnVarlenFunc": f"{_QKV} cu_seqlens_q cu_seqlens_k",
        "FlashAttnVarlenKVPackedFunc": "query kv cu_seqlens_q cu_seqlens_k",
        "FlashAttnVarlenQKVPackedFunc": "qkv cu_seqlens",
    }.items()),
)  # fmt: skip
