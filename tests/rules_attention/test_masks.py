"""Additive masks of -inf: nothing arrives at what they hide, and nothing becomes NaN."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.packs.plugins import presets
from torch import nn


@pytest.mark.parametrize("rules", sorted(set(presets()) - {"epsilon-gamma-box"}))  # that one is for images
def test_additive_infinite_mask_is_masked_fill(rules: str) -> None:
    """softmax(s + mask) and softmax(s.masked_fill(...)) hide the same keys: hidden values get 0."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.zeros(4, 4, dtype=torch.float64)
    mask[:, 3] = float("-inf")
    with lrp.record():
        y = (q @ k.transpose(-1, -2) + mask).softmax(-1) @ v
    run = lrp.propagate(y, (q, k, v), rules=rules, ledger=True)
    assert run.ledger is not None and run.ledger.closed, run.ledger
    for r in run.relevance:
        assert bool(torch.isfinite(r).all())
    assert not run.relevance[1][0, 3].any() and not run.relevance[2][0, 3].any()
    assert run.relevance[2][0, :3].any()


@pytest.mark.parametrize("rules", ["default", "epsilon", "dynamiclrp"])
def test_padding_in_training_mode(rules: str) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    with lrp.record():
        y = layer(x, src_key_padding_mask=padding)[:, 0, :3]
    (r,) = lrp.relevance(y, x, rules=rules)
    assert bool(torch.isfinite(r).all())
    assert not r[1, 3:].any() and r[1, :3].any()


@pytest.mark.parametrize("rules", ["default", "epsilon"])
def test_frozen_model_under_autocast(rules: str) -> None:
    """A cast rounds, so the value before it must not be taken from behind it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 2)).requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), lrp.record():
        y = model(x)
    run = lrp.propagate(y, x, rules=rules, ledger=True)
    assert run.ledger is not None and not run.ledger.unattributed
    assert run.relevance[0].dtype == torch.float32
