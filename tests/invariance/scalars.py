"""Spellings of scalar functions: activations, powers, elementary functions by hand."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .table import Group

C = math.sqrt(2 / math.pi)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


GATES = (
    Group("silu", {
        "F.silu": lambda x: F.silu(x),
        "x * sigmoid": lambda x: x * torch.sigmoid(x),
        "sigmoid * x": lambda x: torch.sigmoid(x) * x,
        "quotient": lambda x: x / (1 + torch.exp(-x)),
        "x * (1 / ...)": lambda x: x * (1 / (1 + torch.exp(-x))),
        "x * reciprocal": lambda x: x * (1 + (-x).exp()).reciprocal(),
        "x e / (1 + e)": lambda x: x * x.exp() / (1 + x.exp()),
        "x (e / (1 + e))": lambda x: (lambda e: x * (e / (1 + e)))(x.exp()),
        "by tanh": lambda x: x * (0.5 + 0.5 * torch.tanh(x / 2)),
        "inner by tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.5 * x)),
        "in place": lambda x: x.sigmoid().mul_(x),
        "F.silu in place": lambda x: F.silu(x.clone(), inplace=True),
        "by softplus": lambda x: x * torch.exp(-F.softplus(-x)),
        "einsum": lambda x: torch.einsum("ij,ij->ij", x, x.sigmoid()),
    }),
    Group("gelu", {
        "F.gelu": lambda x: F.gelu(x),
        "erf": lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
        "erf, half last": lambda x: (1 + torch.erf(x * math.sqrt(0.5))) * x / 2,
        "normal cdf": lambda x: x * (0.5 + 0.5 * torch.erf(x / 2**0.5)),
    }),
    Group("gelu, tanh form", {
        "F.gelu": lambda x: F.gelu(x, approximate="tanh"),
        "NewGELU": lambda x: 0.5 * x * (1.0 + torch.tanh(C * (x + 0.044715 * torch.pow(x, 3.0)))),
        "products": lambda x: 0.5 * x * (1 + torch.tanh(C * x * (1 + 0.044715 * x * x))),
        "constants first": lambda x: x * 0.5 * (1.0 + torch.tanh(x * C * (1.0 + 0.044715 * x**2))),
        "sigmoid": lambda x: x * torch.sigmoid(2 * C * (x + 0.044715 * x**3)),
    }),
    Group("quick gelu", {
        "x * sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
        "quotient": lambda x: x / (1 + torch.exp(-1.702 * x)),
        "scaled silu": lambda x: F.silu(1.702 * x) / 1.702,
    }),
    Group("mish", {
        "F.mish": lambda x: F.mish(x),
        "softplus": lambda x: x * torch.tanh(F.softplus(x)),
        "log1p": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
        "log": lambda x: x * torch.tanh(torch.log(1 + x.exp())),
        "rational": lambda x: (lambda n: x * n / (n + 2))((x.exp() + 2) * x.exp()),
    }),
    Group("hard-swish", {
        "F.hardswish": lambda x: F.hardswish(x),
        "relu6": lambda x: x * F.relu6(x + 3) / 6,
        "relu6 first": lambda x: x * (F.relu6(x + 3) / 6),
        "clamp": lambda x: x * (x + 3).clamp(0, 6) / 6,
        "hardsigmoid": lambda x: x * F.hardsigmoid(x),
        "hardtanh": lambda x: x * F.hardtanh(x + 3, 0.0, 6.0) * (1 / 6),
    }),
    Group("leaky relu times sigmoid", {
        "F.leaky_relu": lambda x: F.leaky_relu(x, 0.1) * x.sigmoid(),
        "where": lambda x: torch.where(x > 0, x, 0.1 * x) * x.sigmoid(),
        "maximum": lambda x: torch.maximum(x, 0.1 * x) * x.sigmoid(),
        "fmax": lambda x: x.sigmoid() * torch.fmax(0.1 * x, x),
        "minimum": lambda x: -torch.minimum(-x, -0.1 * x) * x.sigmoid(),
        "prelu": lambda x: F.prelu(x, torch.tensor([0.1], dtype=x.dtype)) * x.sigmoid(),
        "quotient": lambda x: torch.where(x > 0, x, 0.1 * x) / (1 + torch.exp(-x)),
    }),
    Group("times a floor", {
        "clamp": lambda x: x * x.clamp(min=0.3),
        "maximum": lambda x: x * torch.maximum(x, torch.full_like(x, 0.3)),
        "fmax": lambda x: torch.fmax(torch.full_like(x, 0.3), x) * x,
        "minimum": lambda x: x * -torch.minimum(-x, torch.full_like(x, -0.3)),
        "threshold": lambda x: x * F.threshold(x, 0.3, 0.3),
    }),
    Group("swish with a learned beta", {
        "x * sigmoid": lambda x, b: x * torch.sigmoid(b * x),
        "quotient": lambda x, b: x / (1 + torch.exp(-b * x)),
    }, constants=((4,),)),
)  # fmt: skip

FUNCTIONS = (
    Group("sigmoid", {
        "torch.sigmoid": lambda x: torch.sigmoid(x),
        "1 / (1 + exp(-x))": sigmoid,
        "e / (1 + e)": lambda x: (lambda e: e / (1 + e))(x.exp()),
        "exp / (1 + exp)": lambda x: x.exp() / (1 + x.exp()),
        "reciprocal": lambda x: (1 + torch.exp(-x)).reciprocal(),
        "power": lambda x: (1 + torch.exp(-x)) ** -1,
        "constant over": lambda x: torch.ones_like(x) / (1 + torch.exp(-x)),
        "tanh": lambda x: 0.5 * (1 + torch.tanh(0.5 * x)),
        "1 - sigmoid(-x)": lambda x: 1 - torch.sigmoid(-x),
        "by softplus": lambda x: torch.exp(-F.softplus(-x)),
        "by logsigmoid": lambda x: F.logsigmoid(x).exp(),
        "through views": lambda x: (1 / (1 + torch.exp(-x.view(-1)).view(3, 4))).clone(),
    }),
    Group("softplus", {
        "F.softplus": lambda x: F.softplus(x),
        "log(1 + exp)": lambda x: torch.log(1 + torch.exp(x)),
        "log1p": lambda x: torch.log1p(torch.exp(x)),
        "x + log1p(exp(-x))": lambda x: x + torch.log1p(torch.exp(-x)),
        "stable": lambda x: torch.clamp(x, min=0) + torch.log1p(torch.exp(-x.abs())),
        "-log sigmoid(-x)": lambda x: -torch.log(torch.sigmoid(-x)),
        "-logsigmoid(-x)": lambda x: -F.logsigmoid(-x),
        "-log(1 - sigmoid)": lambda x: -torch.log(1 - torch.sigmoid(x)),
    }),
    Group("tanh", {
        "torch.tanh": lambda x: torch.tanh(x),
        "four exps": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
        "two exps": lambda x: (lambda e, d: (e - d) / (e + d))(x.exp(), (-x).exp()),
        "exp(-2x)": lambda x: (1 - torch.exp(-2 * x)) / (1 + torch.exp(-2 * x)),
        "one exp": lambda x: (lambda e: (e - 1) / (e + 1))(torch.exp(2 * x)),
        "2 sigmoid(2x) - 1": lambda x: 2 * torch.sigmoid(2 * x) - 1,
        "1 - 2 / (exp(2x) + 1)": lambda x: 1 - 2 / (torch.exp(2 * x) + 1),
    }),
    Group("log sigmoid", {
        "log(sigmoid)": lambda x: torch.log(torch.sigmoid(x)),
        "F.logsigmoid": lambda x: F.logsigmoid(x),
        "-softplus(-x)": lambda x: -F.softplus(-x),
        "-log(1 + exp(-x))": lambda x: -torch.log(1 + torch.exp(-x)),
        "minimum - log1p": lambda x: x.clamp(max=0) - torch.log1p(torch.exp(-x.abs())),
    }),
    Group("elu", {
        "F.elu": lambda x: F.elu(x),
        "where": lambda x: torch.where(x > 0, x, torch.expm1(x)),
        "where exp": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
        "relu + expm1": lambda x: F.relu(x) + torch.expm1(x.clamp(max=0)),
        "relu + exp": lambda x: F.relu(x) + (torch.exp(x.clamp(max=0)) - 1),
    }),
    Group("relu", {
        "F.relu": lambda x: F.relu(x),
        "clamp": lambda x: x.clamp(min=0),
        "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
        "mask": lambda x: x * (x > 0),
        "where": lambda x: torch.where(x > 0, x, 0.0),
        "(x + |x|) / 2": lambda x: (x + x.abs()) / 2,
        "masked_fill": lambda x: x.masked_fill(x <= 0, 0.0),
        "threshold": lambda x: F.threshold(x, 0.0, 0.0),
        "in place": lambda x: x.clone().relu_(),
        "hardtanh": lambda x: F.hardtanh(x, 0.0, 1e9),
    }),
    Group("leaky relu", {
        "F.leaky_relu": lambda x: F.leaky_relu(x, 0.1),
        "where": lambda x: torch.where(x > 0, x, 0.1 * x),
        "maximum": lambda x: torch.maximum(x, 0.1 * x),
        "two relus": lambda x: F.relu(x) - 0.1 * F.relu(-x),
        "prelu": lambda x: F.prelu(x, torch.tensor([0.1], dtype=x.dtype)),
    }),
    Group("square", {
        "x ** 2": lambda x: x**2,
        "x * x": lambda x: x * x,
        "square": lambda x: x.square(),
        "power": lambda x: torch.pow(x, 2.0),
        "x * clone": lambda x: x * x.clone(),
        "|x| * |x|": lambda x: x.abs() * x.abs(),
        "exponent tensor": lambda x: x ** torch.full((4,), 2.0, dtype=x.dtype),
    }),
    Group("cube", {
        "x ** 3": lambda x: x**3,
        "x * x * x": lambda x: x * x * x,
        "x * (x * x)": lambda x: x * (x * x),
        "x ** 2 * x": lambda x: x**2 * x,
    }),
    Group("squared relu", {
        "power": lambda x: F.relu(x) ** 2,
        "square": lambda x: torch.square(F.relu(x)),
        "product": lambda x: (lambda r: r * r)(F.relu(x)),
        "x relu(x)": lambda x: x * F.relu(x),
    }),
    Group("exp", {
        "exp": lambda x: x.exp(),
        "expm1 + 1": lambda x: x.expm1() + 1,
        "exp twice": lambda x: (x / 2).exp() * (x / 2).exp(),
        "squared": lambda x: (x / 2).exp() ** 2,
        "e ** x": lambda x: math.e**x,
        "1 / exp(-x)": lambda x: 1 / torch.exp(-x),
    }),
    Group("reciprocal", {
        "reciprocal": lambda x: x.reciprocal(),
        "1 / x": lambda x: 1 / x,
        "power": lambda x: x**-1,
        "ones / x": lambda x: torch.ones_like(x) / x,
        "rsqrt twice": lambda x: x.rsqrt() * x.rsqrt(),
        "by exp and log": lambda x: torch.exp(-torch.log(x)),
    }, positive=True),
    Group("square root", {
        "sqrt": lambda x: x.sqrt(),
        "power": lambda x: x**0.5,
        "x * rsqrt": lambda x: x * x.rsqrt(),
        "x / sqrt": lambda x: x / x.sqrt(),
        "1 / rsqrt": lambda x: 1 / x.rsqrt(),
        "by exp and log": lambda x: torch.exp(0.5 * x.log()),
    }, positive=True),
)  # fmt: skip
