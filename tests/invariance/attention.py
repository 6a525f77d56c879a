"""Spellings of attention, its masks and biases, and of heads that share keys."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .softmax import by_hand
from .table import Group

SQRT_D = 2.0  # width 4


def eager(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    logits = q @ k.mT / SQRT_D
    return (logits if mask is None else logits + mask).softmax(-1) @ v


def causal(x: Tensor) -> Tensor:
    return torch.full((3, 3), -torch.inf).triu(1).to(x)


def slopes(q: Tensor) -> Tensor:
    """ALiBi: each head's slope times the distance back, (heads, 1, keys)."""
    return torch.tensor([0.5, 0.25])[:, None, None].to(q) * torch.arange(-2.0, 1.0).to(q)


def window(q: Tensor) -> Tensor:
    """Each query sees its own place and the one before."""
    back = torch.arange(3)[:, None] - torch.arange(3)
    return (back >= 0) & (back < 2)


QKV = ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4))
SAME = ((2, 2, 3, 4),) * 3
GROUPED = ((2, 4, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4))

ATTENTION = (
    Group("attention", {
        "SDPA": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
        "eager": eager,
        "scaled queries": lambda q, k, v: ((q / SQRT_D) @ k.mT).softmax(-1) @ v,
        "both scaled": lambda q, k, v: ((q * SQRT_D**-0.5) @ (k * SQRT_D**-0.5).mT).softmax(-1) @ v,
        "einsum": lambda q, k, v: torch.einsum("bhqk,bhkd->bhqd",
            (torch.einsum("bhqd,bhkd->bhqk", q, k) / SQRT_D).softmax(-1), v),
        "baddbmm": lambda q, k, v: (torch.baddbmm(torch.zeros(4, 3, 5).to(q), q.flatten(0, 1),
            k.flatten(0, 1).mT, beta=0.0, alpha=0.5).softmax(-1) @ v.flatten(0, 1)).view(2, 2, 3, 4),
        "softmax by hand": lambda q, k, v: by_hand(q @ k.mT / SQRT_D) @ v,
        "normalised after": lambda q, k, v: (lambda e: (e / e.sum(-1, keepdim=True)) @ v)(
            torch.exp(q @ k.mT / SQRT_D)),
        "float32 softmax": lambda q, k, v: torch.softmax(q @ k.mT / SQRT_D, -1, dtype=torch.float64)
            .to(q.dtype) @ v,
        "keys transposed": lambda q, k, v: (k @ q.mT / SQRT_D).softmax(-2).mT @ v,
        "products and sums": lambda q, k, v: ((q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) / SQRT_D)
            .softmax(-1) @ v,
        "a head at a time": lambda q, k, v: torch.stack(
            [eager(q[:, h], k[:, h], v[:, h]) for h in range(2)], 1),
    }, live=QKV),
    Group("causal attention", {
        "is_causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        "additive": lambda q, k, v: eager(q, k, v, causal(q)),
        "lowest number": lambda q, k, v: eager(q, k, v, causal(q).clamp(min=torch.finfo(q.dtype).min)),
        "masked_fill": lambda q, k, v: (q @ k.mT / SQRT_D).masked_fill(causal(q) < 0, -torch.inf)
            .softmax(-1) @ v,
        "where": lambda q, k, v: torch.where(causal(q) == 0, q @ k.mT / SQRT_D, -torch.inf).softmax(-1) @ v,
        "SDPA, boolean": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal(q) == 0),
        "SDPA, additive": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal(q)),
    }, live=SAME),
    Group("attention with linear biases", {
        "SDPA": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, slopes(q)),
        "added": lambda q, k, v: eager(q, k, v, slopes(q)),
        "baddbmm (BLOOM)": lambda q, k, v: (torch.baddbmm(slopes(q).expand(2, 2, 3, 3).flatten(0, 1),
            q.flatten(0, 1), k.flatten(0, 1).mT, beta=1.0, alpha=0.5).softmax(-1) @ v.flatten(0, 1)).view(
            2, 2, 3, 4),
        "in a longer key": lambda q, k, v: (torch.cat([q / SQRT_D, torch.ones(2, 2, 3, 1).to(q)], -1)
            @ torch.cat([k, slopes(q).expand(2, 2, 1, 3).mT], -1).mT).softmax(-1) @ v,
    }, live=SAME),
    Group("sliding window", {
        "SDPA": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, window(q)),
        "masked_fill": lambda q, k, v: (q @ k.mT / SQRT_D).masked_fill(~window(q), -torch.inf)
            .softmax(-1) @ v,
        "a query at a time": lambda q, k, v: torch.cat([
            F.scaled_dot_product_attention(q[:, :, i : i + 1], k[:, :, max(0, i - 1) : i + 1],
                v[:, :, max(0, i - 1) : i + 1]) for i in range(3)], 2),
    }, live=SAME),
    Group("attention to a pair bias", {
        "added": lambda q, k, v, b: eager(q, k, v, b),
        "SDPA": lambda q, k, v, b: F.scaled_dot_product_attention(q, k, v, b),
        "by hand": lambda q, k, v, b: by_hand(b + q @ k.mT / SQRT_D) @ v,
    }, live=(*SAME, (2, 2, 3, 3))),
    Group("self-attention of one tensor", {
        "SDPA": lambda x: F.scaled_dot_product_attention(x, x, x),
        "eager": lambda x: eager(x, x, x),
        "clones": lambda x: eager(x.clone(), x.clone(), x.clone()),
    }, live=((2, 2, 3, 4),)),
    Group("one head of keys", {
        "enable_gqa": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        "broadcast": eager,
        "expanded": lambda q, k, v: eager(q, k.expand(2, 4, 3, 4), v.expand(2, 4, 3, 4)),
        "queries in a row": lambda q, k, v: eager(q.flatten(1, 2), k[:, 0], v[:, 0]).view(2, 4, 3, 4),
    }, live=((2, 4, 3, 4), (2, 1, 3, 4), (2, 1, 3, 4))),
    Group("grouped queries", {
        "enable_gqa": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        "repeat_interleave": lambda q, k, v: eager(
            q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)),
        "expanded": lambda q, k, v: eager(q, *(
            t[:, :, None].expand(2, 2, 2, 3, 4).reshape(2, 4, 3, 4) for t in (k, v))),
        "stacked": lambda q, k, v: eager(q, *(torch.stack([t, t], 2).flatten(1, 2) for t in (k, v))),
        "groups of queries": lambda q, k, v: eager(
            q.view(2, 2, 2, 3, 4), k.unsqueeze(2), v.unsqueeze(2)).flatten(1, 2),
        "index": lambda q, k, v: eager(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]]),
    }, live=GROUPED),
)  # fmt: skip
