"""Spellings of normalisations, and of the statistics that they hold."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Group

EPS = 1e-5


def _mean(x: Tensor) -> Tensor:
    return x.mean(-1, keepdim=True)


def _var(x: Tensor) -> Tensor:
    return x.var(-1, correction=0, keepdim=True)


def _layer_norm(x: Tensor) -> Tensor:
    return (x - _mean(x)) / torch.sqrt(_mean((x - _mean(x)) ** 2) + EPS)


def _rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)


def _llama(x: Tensor, w: Tensor) -> Tensor:
    """The spelling of Llama's RMSNorm, with its round trip through float32."""
    h = x.to(torch.float32)
    h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + EPS)
    return w * h.to(x.dtype)


def _folded(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """scale * x + shift, as batched kernels spell it: the mean is subtracted after scaling."""
    scale = w * torch.rsqrt(_var(x) + EPS)
    return x * scale + (b - _mean(x) * scale)


def _channels_first(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + EPS)


def _group_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    grouped = x.view(x.shape[0], 2, -1)
    return _layer_norm(grouped).view(x.shape) * w.view(1, -1, 1) + b.view(1, -1, 1)


def _var_mean(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + EPS) * w + b


W, B = (4,), (4,)

NORMS = (
    Group("layer norm", {
        "F.layer_norm": lambda x, w, b: F.layer_norm(x, (4,), w, b, EPS),
        "affine apart": lambda x, w, b: F.layer_norm(x, (4,), eps=EPS) * w + b,
        "by hand": lambda x, w, b: _layer_norm(x) * w + b,
        "torch.var": lambda x, w, b: w * (x - _mean(x)) / (_var(x) + EPS).sqrt() + b,
        "rsqrt": lambda x, w, b: (x - _mean(x)) * torch.rsqrt(_mean((x - _mean(x)).square()) + EPS) * w + b,
        "var_mean": _var_mean,
        "x * x": lambda x, w, b: (lambda h: h / (_mean(h * h) + EPS) ** 0.5 * w + b)(x - _mean(x)),
        "moments": lambda x, w, b: (x - _mean(x)) * (_mean(x * x) - _mean(x) ** 2 + EPS) ** -0.5 * w + b,
        "reciprocal": lambda x, w, b: (x - _mean(x)) * (1 / (x.var(-1, False, True) + EPS).sqrt()) * w + b,
        "folded": _folded,
        "group norm": lambda x, w, b: F.group_norm(x.unsqueeze(2), 1, w, b, EPS).squeeze(2),
        "sums": lambda x, w, b: (lambda h: h * ((h * h).sum(-1, True) / 4 + EPS).rsqrt() * w + b)(
            x - x.sum(-1, True) / 4),
        "centring matrix": lambda x, w, b: (lambda h: h * (_mean(h**2) + EPS).rsqrt() * w + b)(
            x @ (torch.eye(4, dtype=x.dtype) - 0.25)),
        "var of the uncentred": lambda x, w, b: (lambda h: h * (_var(x) + EPS).rsqrt() * w + b)(x - _mean(x)),
    }, constants=(W, B)),
    Group("layer norm over channels (ConvNeXt)", {
        "permuted": lambda x, w, b: F.layer_norm(x.permute(0, 2, 1), (4,), w, b, EPS).permute(0, 2, 1),
        "by hand": lambda x, w, b: _channels_first(x) * w[:, None] + b[:, None],
        "group norm of places": lambda x, w, b: F.group_norm(x.mT.reshape(-1, 4), 1, w, b, EPS)
            .view(2, 3, 4).mT,
    }, live=((2, 4, 3),), constants=(W, B)),
    Group("rms norm of a gated tensor (Mamba-2)", {
        "by hand": lambda x, z, w: w * _rms(x * F.silu(z)),
        "silu by hand": lambda x, z, w: _llama(x * (z * torch.sigmoid(z)), w),
        "square root": lambda x, z, w: (lambda h: w * h / (h.square().mean(-1, True) + EPS).sqrt())(
            F.silu(z) * x),
    }, live=((3, 4), (3, 4)), constants=(W,)),
    Group("rms norm", {
        "by hand": lambda x, w: _rms(x) * w,
        "Llama": _llama,
        "F.rms_norm": lambda x, w: F.rms_norm(x, (4,), w, EPS),
        "weight first": lambda x, w: w * x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS),
        "square root": lambda x, w: x / torch.sqrt(x.square().mean(-1, keepdim=True) + EPS) * w,
        "power": lambda x, w: x * (x.pow(2).sum(-1, keepdim=True) / 4 + EPS).pow(-0.5) * w,
        "reciprocal": lambda x, w: x * (1 / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS)) * w,
        "scale first": lambda x, w: x * (w * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)),
        "matmul": lambda x, w: x * w * torch.rsqrt(x.square() @ torch.full((4, 1), 0.25).to(x) + EPS),
        "einsum": lambda x, w: x * torch.rsqrt(torch.einsum("bi,bi->b", x, x)[:, None] / 4 + EPS) * w,
    }, constants=(W,)),
    Group("rms norm, 1 + weight (Gemma)", {
        "by hand": lambda x, w: _rms(x) * (1 + w),
        "float32": lambda x, w: (_rms(x.float()) * (1.0 + w.float())).type_as(x),
    }, constants=(W,)),
    Group("group norm", {
        "F.group_norm": lambda x, w, b: F.group_norm(x, 2, w, b, EPS),
        "by hand": _group_norm,
        "layer norm of groups": lambda x, w, b: F.layer_norm(x.reshape(-1, 6), (6,), eps=EPS).view(x.shape)
            * w[:, None] + b[:, None],
        "two halves": lambda x, w, b: torch.cat([F.group_norm(h, 1, eps=EPS) for h in x.chunk(2, 1)], 1)
            * w[:, None] + b[:, None],
    }, live=((2, 4, 3),), constants=(W, B)),
    Group("instance norm", {
        "F.instance_norm": lambda x: F.instance_norm(x, eps=EPS),
        "group norm": lambda x: F.group_norm(x, 4, eps=EPS),
        "by hand": _layer_norm,
    }, live=((2, 4, 3),)),
    Group("l2 norm", {
        "F.normalize": lambda x: F.normalize(x, dim=-1),
        "norm": lambda x: x / x.norm(dim=-1, keepdim=True),
        "vector_norm": lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-12),
        "rsqrt": lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True)),
        "sqrt": lambda x: x / x.pow(2).sum(-1).sqrt().unsqueeze(-1),
        "power": lambda x: x * x.square().sum(-1, keepdim=True) ** -0.5,
        "reciprocal": lambda x: x * x.norm(dim=-1, keepdim=True).reciprocal(),
        "expanded": lambda x: x / x.norm(dim=-1)[:, None].expand_as(x),
        "einsum": lambda x: x / torch.einsum("bi,bi->b", x, x).sqrt()[:, None],
        "dot of rows": lambda x: x / (x.unsqueeze(1) @ x.unsqueeze(2)).sqrt().squeeze(2),
    }),
    Group("cosine similarity", {
        "F.cosine_similarity": lambda a, b: F.cosine_similarity(a, b, dim=-1),
        "normalised": lambda a, b: (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1),
        "by hand": lambda a, b: (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)),
        "two quotients": lambda a, b: (a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1),
        "rsqrt": lambda a, b: (a * b).sum(-1) * (a * a).sum(-1).rsqrt() * (b * b).sum(-1).rsqrt(),
    }, live=((3, 4), (3, 4))),
    Group("batch norm, training", {
        "F.batch_norm": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        "by hand": lambda x, w, b: (x - x.mean(0)) / torch.sqrt(((x - x.mean(0)) ** 2).mean(0) + EPS) * w + b,
        "layer norm": lambda x, w, b: F.layer_norm(x.t(), (5,), eps=EPS).t() * w + b,
    }, live=((5, 4),), constants=(W, B), batched=False),
    Group("batch norm, evaluation", {
        "F.batch_norm": lambda x, w, b, m: F.batch_norm(x, m.detach(), m.detach() ** 2, w, b),
        "by hand": lambda x, w, b, m: (x - m.detach()) / (m.detach() ** 2 + EPS).sqrt() * w + b,
        "scale and shift": lambda x, w, b, m: (lambda s: x * s + (b - m.detach() * s))(
            w * (m.detach() ** 2 + EPS).rsqrt()),
        "addcmul": lambda x, w, b, m: (lambda s: torch.addcmul(b - m.detach() * s, x, s))(
            w * (m.detach() ** 2 + EPS).rsqrt()),
    }, constants=(W, B, W)),
    Group("weight norm", {
        "by hand": lambda x, v, g: x @ (g * v / v.norm(dim=1, keepdim=True)).t(),
        "_weight_norm": lambda x, v, g: F.linear(x, torch._weight_norm(v, g, 0)),
        "normalised": lambda x, v, g: F.linear(x, F.normalize(v, dim=1)) * g.t(),
        "rsqrt": lambda x, v, g: (x @ v.t()) * (g * v.pow(2).sum(1, keepdim=True).rsqrt()).t(),
    }, constants=((5, 4), (5, 1))),
    Group("variance", {
        "torch.var": lambda x: x.var(-1, correction=0),
        "centred": lambda x: ((x - _mean(x)) ** 2).mean(-1),
        "product": lambda x: ((x - _mean(x)) * (x - _mean(x))).mean(-1),
        "std": lambda x: x.std(-1, correction=0) ** 2,
        "moments": lambda x: (x * x).mean(-1) - x.mean(-1) ** 2,
    }),
    Group("norm", {
        "norm": lambda x: x.norm(dim=-1),
        "sqrt": lambda x: x.pow(2).sum(-1).sqrt(),
        "power": lambda x: (x * x).sum(-1) ** 0.5,
        "centred std": lambda x: (x.square().mean(-1) * 4).sqrt(),
    }),
    Group("normalised by the sum", {
        "quotient": lambda x: x / x.sum(-1, keepdim=True),
        "reciprocal": lambda x: x * (1 / x.sum(-1, keepdim=True)),
        "power": lambda x: x * x.sum(-1, keepdim=True) ** -1,
        "mean": lambda x: x / x.mean(-1, keepdim=True) / 4,
        "F.normalize": lambda x: F.normalize(x, p=1.0, dim=-1),
    }, positive=True),
)  # fmt: skip
