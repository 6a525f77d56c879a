"""AttnLRP and CP-LRP as LXT 2.1 computes them (fixtures by make_lxt_fixtures.py), and where LXT is wrong.

docs/agreement_lxt.md says what was compared, and what differs.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn

from tests.agreement.tiny import MODELS, explained, given

HERE = Path(__file__).parent
# HF's RMSNorm computes in float32 whatever the model is in; SDPA and eager then round differently.
NOISE = dict.fromkeys(("llama", "qwen2", "qwen3", "gemma3"), 5e-6)


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("rules", ["attnlrp", "cp-lrp"])
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_lxt(name: str, rules: str, attention: str) -> None:
    pytest.importorskip("transformers")
    fixture = json.loads((HERE / "lxt" / f"{name}.json").read_text())[rules]
    x = given(name)
    y = explained(name, MODELS[name](attention), x)
    noise = NOISE.get(name, 1e-8)
    assert math.isclose(y.item(), fixture["output"], rel_tol=1e-5, abs_tol=1e-7), "not the same model"
    (r,) = lrp.relevance(y, x, rules=rules)
    expected = torch.tensor(fixture["relevance"], dtype=torch.float64).view(r.shape)
    assert float((r - expected).abs().max()) <= noise * float(expected.abs().max())


def test_gamma_agrees_with_lxt_on_the_vision_transformer() -> None:
    """Gamma is where LXT has it: not on attention's projections, whose modules are never called."""
    fixture = json.loads((HERE / "lxt" / "vit.json").read_text())["cp-lrp, gamma"]
    model, x = MODELS["vit"]("sdpa"), given("vit")
    everywhere = lrp.preset("cp-lrp", gamma=0.05, conv_gamma=0.25)
    outside = everywhere.where(
        nn.MultiheadAttention, lrp.override(affine=lrp.Epsilon(epsilon=0)), model=model
    )
    expected = torch.tensor(fixture["relevance"], dtype=torch.float64).view(x.shape)
    differ = [
        float((lrp.relevance(explained("vit", model, x), x, rules=rules)[0] - expected).abs().max())
        / float(expected.abs().max())
        for rules in (everywhere, outside)
    ]
    assert differ[0] > 0.3 and differ[1] < 1e-5  # zennit divides by z + 1e-6


def test_the_two_rule_sets_differ() -> None:
    """Else agreement with both would say nothing."""
    for name in MODELS:
        both = json.loads((HERE / "lxt" / f"{name}.json").read_text())
        a, b = (torch.tensor(both[rules]["relevance"]) for rules in ("attnlrp", "cp-lrp"))
        assert float((a - b).abs().max()) > 0.02 * float(a.abs().max())


# -- where LXT is wrong: against the definition ----------------------------------------------------------


@pytest.mark.parametrize("x", [0.0, -1e-10, 1e-10, -1e-9, 3e-11])
def test_identity_rule_next_to_zero(x: float) -> None:
    """LXT divides f(x) by x + 1e-10: infinite at -1e-10, twice too small at 1e-10, 0 at 0 (SiLU: 1/2)."""
    given = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    run = lrp.propagate(torch.nn.functional.silu(given), given, rules="attnlrp")
    (c,) = run.coefficients
    assert c is not None
    assert math.isclose(c.item(), 1 / (1 + math.exp(-x)), rel_tol=1e-12)


def test_epsilon_never_crosses_zero() -> None:
    """LXT's explicit rules divide by z + epsilon, also where z < 0: at z = -epsilon that is by 0."""
    w = torch.tensor([[1.0]], dtype=torch.float64)
    x = torch.tensor([[-1e-6]], dtype=torch.float64, requires_grad=True)
    seed = torch.ones(1, 1, dtype=torch.float64)
    (r,) = lrp.relevance(x @ w, x, seed, rules=lrp.preset("attnlrp", epsilon=1e-6))
    assert math.isclose(r.item(), 0.5, rel_tol=1e-12)  # x w R / (z + epsilon sign(z))


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_softmax_over_any_dim(dim: int, explicit: bool) -> None:
    """LXT's explicit softmax sums over the last dim, whatever ``dim`` was."""
    generator = torch.Generator().manual_seed(dim)
    x = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    seed = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    rules = lrp.preset("attnlrp", explicit=explicit)
    (r,) = lrp.relevance(x.softmax(dim), x, seed, rules=rules)
    expected = torch.empty_like(r)
    for i, j, k in ((i, j, k) for i in range(3) for j in range(4) for k in range(5)):
        line: list[slice | int] = [i, j, k]
        line[dim] = slice(None)
        total = float(seed[tuple(line)].sum())
        p = math.exp(x[i, j, k].item()) / sum(math.exp(v) for v in x[tuple(line)].tolist())
        expected[i, j, k] = x[i, j, k].item() * (seed[i, j, k].item() - p * total)
    torch.testing.assert_close(r, expected.detach())


def test_mean_without_keepdim() -> None:
    """LXT's explicit mean squeezes what it returns where keepdim was False."""
    x = torch.arange(1.0, 7.0, dtype=torch.float64).view(1, 2, 3).requires_grad_()
    (r,) = lrp.relevance(x.mean(1), x, rules="attnlrp")
    expected: Tensor = x.detach() / 2
    assert r.shape == x.shape
    torch.testing.assert_close(r, expected)
