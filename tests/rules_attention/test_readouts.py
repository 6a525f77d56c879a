"""Attention weights, heads, experts: what is read is what the definition says."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_rules_attention import attention_relevance
from dynamiclrp_rules_attention.explicit import weights
from torch import Tensor, nn


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("fused", [True, False])
def test_attention_weights_in_loops(fused: bool) -> None:
    """Half of each term p_ij v_je of the output belongs to the weight p_ij."""
    q, k, v = normal(0, 2, 2, 3, 4), normal(1, 2, 2, 5, 4), normal(2, 2, 2, 5, 4)
    p = (q @ k.mT / 2).softmax(-1)
    y = F.scaled_dot_product_attention(q, k, v) if fused else p @ v
    seed = normal(3, 2, 2, 3, 4).detach()
    (found,) = attention_relevance(y, (q, k, v), seed)
    expected = torch.zeros(2, 2, 3, 5, dtype=torch.float64)
    for n, h, i, j, e in torch.cartesian_prod(*map(torch.arange, (2, 2, 3, 5, 4))).tolist():
        term = p[n, h, i, j].item() * v[n, h, j, e].item()
        expected[n, h, i, j] += term / y[n, h, i, e].item() * seed[n, h, i, e] / 2
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_order_and_both_kinds() -> None:
    """A list in forward order, fused and eager alike; nothing else is changed by reading."""
    x = normal(0, 1, 2, 4, 3)
    first = F.scaled_dot_product_attention(x, x, x, is_causal=True)
    logits = first @ first.mT / math.sqrt(3)
    y = logits.softmax(-1) @ first
    found = attention_relevance(y, x)
    assert len(found) == 2
    assert not found[0].triu(1).any() and found[1].triu(1).any()  # the first is causal
    grouped = F.scaled_dot_product_attention(x, x[:, :1], x[:, :1], enable_gqa=True)
    (one,) = attention_relevance(grouped, x)
    assert one.shape == (1, 2, 4, 4)
    assert attention_relevance(y, x, rules="cp-lrp") == []


def test_relevance_of_the_weights_is_what_reaches_the_logits() -> None:
    """Reading at the probabilities by ``at=`` gives the same."""
    x = normal(0, 5, 4)
    p = (x @ x.mT).softmax(-1)
    y = p @ x
    (read,) = attention_relevance(y, x)
    torch.testing.assert_close(read, lrp.propagate(y, x, at=p, rules="attnlrp").at[0])


def test_logarithms_are_no_weights_and_scopes_hold() -> None:
    """What is read is read under the very rules that are given, a scope among them."""
    x = normal(0, 5, 4)
    logs = x.logsumexp(-1, keepdim=True) + x.log_softmax(-1)
    assert attention_relevance(logs, x) == []
    p = (x @ x.mT).softmax(-1)
    y = p.softmax(-1) @ x
    table = lrp.preset("attnlrp").where(lambda op: op.output() is not None, lrp.override(softmax=lrp.Pass()))
    read = attention_relevance(y, x, rules=table)
    at = lrp.propagate(y, x, at=p, rules=table).at[0]
    torch.testing.assert_close(read[0], at)


@pytest.mark.parametrize(
    ("node", "dropout", "why"),
    [
        ("FlashAttentionBackward0", 0.0, "in this layout"),
        ("ScaledDotProductFlashAttentionBackward0", 0.1, "under dropout"),
    ],
)
def test_weights_that_nobody_can_know(node: str, dropout: float, why: str) -> None:
    """Kernels of accelerators, so by what a rule would see of such a node."""
    op: Any = SimpleNamespace(row=SimpleNamespace(node=node), saved=SimpleNamespace(dropout_p=dropout))
    with pytest.raises(lrp.Unrecoverable, match=f"{node}.*{why}"):
        weights(op)


class Experts(nn.Module):
    """Two of three experts per token, by a router."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.parts: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weights, chosen = self.router(x).softmax(-1).topk(2)
        made = torch.stack([e(x) for e in self.experts], 1)
        picked = made.gather(1, chosen[:, :, None].expand(-1, -1, 4))
        self.parts = [weights[:, i, None] * picked[:, i] for i in range(2)]
        return sum(self.parts, torch.zeros(4).to(x)), weights, chosen


def test_router_weights_take_half_of_their_experts() -> None:
    torch.manual_seed(0)
    model = Experts().double()
    x = normal(1, 6, 4)
    with lrp.capture(model, "router") as caught:
        y, routed, _ = model(x)
    run = lrp.propagate(y, x, at=[routed, *model.parts, caught["router"]])
    contributed = torch.stack([r.sum(-1) for r in run.at[1:3]], 1)
    torch.testing.assert_close(2 * run.at[0], contributed)
    assert run.at[3].shape == (6, 3)
    held = lrp.propagate(y, x, at=[routed], rules="cp-lrp")
    assert not held.at[0].any()


# -- capture -----------------------------------------------------------------------------------------------


def nested() -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(2)]
    return nn.Sequential(*blocks, nn.Linear(3, 2)).double()


def test_capture_by_name() -> None:
    model, x = nested(), normal(0, 4, 3)
    with lrp.capture(model, "*") as blocks, lrp.capture(model, "*.0", inputs=True) as taken:
        y = model(x)
    model(x)  # outside: not seen
    assert list(blocks) == ["0", "1", "2"] and list(taken) == ["0.0", "1.0"]
    assert blocks["2"] is y and taken["0.0"] is x and taken["1.0"] is blocks["0"]
    assert not any(m._forward_hooks for m in model.modules())


def test_capture_names_the_nearest() -> None:
    with pytest.raises(lrp.InvalidInput, match=r"'2\.weigh'.*near"), lrp.capture(nested(), "2.weigh"):
        pass


def test_capture_lets_go_after_an_error() -> None:
    model = nested()
    with pytest.raises(RuntimeError), lrp.capture(model, "2"):
        model(torch.zeros(4, 7, dtype=torch.float64))
    assert not any(m._forward_hooks for m in model.modules())


def test_capture_of_keyword_arguments() -> None:
    class Keyword(nn.Module):
        def forward(self, *, x: Tensor) -> tuple[Tensor, int]:
            return x * 2, 1

    model = nn.Sequential(Keyword())
    x = normal(0, 2)
    with lrp.capture(model, "0") as made, lrp.capture(model, "0", inputs=True) as taken:
        y = model[0](x=x)[0]
    assert made["0"][0] is y and taken["0"] is x
