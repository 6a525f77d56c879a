"""Spellings that cannot agree, asserted to differ, so that docs/invariance.md cannot rot."""

from __future__ import annotations

from pathlib import Path

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.table import Rules

from .table import Group, difference, explain

TWO, THREE = ((3, 4),) * 2, ((3, 4),) * 3
DEFAULT, LARGE_EPSILON = lrp.preset("default"), lrp.preset("epsilon", epsilon=0.1)

DIFFERENT: tuple[tuple[Group, Rules], ...] = (
    (Group("a product of three, bracketed", {
        "(a b) c": lambda a, b, c: (a * b) * c,
        "a (b c)": lambda a, b, c: a * (b * c),
    }, live=THREE), DEFAULT),
    (Group("SwiGLU, bracketed the other way", {
        "silu(g) u": lambda g, u: F.silu(g) * u,
        "g (sigmoid(g) u)": lambda g, u: g * (torch.sigmoid(g) * u),
    }, live=TWO), DEFAULT),
    (Group("a gated mean of two", {
        "(1 - z) n + z h": lambda z, n, h: (1 - z) * n + z * h,
        "n + z (h - n)": lambda z, n, h: n + z * (h - n),
    }, live=THREE), DEFAULT),
    (Group("modulation", {
        "x (1 + s)": lambda x, s: x * (1 + s),
        "x + x s": lambda x, s: x + x * s,
    }, live=TWO), DEFAULT),
    (Group("hard sigmoid by relu6", {
        "F.hardsigmoid": lambda x: F.hardsigmoid(4 * x),
        "relu6(x + 3) / 6": lambda x: F.relu6(4 * x + 3) / 6,
    }), DEFAULT),
    (Group("a shifted function", {
        "log(1 + x)": lambda x: torch.log(1 + x),
        "log1p(x)": lambda x: torch.log1p(x),
    }, positive=True), DEFAULT),
    (Group("a gate of another tensor as a quotient", {
        "a sigmoid(b)": lambda a, b: a * torch.sigmoid(b),
        "a / (1 + exp(-b))": lambda a, b: a / (1 + torch.exp(-b)),
    }, live=TWO), DEFAULT),
    (Group("exp of a sum", {
        "exp(a + b)": lambda a, b: torch.exp(a + b),
        "exp(a) exp(b)": lambda a, b: torch.exp(a) * torch.exp(b),
    }, live=TWO), DEFAULT),
    (Group("attention normalised after the values", {
        "softmax(u) v": lambda u, v: u.softmax(-1) @ v,
        "(exp(u) v) / sum exp(u)": lambda u, v: (u.exp() @ v) / u.exp().sum(-1, keepdim=True),
    }, live=((3, 4), (4, 5))), DEFAULT),
    (Group("the square of a difference from a constant", {
        "(a - b)^2": lambda a, b: (a - b) ** 2,
        "a^2 - 2 a b + b^2": lambda a, b: a**2 - 2 * a * b + b**2,
    }, constants=((4,),)), DEFAULT),
    (Group("a difference written twice", {
        "d d": lambda a, b: (lambda d: d * d)(a - b),
        "(a - b) (a - b)": lambda a, b: (a - b) * (a - b),
    }, constants=((4,),)), DEFAULT),
    (Group("a loss of a function", {
        "F.binary_cross_entropy": lambda x: F.binary_cross_entropy(
            x.sigmoid(), torch.full_like(x, 0.3), reduction="none"),
        "by hand": lambda x: -(0.3 * x.sigmoid().log() + 0.7 * (-x.sigmoid()).log1p()),
    }), DEFAULT),
    (Group("log of a sum of two exps", {
        "logsumexp": lambda a, b: torch.stack([a, b]).logsumexp(0),
        "by hand": lambda a, b: (a.exp() + b.exp()).log(),
    }, live=TWO), DEFAULT),
    (Group("a softmax that divides by no sum of exps", {
        "softmax": lambda x: x.softmax(-1),
        "last of the running sums": lambda x: (lambda e: e / e.cumsum(-1)[:, -1:])(x.exp()),
    }), DEFAULT),
    (Group("a softmax that is one over something", {
        "softmax": lambda x: x.softmax(-1),
        "1 / exp(logsumexp - x)": lambda x: 1 / (x.logsumexp(-1, keepdim=True) - x).exp(),
    }), DEFAULT),
    (Group("a product inside another op", {
        "x sigmoid(x)": lambda x: x * x.sigmoid(),
        "addcmul": lambda x: torch.addcmul(torch.zeros_like(x), x, x.sigmoid()),
    }), DEFAULT),
    (Group("a removable pole", {
        "sinc": lambda x: torch.sinc(x / torch.pi),
        "sin(x) / x": lambda x: x.sin() / x,
    }), DEFAULT),
    (Group("a function with a constant in where", {
        "clamped": lambda x: torch.tanh(torch.exp(x).clamp(max=2.0)),
        "where": lambda x: torch.tanh(torch.where(x < 0.6931471805599453, torch.exp(x), 2.0)),
    }), DEFAULT),
    (Group("layer norm at a large epsilon", {
        "F.layer_norm": lambda x: F.layer_norm(x, (4,)),
        "by hand": lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, False, True) + 1e-5).sqrt(),
    }), LARGE_EPSILON),
    (Group("layer norm by absolute ratios", {
        "F.layer_norm": lambda x: F.layer_norm(x, (4,)),
        "by hand": lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, False, True) + 1e-5).sqrt(),
    }), lrp.preset("dynamiclrp")),
    (Group("a function less a constant", {
        "tanh": lambda x: torch.tanh(x),
        "2 sigmoid(2x) - 1": lambda x: 2 * torch.sigmoid(2 * x) - 1,
    }), lrp.preset("attnlrp")),
    (Group("a layer as product and sum", {
        "F.linear": lambda x, w: F.linear(x, w),
        "product and sum": lambda x, w: (x.unsqueeze(1) * w).sum(-1),
    }, constants=((5, 4),)), lrp.preset("gamma")),
    (Group("sigmoid by hand, op by op", {
        "torch.sigmoid": lambda x: torch.sigmoid(x),
        "1 / (1 + exp(-x))": lambda x: 1 / (1 + torch.exp(-x)),
    }), lrp.preset("dynamiclrp")),
)  # fmt: skip
CASES = [pytest.param(g, r, id=g.name) for g, r in DIFFERENT]


@pytest.mark.parametrize(("group", "rules"), CASES)
def test_they_do_differ(group: Group, rules: Rules) -> None:
    live, constants = group.tensors()
    values = [f(*live, *constants) for f in group.spellings.values()]
    torch.testing.assert_close(values[0], values[1])
    maps = [explain(f, live, constants, rules) for f in group.spellings.values()]
    assert difference(*maps) > 1e-3


def test_each_is_documented() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "invariance.md").read_text()
    headings = {line[2:].split("**")[1] for line in docs.splitlines() if line.startswith("- **")}
    assert headings == {g.name for g, _ in DIFFERENT}
