"""Calls that make autograd build each node of this pack."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten = torch.ops.aten

# Batch, heads, length, width. Lengths and widths all differ, so that no two can be swapped unseen.
SELF = ("n 2 3 4", "n 2 3 4", "n 2 3 4")
CROSS = ("n 2 3 4", "n 2 5 4", "n 2 5 4")
GROUPED = ("n 4 3 2", "n 2 5 2", "n 2 5 2")


def flash(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, **options)


def seen(q: Tensor, k: Tensor) -> Tensor:
    """A boolean mask that hides one key of each query."""
    rows = torch.arange(q.shape[-2], device=q.device)[:, None]
    return rows != torch.arange(k.shape[-2], device=q.device)


def slope(q: Tensor, k: Tensor) -> Tensor:
    """An additive mask, as ALiBi adds one."""
    rows = torch.arange(q.shape[-2], device=q.device, dtype=q.dtype)[:, None]
    return (torch.arange(k.shape[-2], device=q.device, dtype=q.dtype) - rows) / 4


def hidden(a: Tensor) -> Tensor:
    """The logits of a, of which one is -inf."""
    first = torch.arange(a.shape[-1], device=a.device) == 0
    return a.masked_fill(first, -torch.inf)


def softmax_by_hand(a: Tensor) -> Tensor:
    shifted = (a - a.max(-1, keepdim=True).values).exp()
    return shifted / shifted.sum(-1, keepdim=True)


def log_softmax_by_hand(a: Tensor) -> Tensor:
    return a - a.exp().sum(-1, keepdim=True).log()


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


def layer_norm_by_hand(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()


def third(a: Tensor) -> Tensor:
    """Every third entry of each row, to be hidden from a softmax."""
    return (torch.arange(a.shape[-1], device=a.device) % 3 == 0).expand(a.shape).contiguous()


GROUPED_KERNEL = (torch.float32, torch.bfloat16)


def experts(a: Tensor, b: Tensor, tokens: int) -> Tensor:
    """Three groups of tokens: one, none, the rest."""
    ends = torch.tensor([min(1, tokens), min(1, tokens), tokens], dtype=torch.int32, device=a.device)
    return torch._grouped_mm(a, b, offs=ends)


SAMPLES = (
    # -- softmax -----------------------------------------------------------------------------------
    Sample("SoftmaxBackward0", lambda a: a.softmax(-1), decomposed=softmax_by_hand),
    Sample("SoftmaxBackward0", lambda a: a.softmax(1), ("n 2 3",), label="inner"),
    Sample("SoftmaxBackward0", lambda a: a.softmax(0), batched=False, label="rows"),
    Sample("SoftmaxBackward0", lambda a: hidden(a).softmax(-1), label="hidden"),
    Sample("LogSoftmaxBackward0", lambda a: a.log_softmax(-1), decomposed=log_softmax_by_hand),
    Sample("LogSoftmaxBackward0", lambda a: a.log_softmax(1), ("n 2 3",), label="inner"),
    Sample("SafeSoftmaxBackward0", lambda a: aten._safe_softmax(a, -1)),
    Sample("SafeSoftmaxBackward0", lambda a: aten._safe_softmax(a, 1), ("n 2 3",), label="inner"),
    Sample("SafeSoftmaxBackward0", lambda a: aten._safe_softmax(hidden(a), -1), ("n 2 1",),
        label="all-hidden"),
    Sample("MaskedSoftmaxBackward0", lambda a: torch._masked_softmax(a, third(a), -1, 2)),
    # -- experts -----------------------------------------------------------------------------------
    Sample("GroupedMmBackward0",
        lambda a, w: experts(a.contiguous(), w.contiguous(), a.shape[0]), ("n 8", "3 8 8"),
        batched=False, dtypes=GROUPED_KERNEL),
    Sample("GroupedMmBackward0",
        lambda a, w: experts(w.contiguous(), a.contiguous().mT, a.shape[0]), ("n 8", "3 8 8"),
        batched=False, dtypes=GROUPED_KERNEL, label="columns"),
    Sample("GroupedMmBackward0", lambda a, b: torch._grouped_mm(a.contiguous(), b.contiguous()),
        ("n 8 8", "n 8 8"), dtypes=GROUPED_KERNEL, label="no-ends"),
    # -- layer norm --------------------------------------------------------------------------------
    Sample("NativeLayerNormBackward0", lambda x: F.layer_norm(x, (4,)), label="plain",
        decomposed=layer_norm_by_hand),
    Sample("NativeLayerNormBackward0", lambda x, w: F.layer_norm(x, (4,), w), ("n 4", "4"),
        label="weight"),
    Sample("NativeLayerNormBackward0", lambda x, b: F.layer_norm(x, (4,), None, b), ("n 4", "4"),
        label="bias"),
    Sample("NativeLayerNormBackward0", lambda x, w, b: F.layer_norm(x, (4,), w, b),
        ("n 2 4", "4", "4")),
    Sample("NativeLayerNormBackward0", lambda x, w, b: F.layer_norm(x, (2, 3), w, b),
        ("n 2 3", "2 3", "2 3"), label="two-dims"),
    Sample("NativeLayerNormBackward0", lambda x, w, b: F.layer_norm(x, (4,), w, b, 0.1),
        ("n 2 4", "4", "4"), label="eps"),
    # -- fused attention ---------------------------------------------------------------------------
    Sample("ScaledDotProductFlashAttentionForCpuBackward0", flash, SELF, decomposed=attention_by_hand),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0", flash, CROSS, label="cross",
        decomposed=attention_by_hand),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0",
        lambda q, k, v: flash(q, k, v, is_causal=True), SELF, label="causal"),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0",
        lambda q, k, v: flash(q, k, v, scale=0.3), CROSS, label="scale"),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0",
        lambda q, k, v: flash(q, k, v, attn_mask=seen(q, k)), CROSS, label="mask"),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0",
        lambda q, k, v: flash(q, k, v, attn_mask=slope(q, k)), CROSS, label="additive"),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0",
        lambda q, k, v: flash(q, k, v, enable_gqa=True), GROUPED, label="grouped"),
    Sample("ScaledDotProductFlashAttentionForCpuBackward0",
        lambda x: flash(x, x, x), ("n 2 3 4",), label="own"),
)  # fmt: skip
