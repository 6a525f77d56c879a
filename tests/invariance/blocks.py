"""Spellings of blocks: attention with its projections, gated layers, squeeze and excite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .table import Group


def _heads(t: Tensor) -> Tensor:
    return t.view(2, 3, 2, 2).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, o: Tensor) -> Tensor:
    """Two heads of width 2."""
    p = (_heads(q) @ _heads(k).mT / 2**0.5).softmax(-1)
    return F.linear((p @ _heads(v)).transpose(1, 2).reshape(2, 3, 4), o)


def _fused_projection(x: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
    return _attend(*F.linear(x, w, b).chunk(3, -1), o)


def _three_projections(x: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
    return _attend(*(F.linear(x, wi, bi) for wi, bi in zip(w.chunk(3), b.chunk(3))), o)


def _unbound(x: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
    """As timm spells it: reshape, permute, unbind."""
    q, k, v = F.linear(x, w, b).reshape(2, 3, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
    out = F.scaled_dot_product_attention(q, k, v)
    return F.linear(out.transpose(1, 2).reshape(2, 3, 4), o)


def _module(weights: bool):  # type: ignore[no-untyped-def]
    def attend(x: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
        made, _ = F.multi_head_attention_forward(
            *(x.transpose(0, 1),) * 3, 4, 2, w, b, None, None, False, 0.0, o, None, need_weights=weights
        )  # fmt: skip
        return made.transpose(0, 1)

    return attend


def _nn_module(x: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
    module = nn.MultiheadAttention(4, 2, batch_first=True, dtype=x.dtype)
    parameters = {"in_proj_weight": w, "in_proj_bias": b, "out_proj.weight": o,
        "out_proj.bias": torch.zeros(4).to(x)}  # fmt: skip
    return torch.func.functional_call(module, parameters, (x, x, x))[0]


def _einsum_heads(x: Tensor, w: Tensor, b: Tensor, o: Tensor) -> Tensor:
    q, k, v = (
        torch.einsum("btd,hed->bhte", x, wi.view(2, 2, 4)) + bi.view(1, 2, 1, 2)
        for wi, bi in zip(w.split(4), b.split(4))
    )
    p = torch.einsum("bhqe,bhke->bhqk", q, k).div(2**0.5).softmax(-1)
    return torch.einsum("bhqk,bhke,dhe->bqd", p, v, o.view(4, 2, 2))


def _bias_tokens(x: Tensor, w: Tensor, k: Tensor, v: Tensor, o: Tensor) -> Tensor:
    """A learned key and value, and one of zeros, behind the others."""
    made, _ = F.multi_head_attention_forward(
        *(x.transpose(0, 1),) * 3, 4, 2, w, None, k, v, True, 0.0, o, None, need_weights=False
    )  # fmt: skip
    return made.transpose(0, 1)


def _tokens_by_hand(x: Tensor, w: Tensor, k: Tensor, v: Tensor, o: Tensor) -> Tensor:
    q, keys, values = F.linear(x, w).chunk(3, -1)
    zeros = torch.zeros(2, 1, 4).to(x)
    keys, values = (torch.cat([t, b.expand(2, 1, 4), zeros], 1) for t, b in ((keys, k), (values, v)))
    q, keys, values = (t.view(2, -1, 2, 2).transpose(1, 2) for t in (q, keys, values))
    p = (q @ keys.mT / 2**0.5).softmax(-1)
    return F.linear((p @ values).transpose(1, 2).reshape(2, 3, 4), o)


BLOCKS = (
    Group("learned bias tokens", {
        "add_bias_kv, add_zero_attn": _bias_tokens,
        "by hand": _tokens_by_hand,
    }, live=((2, 3, 4),), constants=((12, 4), (1, 1, 4), (1, 1, 4), (4, 4)), batched=False),
    Group("multi-head attention", {
        "three projections": _three_projections,
        "one projection, chunked": _fused_projection,
        "one projection, unbound": _unbound,
        "einsum over heads": _einsum_heads,
        "multi_head_attention_forward": _module(False),
        "with weights": _module(True),
        "nn.MultiheadAttention": _nn_module,
    }, live=((2, 3, 4),), constants=((12, 4), (12,), (4, 4))),
    Group("SwiGLU", {
        "two projections": lambda x, g, u, d: (F.silu(x @ g) * (x @ u)) @ d,
        "fused, chunk": lambda x, g, u, d: (lambda a, b: (F.silu(a) * b) @ d)(
            *(x @ torch.cat([g, u], 1)).chunk(2, -1)),
        "fused, split": lambda x, g, u, d: (lambda a, b: (b * F.silu(a)) @ d)(
            *(x @ torch.cat([g, u], 1)).split(5, -1)),
        "fused, slices": lambda x, g, u, d: (lambda h: (F.silu(h[..., :5]) * h[..., 5:]) @ d)(
            x @ torch.cat([g, u], 1)),
        "fused, interleaved": lambda x, g, u, d: (lambda h: (F.silu(h[..., ::2]) * h[..., 1::2]) @ d)(
            x @ torch.stack([g, u], 2).flatten(1)),
        "fused, unbind": lambda x, g, u, d: (lambda a, b: (F.silu(a) * b) @ d)(
            *(x @ torch.cat([g, u], 1)).view(2, 3, 2, 5).unbind(2)),
        "silu by hand": lambda x, g, u, d: (lambda a: (a * torch.sigmoid(a) * (x @ u)) @ d)(x @ g),
        "silu as a quotient": lambda x, g, u, d: (lambda a: ((x @ u) * (a / (1 + (-a).exp()))) @ d)(x @ g),
    }, live=((2, 3, 4),), constants=((4, 5), (4, 5), (5, 4))),
    Group("GLU", {
        "product": lambda x: x[..., :2] * torch.sigmoid(x[..., 2:]),
        "chunk": lambda x: (lambda a, b: torch.sigmoid(b) * a)(*x.chunk(2, -1)),
        "sigmoid by hand": lambda x: (lambda a, b: a * (1 / (1 + torch.exp(-b))))(*x.chunk(2, -1)),
        "F.glu": lambda x: F.glu(x, -1),
    }),
    Group("squeeze and excite", {
        "mean and linear": lambda x, a, b: x * torch.sigmoid(
            F.linear(F.relu(F.linear(x.mean((2, 3)), a)), b))[:, :, None, None],
        "keepdim and conv": lambda x, a, b: x * F.conv2d(F.relu(F.conv2d(
            x.mean((2, 3), keepdim=True), a[:, :, None, None])), b[:, :, None, None]).sigmoid(),
        "adaptive pooling": lambda x, a, b: torch.sigmoid(F.conv2d(F.relu(F.conv2d(
            F.adaptive_avg_pool2d(x, 1), a[:, :, None, None])), b[:, :, None, None])) * x,
        "average pooling": lambda x, a, b: x * torch.sigmoid(
            F.relu(F.avg_pool2d(x, 3).flatten(1) @ a.t()) @ b.t()).view(2, 4, 1, 1),
        "sum and expand": lambda x, a, b: x * torch.sigmoid(F.linear(F.relu(F.linear(
            x.flatten(2).sum(-1) / 9, a)), b)).view(2, 4, 1, 1).expand_as(x),
        "einsum": lambda x, a, b: torch.einsum("bchw,bc->bchw", x, torch.sigmoid(
            F.linear(F.relu(F.linear(x.mean((2, 3)), a)), b))),
        "sigmoid by hand": lambda x, a, b: x * (1 / (1 + torch.exp(-F.linear(
            F.relu(F.linear(x.mean((2, 3)), a)), b))))[:, :, None, None],
    }, live=((2, 4, 3, 3),), constants=((2, 4), (4, 2))),
)  # fmt: skip
