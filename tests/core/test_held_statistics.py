"""Matcher *statistic*: what is the scale of a norm, and what only looks like one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.core.readout import GAIN, dropped, relevance, rules_used, same
from tests.tensors import leaf_of

# -- statistic: positive ----------------------------------------------------------------------------


def rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def layer_norm_by_hand(x: Tensor, eps: float = 1e-5) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


def rms_hf(x: Tensor) -> Tensor:
    """The Hugging Face spelling, with its round trip through another dtype."""
    h = x.to(torch.float32).to(torch.float64)
    return GAIN * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))


SCALES = {
    "rms norm": rms,
    "rms norm, Hugging Face": rms_hf,
    "rms norm by sqrt": lambda x: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(),
    "rms norm by x*x": lambda x: x * ((x * x).mean(-1, keepdim=True) + 1e-6) ** -0.5,
    "scaled before": lambda x: (GAIN * x) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
    "negated": lambda x: -x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
    "dropped": lambda x: dropped(x) / x.norm(dim=-1, keepdim=True),
    "l2 norm": lambda x: F.normalize(x, dim=-1),
    "l2 norm by hand": lambda x: x / x.norm(dim=-1, keepdim=True),
    "max norm": lambda x: x / x.abs().amax(-1, keepdim=True),
    "grouped": lambda x: rms(x.view(3, 2, 2)).view(3, 4),
}


@pytest.mark.parametrize("name", SCALES)
def test_statistic_is_held_constant(name: str) -> None:
    """With the scale constant and nothing else in the way every entry keeps its own output."""
    f = SCALES[name]
    x = leaf_of(3, 4)
    assert rules_used(f, x).get("Held()") == 1, rules_used(f, x)
    (r,) = relevance(f, x)
    g = torch.Generator().manual_seed(7)
    weights = torch.randn(3, 4, generator=g, dtype=torch.float64)
    torch.testing.assert_close(r, (f(x) * weights).detach(), rtol=1e-6, atol=1e-9)


LAYER_NORMS = {
    "by hand": layer_norm_by_hand,
    "with torch.var": lambda x: (
        (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
    ),
    "with rsqrt": lambda x: (
        (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
    ),
    "through views": lambda x: layer_norm_by_hand(x.view(1, 3, 4).clone()).view(3, 4),
}


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_norm_by_hand_is_layer_norm(name: str) -> None:
    x = leaf_of(3, 4)
    same(LAYER_NORMS[name], lambda x: F.layer_norm(x, (4,)), x)


def test_group_norm_by_hand_is_group_norm() -> None:
    x = leaf_of(2, 4, 3)

    def by_hand(x: Tensor) -> Tensor:
        return layer_norm_by_hand(x.view(2, 2, -1)).view(x.shape)

    same(by_hand, lambda x: F.group_norm(x, 2), x)


def test_batch_norm_by_hand_is_batch_norm() -> None:
    x = leaf_of(5, 3)

    def by_hand(x: Tensor) -> Tensor:
        mean = x.mean(0, keepdim=True)
        return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(0, keepdim=True) + 1e-5)

    same(by_hand, lambda x: F.batch_norm(x, None, None, training=True), x)


# -- statistic: negative ----------------------------------------------------------------------------

NOT_STATISTICS = {
    "degree 1": lambda x: x * x.mean(-1, keepdim=True),
    "absolute signal": lambda x: x.abs() * x.pow(2).mean(-1, keepdim=True).rsqrt(),
    "leaky signal": lambda x: F.leaky_relu(x) / x.norm(dim=-1, keepdim=True),
    "signal of relu": lambda x: x.relu() / x.norm(dim=-1, keepdim=True),
    "degree -2": lambda x: x / x.pow(2).mean(-1, keepdim=True),
    "not reduced": lambda x: (x + 1) * (x * x + 1).rsqrt() * x.flip(-1),
    "through a matmul": lambda x: x * (x @ torch.eye(4, dtype=x.dtype)).pow(2).mean(-1, True).rsqrt(),
    "of another tensor": lambda x: x[:, :2] * x[:, 2:].pow(2).mean(-1, True).rsqrt(),
    "one path not reduced": lambda x: x * (x.pow(2).mean(-1, keepdim=True) + x * x).rsqrt(),
}


@pytest.mark.parametrize("name", NOT_STATISTICS)
def test_not_a_statistic(name: str) -> None:
    x = leaf_of(3, 4)
    assert "Held()" not in rules_used(NOT_STATISTICS[name], x)
