"""Grouped products by the custom op that transformers has for what torch's kernel cannot do."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.node import kind
from dynamiclrp_rules_attention.moe import FALLBACK
from torch import Tensor


def operands() -> tuple[Tensor, Tensor, Tensor]:
    """Seven tokens for four experts, of which one gets none; the last token goes to no expert."""
    pytest.importorskip("transformers.integrations.moe")
    torch.manual_seed(0)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    return x, w, torch.tensor([2, 2, 5, 6])


@pytest.mark.parametrize("live", [(0,), (1,), (0, 1)], ids=str)
def test_each_token_is_multiplied_with_its_expert(live: tuple[int, ...]) -> None:
    x, w, ends = operands()
    y = torch.ops.transformers.grouped_mm_fallback(x, w, ends)
    assert kind(y.grad_fn) == FALLBACK
    run = lrp.propagate(y, [(x, w)[i] for i in live], ledger=True)
    assert run.ledger is not None and run.ledger.closed
    found = dict(zip(live, run.relevance))
    expected = [torch.zeros_like(x), torch.zeros_like(w)]
    for t in range(7):
        for e, (start, end) in enumerate(((0, 2), (2, 2), (2, 5), (5, 6))):
            for i in range(3):
                part = float((x[t, i] * w[e, i].sum()).detach()) / len(live)
                if start <= t < end:
                    expected[0][t, i] += part
                    expected[1][e, i] += (x[t, i] * w[e, i]).detach() / len(live)
    for i in live:
        torch.testing.assert_close(found[i], expected[i])


@pytest.mark.parametrize("preset", ["default", "epsilon", "dynamiclrp"])
def test_frozen_experts(preset: str) -> None:
    x, w, ends = operands()
    rules = lrp.preset(preset)
    trainable = lrp.relevance(torch.ops.transformers.grouped_mm_fallback(x, w, ends), x, rules=rules)[0]
    y = torch.ops.transformers.grouped_mm_fallback(x, w.detach(), ends)
    torch.testing.assert_close(lrp.relevance(y, x, rules=rules)[0], trainable)


def test_torch_itself_takes_no_float64() -> None:
    x, w, ends = operands()
    with pytest.raises(RuntimeError, match="got Double"):
        torch.nn.functional.grouped_mm(x, w, offs=ends.int())
