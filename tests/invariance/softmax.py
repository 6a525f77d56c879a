"""Spellings of softmax, log-softmax, and of what is divided by a sum of exponentials."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Group

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
