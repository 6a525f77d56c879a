"""Spellings of softmax, attention and gated blocks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .table import Group

SQRT_D = 2.0  # width 4
SEEN = torch.tensor([1.0, 0.0, 1.0, 1.0])


def lse(x: Tensor) -> Tensor:
    return x.logsumexp(-1, keepdim=True)


def stable(x: Tensor, top: Tensor) -> Tensor:
    """logsumexp by hand, less ``top`` and then more of it."""
    return (top.squeeze(-1) + (x - top).exp().sum(-1).log()).unsqueeze(-1)


def by_hand(x: Tensor, dim: int = -1) -> Tensor:
    e = torch.exp(x - x.amax(dim, keepdim=True))
    return e / e.sum(dim, keepdim=True)


SOFTMAX = (
    Group("softmax", {
        "torch.softmax": lambda x: x.softmax(-1),
        "one exp": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(x.exp()),
        "two exps": lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
        "amax subtracted": by_hand,
        "max subtracted": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(
            (x - x.max(-1, keepdim=True).values).exp()),
        "detached max": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(
            (x - x.detach().amax(-1, keepdim=True)).exp()),
        "whole maximum": lambda x: (lambda e: e / e.sum(-1, keepdim=True))((x - x.max()).exp()),
        "all spelled twice": lambda x: (x - x.amax(-1, keepdim=True)).exp()
            / (x - x.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True),
        "reciprocal": lambda x: (lambda e: e * (1 / e.sum(-1, keepdim=True)))(x.exp()),
        "power": lambda x: (lambda e: e.sum(-1, keepdim=True) ** -1 * e)(x.exp()),
        "sum expanded": lambda x: (lambda e: e / e.sum(-1).unsqueeze(-1).expand_as(e))(x.exp()),
        "transposed": lambda x: (lambda e: (e.t() / e.sum(1)).t())(x.exp()),
        "two sums": lambda x: (lambda e: e / e.view(3, 2, 2).sum(-1).sum(-1)[:, None])(x.exp()),
        "mean": lambda x: (lambda e: e / e.mean(-1, keepdim=True) / 4)(x.exp()),
        "scaled exps": lambda x: (lambda e: e / (e / 2).sum(-1, keepdim=True) / 2)(x.exp()),
        "exps of two": lambda x: x.exp() / x.mT.exp().sum(0)[:, None],
        "power of two": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(torch.exp2(x / math.log(2))),
        "two unsqueezes": lambda x: (lambda e: e / e.sum(-1)[:, None])(x.exp()),
        "exp of log-softmax": lambda x: x.log_softmax(-1).exp(),
        "exp(x - logsumexp)": lambda x: torch.exp(x - x.logsumexp(-1, keepdim=True)),
        "exp(x - log sum exp)": lambda x: torch.exp(x - x.exp().sum(-1, keepdim=True).log()),
        "exp(x - stable logsumexp)": lambda x: torch.exp(x - stable(x, x.amax(-1, keepdim=True))),
        "shifted twice": lambda x: (lambda m: torch.exp(x - m - (x - m).exp().sum(-1, keepdim=True).log()))(
            x.detach().amax(-1, keepdim=True)),
        "exp(-(logsumexp - x))": lambda x: torch.exp(-(lse(x) - x)),
        "exp(x + (-logsumexp))": lambda x: torch.exp(x + (-lse(x))),
        "exp times exp(-logsumexp)": lambda x: x.exp() * (-lse(x)).exp(),
        "exp times exp(-log sum exp)": lambda x: x.exp() * (-x.exp().sum(-1, keepdim=True).log()).exp(),
        "exp over exp(logsumexp)": lambda x: x.exp() / lse(x).exp(),
        "exp of log of softmax": lambda x: x.softmax(-1).log().exp(),
        "matrix product": lambda x: (lambda e: e / (e @ torch.ones(4, 1).to(x)))(x.exp()),
        "matrix and vector": lambda x: (lambda e: e / (e @ torch.ones(4).to(x))[:, None])(x.exp()),
        "product from the left": lambda x: (lambda e: (e / (torch.ones(1, 4).to(x) @ e)).mT)(x.mT.exp()),
        "F.normalize": lambda x: F.normalize(x.exp(), p=1.0, dim=-1),
        "norm": lambda x: (lambda e: e / e.norm(p=1, dim=-1, keepdim=True))(x.exp()),
        "floor under the sum": lambda x: (lambda e: e / e.sum(-1, keepdim=True).clamp(min=1e-9))(x.exp()),
        "safe softmax": lambda x: torch.ops.aten._safe_softmax(x, -1),
        "shifted": lambda x: (x + 5.0).softmax(-1),
    }),
    Group("masked softmax", {
        "masked_fill": lambda x: x.masked_fill(SEEN == 0, -torch.inf).softmax(-1),
        "of masked logits": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(
            x.masked_fill(SEEN == 0, -torch.inf).exp()),
        "exps times mask": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(x.exp() * SEEN),
        "exps filled": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(x.exp().masked_fill(SEEN == 0, 0.0)),
        "weights times mask": lambda x: (lambda p: p / (p.sum(-1, keepdim=True) + 1e-13))(
            x.softmax(-1) * SEEN),
        "weights filled": lambda x: (lambda p: p / p.sum(-1, keepdim=True))(
            torch.where(SEEN == 0, 0.0, x.softmax(-1))),
    }),
    Group("softmax over the first dimension", {
        "torch.softmax": lambda x: x.softmax(1),
        "by hand": lambda x: by_hand(x, 1),
        "transposed": lambda x: x.transpose(1, 2).softmax(-1).transpose(1, 2),
        "by hand, transposed": lambda x: (lambda e: (e.mT / e.sum(1).unsqueeze(-1)).mT)(x.exp()),
    }, live=((2, 3, 3),)),
    Group("log-softmax", {
        "torch.log_softmax": lambda x: x.log_softmax(-1),
        "logsumexp": lambda x: x - x.logsumexp(-1, keepdim=True),
        "by hand": lambda x: x - x.exp().sum(-1, keepdim=True).log(),
        "max subtracted": lambda x: (lambda u: u - u.exp().sum(-1, keepdim=True).log())(
            x - x.amax(-1, keepdim=True)),
        "log(softmax)": lambda x: x.softmax(-1).log(),
        "log(softmax + tiny)": lambda x: (x.softmax(-1) + 1e-12).log(),
        "logsumexp of a copy": lambda x: x - x.mT.logsumexp(0)[:, None],
        "log of softmax by hand": lambda x: by_hand(x).log(),
        "log of F.normalize": lambda x: F.normalize(x.exp(), p=1.0, dim=-1).log(),
        "log of exp times exp": lambda x: (x.exp() * (-lse(x)).exp()).log(),
        "stable": lambda x: x - stable(x, x.amax(-1, keepdim=True)),
    }),
    Group("logsumexp", {
        "torch.logsumexp": lambda x: x.logsumexp(-1),
        "by hand": lambda x: x.exp().sum(-1).log(),
        "max subtracted": lambda x: (x - x.amax(-1, keepdim=True)).exp().sum(-1).log() + x.amax(-1),
        "detached max": lambda x: (lambda m: (x - m).exp().sum(-1).log() + m[:, 0])(
            x.detach().amax(-1, keepdim=True)),
        "mean": lambda x: x.exp().mean(-1).log() + math.log(4),
        "scaled": lambda x: (x.exp() / 3).sum(-1).log() + math.log(3),
        "matrix product": lambda x: (x.exp() @ torch.ones(4).to(x)).log(),
        "norm": lambda x: x.exp().norm(p=1, dim=-1).log(),
        "logaddexp": lambda x: torch.logaddexp(
            torch.logaddexp(x[:, 0], x[:, 1]), torch.logaddexp(x[:, 2], x[:, 3])),
        "logcumsumexp": lambda x: torch.logcumsumexp(x, -1)[:, -1],
    }),
    Group("masked logsumexp with a sink", {
        "concatenated": lambda x: torch.cat(
            [x.masked_fill(SEEN == 0, -torch.inf), torch.zeros(3, 1).to(x)], -1).logsumexp(-1),
        "1 + sum": lambda x: (1 + (x.exp() * SEEN).sum(-1)).log(),
    }, batched=False),
    Group("softmax with a sink", {
        "concatenated": lambda x: torch.cat([x, torch.zeros(3, 1).to(x)], -1).softmax(-1)[:, :-1],
        "1 + sum": lambda x: (lambda e: e / (1 + e.sum(-1, keepdim=True)))(x.exp()),
        "reciprocal": lambda x: (lambda e: e * (1 + e.sum(-1, keepdim=True)).reciprocal())(x.exp()),
    }),
    Group("router weights of the top k", {
        "top k first": lambda x: x.topk(2, -1).values.softmax(-1),
        "normalised": lambda x: (lambda p: p / p.sum(-1, keepdim=True))(x.softmax(-1).topk(2, -1).values),
        "reciprocal": lambda x: (lambda p: p * (1 / p.sum(-1, keepdim=True)))(
            x.softmax(-1).topk(2, -1).values),
        "gathered": lambda x: (lambda p: p / p.sum(-1)[:, None])(
            x.softmax(-1).gather(-1, x.detach().topk(2, -1).indices)),
        "scattered": lambda x: (lambda p: (p / p.sum(-1, keepdim=True)).gather(-1, x.topk(2, -1).indices))(
            torch.zeros_like(x).scatter(-1, x.topk(2, -1).indices, x.softmax(-1).topk(2, -1).values)),
        "of softmax by hand": lambda x: (lambda p: p / p.sum(-1, keepdim=True))(
            by_hand(x).topk(2, -1).values),
        "of exp(log-softmax)": lambda x: (lambda p: p / p.sum(-1, keepdim=True))(
            x.log_softmax(-1).exp().topk(2, -1).values),
        "of exp(x - logsumexp)": lambda x: (lambda p: p / p.sum(-1, keepdim=True))(
            (x - lse(x)).exp().topk(2, -1).values),
        "of exps": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(x.exp().topk(2, -1).values),
        "F.normalize": lambda x: F.normalize(x.softmax(-1).topk(2, -1).values, p=1.0, dim=-1),
        "sorted": lambda x: (lambda p: p / p.sum(-1, keepdim=True))(
            x.softmax(-1).sort(-1, descending=True).values[:, :2]),
    }),
    Group("softmax with temperature", {
        "x / t": lambda x, t: (x / t.exp()).softmax(-1),
        "x * (1 / t)": lambda x, t: (x * (-t).exp()).softmax(-1),
        "by hand": lambda x, t: by_hand(x / t.exp()),
    }, constants=((1,),)),
)  # fmt: skip


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


# -- multi-head attention with its projections ------------------------------------------------------


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
