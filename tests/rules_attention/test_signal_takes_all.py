"""Gates and signals: who takes what of a product, and attnlrp's identity rule next to a gate."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.rules_attention.attention_definition import by_logarithm, normal

GATES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {
    # name: (g, x) -> product, whether g is the gate (else both alike)
    "swiglu": (lambda g, x: F.silu(g) * x, True),
    "swapped": (lambda g, x: x * F.silu(g), True),
    "silu by hand": (lambda g, x: g * torch.sigmoid(g) * x, True),
    "reglu": (lambda g, x: g.relu() * x, True),
    "scaled, viewed": (lambda g, x: (2 * F.gelu(g)).view(12).view(3, 4) * x, True),
    "lstm": (lambda g, x: torch.sigmoid(g) * torch.tanh(x), True),
    "router": (lambda g, x: g.softmax(-1).topk(4).values * x, True),
    "router, normalised": (lambda g, x: (g.softmax(-1) / g.softmax(-1).sum(-1, keepdim=True)) * x, True),
    "bilinear": (lambda g, x: g * x, False),
    "1 - sigmoid (GRU)": (lambda g, x: (1 - torch.sigmoid(g)) * torch.tanh(x), True),
    "1 + tanh": (lambda g, x: torch.tanh(x) * (0.5 * (1 + torch.tanh(g / 2))), True),
    "ones over": (lambda g, x: torch.tanh(x) * (torch.ones(3, 4).double() / (1 + (-g).exp())), True),
    "a biased signal": (lambda g, x: torch.tanh(g) * (x + 0.0), True),
    "router by hand": (lambda g, x: by_logarithm(g) * x, True),
    "two alike": (lambda g, x: torch.tanh(g) * torch.tanh(x), False),
}


def test_identity_by_hand_and_fused() -> None:
    """sigmoid is not 0 at 0: relevance passes it unchanged, however it is spelled."""
    x = normal(0, 6)
    seed = normal(1, 6).detach()
    for y in (torch.sigmoid(x), 1 / (1 + (-x).exp()), x.exp() / (1 + x.exp())):
        torch.testing.assert_close(lrp.relevance(y, x, seed, rules="attnlrp")[0], seed)


def test_attnlrp_has_no_bound_next_to_a_sigmoid_at_zero() -> None:
    """f(x)/x there (docs/attention.md warns); ``default`` and ``gate="signal"`` stay bounded."""
    h = torch.tensor([1.0, 1e-9 - 1.0], dtype=torch.float64, requires_grad=True)
    x = normal(0, 1)
    y = torch.sigmoid(h.sum()) * x  # the two terms of the gate cancel
    sizes = {
        name: sum(float(r.abs().sum()) for r in lrp.relevance(y, (h, x), rules=rules))
        / float(y.detach().abs())
        for name, rules in {
            "attnlrp": lrp.preset("attnlrp"),
            "default": lrp.preset("default"),
            "signal": lrp.preset("attnlrp", gate="signal"),
        }.items()
    }
    assert sizes["attnlrp"] > 1e8 and sizes["default"] < 2 and sizes["signal"] == pytest.approx(1)


@pytest.mark.parametrize("name", GATES)
def test_signal_takes_all(name: str) -> None:
    call, gated = GATES[name]
    g, x = normal(0, 3, 4), normal(1, 3, 4)
    y = call(g, x)
    rules = lrp.preset("attnlrp", gate="signal")
    r_g, r_x = lrp.relevance(y, (g, x), rules=rules)
    if gated:
        assert not r_g.any()
        torch.testing.assert_close(r_x, y.detach())
    else:
        torch.testing.assert_close(r_g, y.detach() / 2)
        torch.testing.assert_close(r_x, y.detach() / 2)
    half = lrp.relevance(y, (g, x), rules=lrp.preset("attnlrp"))[1]
    torch.testing.assert_close(half, y.detach() / 2)


def test_log_probabilities_are_no_gate() -> None:
    g, x = normal(0, 3, 4), normal(1, 3, 4)
    y = g.log_softmax(-1) * x
    r_x = lrp.relevance(y, (g, x), rules=lrp.preset("attnlrp", gate="signal"))[1]
    torch.testing.assert_close(r_x, y.detach() / 2)


def test_cp_lrp_may_keep_half_for_gates() -> None:
    """``gate="half"``: only attention and router weights are held constant."""
    g, x = normal(0, 3, 4), normal(1, 3, 4)
    rules = lrp.preset("cp-lrp", gate="half")
    y = F.silu(g) * x
    for r in lrp.relevance(y, (g, x), rules=rules):
        torch.testing.assert_close(r, y.detach() / 2)
    y = g.softmax(-1) * x
    r_g, r_x = lrp.relevance(y, (g, x), rules=rules)
    assert not r_g.any()
    torch.testing.assert_close(r_x, y.detach())


def test_a_gate_of_one_tensor_stays_a_function_of_it() -> None:
    """x * sigmoid(x) is SiLU by hand, not a gate and a signal."""
    x = normal(0, 6)
    r = lrp.relevance(x * torch.sigmoid(x), x, rules="cp-lrp")[0]
    torch.testing.assert_close(r, F.silu(x.detach()))
