"""flex_attention against attention spelled out.

Torch differentiates it on a GPU only, but builds its node here too: by the operator behind it, or with the
check of the device left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.node import kind
from dynamiclrp_rules_attention.flex import FLEX
from torch import Tensor, fx
from torch._higher_order_ops.flex_attention import flex_attention as operator
from torch.nn.attention import flex_attention as public
from torch.utils.checkpoint import checkpoint

HEADS, LENGTH, WIDTH = 2, 5, 3
PLACE = torch.arange(LENGTH)
DOCUMENT = torch.tensor([0, 0, 1, 1, 1])
SLOPES = torch.tensor([0.5, -0.3], dtype=torch.float64)


def qkv(heads: int = HEADS) -> list[Tensor]:
    torch.manual_seed(0)
    sizes = [HEADS, heads, heads]
    return [torch.randn(2, h, LENGTH, WIDTH, dtype=torch.float64).requires_grad_() for h in sizes]


def blocks(seen: Callable[..., Any]) -> tuple[Any, ...]:
    made: tuple[Any, ...] = public.create_block_mask(
        seen, 1, 1, LENGTH, LENGTH, device="cpu", BLOCK_SIZE=LENGTH
    ).as_tuple()
    return made


def flex(
    q: Tensor, k: Tensor, v: Tensor, *tables: Tensor,
    score_mod: Callable[..., Any] = lambda s, b, h, i, j: s,
    seen: Callable[..., Any] = lambda b, h, i, j: i >= -1,
    captured: tuple[Tensor, ...] = (),
) -> Tensor:  # fmt: skip
    """What flex_attention calls, once it has lifted what the two functions capture."""
    program = score_mod if tables else fx.symbolic_trace(score_mod)
    mask = (*blocks(lambda b, h, i, j: seen(b, h, i, j, *captured))[:-1], seen)
    made: Tensor = operator(q, k, v, program, mask, 0.7, {}, tables, captured)[0]
    return made


def by_hand(
    q: Tensor, k: Tensor, v: Tensor,
    score_mod: Callable[[Tensor], Tensor] = lambda s: s, hidden: Tensor | None = None,
) -> Tensor:  # fmt: skip
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = score_mod(q @ k.mT * 0.7)
    return (scores if hidden is None else scores.masked_fill(hidden, -torch.inf)).softmax(-1) @ v


def capped(s: Tensor) -> Tensor:
    return 2 * torch.tanh(s / 2)


Call = Callable[..., Tensor]
SPELLINGS: dict[str, tuple[Call, Call]] = {
    "plain": (flex, by_hand),
    "causal": (
        lambda *qkv: flex(*qkv, seen=lambda b, h, i, j: i >= j),
        lambda *qkv: by_hand(*qkv, hidden=PLACE[:, None] < PLACE),
    ),
    "documents": (
        lambda *qkv: flex(*qkv, seen=lambda b, h, i, j, d: d[i] == d[j], captured=(DOCUMENT,)),
        lambda *qkv: by_hand(*qkv, hidden=DOCUMENT[:, None] != DOCUMENT),
    ),
    "soft cap": (
        lambda *qkv: flex(*qkv, score_mod=lambda s, b, h, i, j: capped(s)),
        lambda *qkv: by_hand(*qkv, capped),
    ),
    "constant bias": (
        lambda *qkv: flex(*qkv, SLOPES, score_mod=lambda s, b, h, i, j, t: s + t[h] * (i - j)),
        lambda *qkv: by_hand(*qkv, lambda s: s + SLOPES[:, None, None] * (PLACE[:, None] - PLACE)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("preset", ["default", "attnlrp", "cp-lrp"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_the_map_of_attention_spelled_out(name: str, preset: str) -> None:
    operands = qkv()
    with lrp.record():
        fused, steps = (call(*operands) for call in SPELLINGS[name])
    assert kind(fused.grad_fn) == FLEX
    torch.testing.assert_close(fused, steps)
    for live in ((0, 1, 2), (0, 1), (1, 2), (0,), (2,)):
        inputs = [operands[i] for i in live]
        a, b = (lrp.propagate(y, inputs, rules=preset, ledger=True) for y in (fused, steps))
        assert a.ledger is not None and a.ledger.closed, str(a.ledger)
        for got, expected in zip(a.relevance, b.relevance):
            torch.testing.assert_close(got, expected)


def test_a_learned_table_takes_its_share() -> None:
    q, k, v = qkv(heads=1)
    table = torch.randn(LENGTH, LENGTH, dtype=torch.float64, requires_grad=True)
    fused = flex(q, k, v, table, score_mod=lambda s, b, h, i, j, t: s + t[i, j])
    steps = by_hand(q, k, v, lambda s: s + table)
    for inputs in ((q, k, v, table), (table,), (v, table)):
        for got, expected in zip(lrp.relevance(fused, inputs), lrp.relevance(steps, inputs)):
            torch.testing.assert_close(got, expected)
        with_value = lrp.relevance(fused, inputs, fused.detach())
        for got, expected in zip(with_value, lrp.relevance(fused, inputs)):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["causal", "soft cap"])
def test_frozen_checkpointed_and_in_half_precision(name: str) -> None:
    call, steps = SPELLINGS[name]
    q, k, v = qkv()
    expected = lrp.relevance(steps(q, k, v), v)[0]
    torch.testing.assert_close(lrp.relevance(call(q.detach(), k.detach(), v), v)[0], expected)
    held = checkpoint(call, q, k, v, use_reentrant=False)
    torch.testing.assert_close(lrp.relevance(held, v)[0], expected)
    half = [t.detach().bfloat16().requires_grad_() for t in (q, k, v)]
    of_half = [lrp.propagate(f(*half), half[2], dtype=torch.float64).relevance[0] for f in (call, steps)]
    assert of_half[0].dtype == torch.float64
    torch.testing.assert_close(*of_half, atol=0.05, rtol=0.05)


def test_as_a_user_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles the scores' program even where it runs eagerly, which a recording must let pass."""
    monkeypatch.setattr(public, "_validate_device", lambda *_: None)
    q, k, v = qkv()
    hidden = PLACE[:, None] < PLACE
    mask = public.create_block_mask(
        lambda b, h, i, j: i >= j, 1, 1, LENGTH, LENGTH, device="cpu", BLOCK_SIZE=LENGTH
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow when not compiled, and torch's own
        with lrp.record():
            plain = public.flex_attention(q, k, v, block_mask=mask, scale=0.7)
            bent = public.flex_attention(
                q, k, v, score_mod=lambda s, b, h, i, j: capped(s), block_mask=mask, scale=0.7
            )
    for fused, steps in ((plain, by_hand(q, k, v, hidden=hidden)), (bent, by_hand(q, k, v, capped, hidden))):
        assert kind(fused.grad_fn) == FLEX
        for got, expected in zip(lrp.relevance(fused, (q, k, v)), lrp.relevance(steps, (q, k, v))):
            torch.testing.assert_close(got, expected)


def test_the_fused_rule_makes_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = qkv()
    y, bent = flex(q, k, v), flex(q, k, v, score_mod=lambda s, b, h, i, j: capped(s))

    def never(*_: Any) -> None:
        raise NotImplementedError("scores")

    monkeypatch.setattr("dynamiclrp_rules_attention.flex._attend", never)
    lrp.relevance(y, (q, k, v))
    with pytest.raises(NotImplementedError, match="scores"):
        lrp.relevance(bent, (q, k, v))
