"""AttnLRP of one head, entry by entry; softmax by hand; tensors with known seeds."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def head(q: Tensor, k: Tensor, v: Tensor, r: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor]:
    """AttnLRP of one head, entry by entry: relevance of q, k, v for relevance r of the output."""
    (n, d), m = q.shape, len(k)
    rq, rk, rv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for i in range(n):
        seen = range(i + 1) if causal else range(m)
        raw = {j: sum(float(q[i, e] * k[j, e]) for e in range(d)) for j in seen}
        s = {j: raw[j] / math.sqrt(d) for j in seen}
        whole = sum(math.exp(x) for x in s.values())
        p = {j: math.exp(s[j]) / whole for j in seen}
        r_p = dict.fromkeys(seen, 0.0)
        for e in range(v.shape[1]):
            o = sum(p[j] * float(v[j, e]) for j in seen)
            for j in seen:  # the product with v: half to each side, epsilon rule
                share = p[j] * float(v[j, e]) / o * float(r[i, e]) / 2
                r_p[j] += share
                rv[j, e] += share
        total = sum(r_p.values())
        for j in seen:
            r_s = s[j] * (r_p[j] - p[j] * total)  # proposition 3.1
            for e in range(d):  # the product of q and k, scaled: half to each side again
                share = float(q[i, e] * k[j, e]) / raw[j] * r_s / 2
                rq[i, e] += share
                rk[j, e] += share
    return rq, rk, rv


def softmax_by_hand(x: Tensor) -> Tensor:
    e = (x - x.amax(-1, keepdim=True)).exp()
    return e / e.sum(-1, keepdim=True)


def by_reciprocal(x: Tensor) -> Tensor:
    return x.exp() * x.exp().sum(-1, keepdim=True).reciprocal()


def by_logarithm(x: Tensor) -> Tensor:
    return (x - x.logsumexp(-1, keepdim=True)).exp()
