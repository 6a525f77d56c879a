"""AttnLRP and CP-LRP against their definitions in loops, and the fused rules against their twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.rules_attention.attention_definition import (
    by_logarithm,
    by_reciprocal,
    head,
    normal,
    softmax_by_hand,
)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("explicit", [True, False])
def test_attention_is_attnlrp_in_loops(fused: bool, causal: bool, explicit: bool) -> None:
    q, k, v = (normal(seed, 1, 1, 4, 3).detach().requires_grad_() for seed in range(3))
    with lrp.record():
        if fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        else:
            logits = q @ k.mT / math.sqrt(3)
            if causal:
                logits = logits.masked_fill(~torch.ones(4, 4, dtype=torch.bool).tril(), -torch.inf)
            y = logits.softmax(-1) @ v
    seed = normal(5, 1, 1, 4, 3).detach()
    found = lrp.relevance(y, (q, k, v), seed, rules=lrp.preset("attnlrp", explicit=explicit))
    expected = head(q[0, 0].detach(), k[0, 0].detach(), v[0, 0].detach(), seed[0, 0], causal)
    for r, e in zip(found, expected):
        torch.testing.assert_close(r[0, 0], e, rtol=1e-8, atol=1e-9)


LIVE = [live for n in (1, 2, 3) for live in [t for t in product((0, 1), repeat=3) if sum(t) == n]]


def _band(rows: int, columns: int) -> Tensor:
    """A sliding window: each query sees its own place, counted from the end, and the one before."""
    back = torch.arange(rows)[:, None] + columns - rows - torch.arange(columns)
    return (back >= 0) & (back < 2)


MASKS: dict[str, Tensor] = {
    "boolean": torch.arange(18).view(3, 6) % 4 != 1,
    "padding": (torch.arange(6) < torch.tensor([[6], [3]]))[:, None, None],
    "window": _band(3, 6),
    "a query that sees nothing": torch.arange(3)[:, None].expand(3, 6) != 1,
    "additive": normal(3, 3, 6).detach(),
    "additive, -inf": torch.zeros(3, 6, dtype=torch.float64).masked_fill(~_band(3, 6), -torch.inf),
    "alibi": (-(0.5 ** torch.arange(1.0, 5))[:, None, None] * torch.arange(6.0)).double().expand(1, 4, 3, 6),
    "relative bias": normal(4, 1, 4, 3, 6).detach(),
}


@pytest.mark.parametrize("kind", ["plain", "causal", "grouped", "causal, grouped", "scaled", *MASKS])
@pytest.mark.parametrize("live", LIVE, ids=str)
def test_fused_attention_is_its_twin(kind: str, live: tuple[int, ...]) -> None:
    heads = 2 if "grouped" in kind else 4
    q, k, v = normal(0, 2, 4, 3, 5), normal(1, 2, heads, 6, 5), normal(2, 2, heads, 6, 5)
    inputs = [t for t, a in zip((q, k, v), live) if a]
    operands = [t if a else t.detach() for t, a in zip((q, k, v), live)]
    y = F.scaled_dot_product_attention(
        *operands, attn_mask=MASKS.get(kind), is_causal="causal" in kind, enable_gqa="grouped" in kind,
        scale=0.3 if kind == "scaled" else None,
    )  # fmt: skip
    assert y.grad_fn is not None and y.grad_fn.name().startswith("ScaledDotProduct")
    fused = lrp.propagate(y, inputs, rules="attnlrp", ledger=True)
    apart = lrp.propagate(y, inputs, rules=lrp.preset("attnlrp", explicit=True), ledger=True)
    for a, b in zip(fused.relevance, apart.relevance):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
    assert fused.ledger is not None and apart.ledger is not None
    assert fused.ledger.closed and apart.ledger.closed


EXPLICIT: dict[str, Callable[[Tensor], Tensor]] = {
    "log-softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(0)),
    "masked softmax": lambda x: torch._masked_softmax(x, torch.arange(4).expand(3, 4) > 2, -1, 2),
    "safe softmax of columns": lambda x: torch.ops.aten._safe_softmax(x, 0),
    "a sum of constants and a product": lambda x: torch.baddbmm(
        torch.arange(9.0).double().view(1, 3, 3), x[None], x[None].mT, alpha=0.5).softmax(-1),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLICIT)
def test_explicit_is_the_same_map(name: str) -> None:
    """Also where the family holds more than softmax, and where a matrix product has a constant term."""
    x = normal(0, 3, 4)
    with lrp.record():
        y = EXPLICIT[name](x)
        y = (y * torch.arange(1.0, y.numel() + 1).double().view(y.shape)).sum()
    maps = [lrp.propagate(y, x, rules=lrp.preset("attnlrp", explicit=e), ledger=True) for e in (False, True)]
    torch.testing.assert_close(maps[1].relevance[0], maps[0].relevance[0], rtol=1e-8, atol=1e-9)
    assert all(run.ledger is not None and run.ledger.closed for run in maps)


@pytest.mark.parametrize("live", LIVE, ids=str)
@pytest.mark.parametrize("rules", ["attnlrp", "cp-lrp"])
def test_shares_of_the_live_operands(live: tuple[int, ...], rules: str) -> None:
    """Fused as in steps, whichever operands are inputs: who is alone in a product takes all of it."""
    tensors = [normal(seed, 1, 2, 4, 3) for seed in range(3)]
    inputs = [t for t, a in zip(tensors, live) if a]
    q, k, v = (t if a else t.detach() for t, a in zip(tensors, live))
    fused = lrp.relevance(F.scaled_dot_product_attention(q, k, v), inputs, rules=rules)
    steps = lrp.relevance((q @ k.mT / math.sqrt(3)).softmax(-1) @ v, inputs, rules=rules)
    for a, b in zip(fused, steps):
        torch.testing.assert_close(a, b)
    if rules == "attnlrp" and live == (1, 0, 0):  # one factor alone: the gradient
        y = F.scaled_dot_product_attention(q, k, v)
        torch.testing.assert_close(fused[0], q.detach() * torch.autograd.grad(y.sum(), q)[0])


@pytest.mark.parametrize("fused", [True, False])
def test_cp_lrp_gives_all_to_the_values(fused: bool) -> None:
    q, k, v = (normal(seed, 1, 2, 4, 3) for seed in range(3))
    p = (q @ k.mT / math.sqrt(3)).softmax(-1)
    y = F.scaled_dot_product_attention(q, k, v) if fused else p @ v
    run = lrp.propagate(y, (q, k, v), rules="cp-lrp", ledger=True)
    rq, rk, rv = run.relevance
    assert not rq.any() and not rk.any()
    expected = torch.zeros_like(v)
    for h, i, j, e in product(range(2), range(4), range(4), range(3)):
        expected[0, h, j, e] += p[0, h, i, j].detach() * v[0, h, j, e].detach()  # R = y: the terms of y
    torch.testing.assert_close(rv, expected)
    assert run.ledger is not None and run.ledger.closed


def test_cp_lrp_stops_where_only_the_weights_are_live() -> None:
    q, k, v = normal(0, 1, 1, 3, 2), normal(1, 1, 1, 3, 2), normal(2, 1, 1, 3, 2).detach()
    run = lrp.propagate(F.scaled_dot_product_attention(q, k, v), (q, k), rules="cp-lrp", ledger=True)
    assert not any(r.any() for r in run.relevance)
    assert run.ledger is not None and run.ledger.closed and "stopped" in str(run.ledger)


@pytest.mark.parametrize("spelled", [softmax_by_hand, by_reciprocal, by_logarithm])
def test_cp_lrp_knows_a_softmax_by_hand(spelled: Callable[[Tensor], Tensor]) -> None:
    x, v = normal(0, 3, 4), normal(1, 4, 2)
    by_hand = lrp.relevance(spelled(x) @ v, (x, v), rules="cp-lrp")
    fused = lrp.relevance(x.softmax(-1) @ v, (x, v), rules="cp-lrp")
    for a, b in zip(by_hand, fused):
        torch.testing.assert_close(a, b)
    assert not by_hand[0].any() and by_hand[1].any()


# -- further parameters ------------------------------------------------------------------------------------


def test_gamma_and_conv_gamma_are_where_they_belong() -> None:
    rules = lrp.preset("cp-lrp", gamma=0.05, conv_gamma=0.25, gate="half")
    x = normal(0, 1, 3, 8, 8)
    conv = torch.nn.Conv2d(3, 4, 4, stride=4).double()
    dense = torch.nn.Linear(4, 2).double()
    y = dense(conv(x).flatten(2).mT)[0, :, 0]
    used = lrp.propagate(y, x, rules=rules).rules_used
    for gamma in (0.05, 0.25):
        assert sum(n for rule, n in used.items() if f"gamma={gamma}" in rule) == 1


def test_log_softmax_may_be_explained_by_cp_lrp() -> None:
    """It is an output, not a weighting: the map is default's."""
    x = normal(0, 3, 4)
    y = x.log_softmax(-1)[:, 0]
    torch.testing.assert_close(lrp.relevance(y, x, rules="cp-lrp"), lrp.relevance(y, x))


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match="gait"):
        lrp.preset("attnlrp", gait="signal")
