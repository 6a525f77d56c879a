"""The rules for layers against their definitions, on every kind of layer."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.core.layer_definitions import LAYERS, RULES, unfolded


@pytest.mark.parametrize("sign", ["signed", "positive"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_by_every_rule(name: str, sign: str) -> None:
    layer, shape = LAYERS[name]
    matrix, bias = unfolded(layer, shape)
    torch.manual_seed(1)
    x = torch.randn(2, *shape, dtype=torch.float64)
    x.view(-1)[::5] = 0.0
    x = (x.abs() if sign == "positive" else x).requires_grad_()
    with lrp.record():
        y = layer(x)
    seed = torch.randn_like(y)
    for label, (rule, definition) in RULES.items():
        rules = lrp.load_rules() | lrp.override(affine=rule)
        by_value = lrp.propagate(y, x, seed, rules=rules, ledger=True)
        by_coefficient = lrp.propagate((y * (seed / y).detach()).sum(), x, rules=rules).relevance[0]
        for n in range(2):
            expected = [0.0] * x[0].numel()
            for weights, b, r in zip(matrix, bias, seed[n].reshape(-1).tolist()):
                for k, share in enumerate(definition(x[n].reshape(-1).tolist(), weights, b, r)):
                    expected[k] += share
            scale = max(map(abs, expected))
            for got in (by_value.relevance[0], by_coefficient):
                assert got[n].reshape(-1).tolist() == pytest.approx(expected, abs=1e-9 * scale), label
        assert by_value.ledger is not None and by_value.ledger.closed, (label, by_value.ledger)


def test_frozen_is_trainable() -> None:
    for name in ("linear", "conv2d, padded", "transposed 2d in groups"):
        layer, shape = LAYERS[name]
        assert isinstance(layer, nn.Module)
        x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
        for rule, _ in RULES.values():
            rules = lrp.load_rules() | lrp.override(affine=rule)
            maps = []
            for trainable in (True, False):
                layer.requires_grad_(trainable)
                with lrp.record():
                    maps.append(lrp.relevance(layer(x), x, rules=rules)[0])
            layer.requires_grad_()
            assert torch.equal(*maps)


def test_flat_and_z_box_need_no_frozen_bias() -> None:
    layer, shape = LAYERS["conv2d, padded"]
    assert isinstance(layer, nn.Module)
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    layer.requires_grad_(False)
    y = layer(x)
    layer.requires_grad_()
    for rule in (lrp.Flat(), lrp.ZBox(low=-1, high=1), lrp.WSquare(bias="ignore")):
        lrp.relevance(y, x, torch.ones_like(y), rules=lrp.load_rules() | lrp.override(affine=rule))


@given(st.floats(0.01, 2.0), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_epsilon_in_units_of_z(eps: float, clip: bool, seed: int) -> None:
    """norm_scale: epsilon times the root mean square of z over a sample."""
    torch.manual_seed(seed)
    layer, x = nn.Conv1d(2, 3, 2).double(), torch.randn(2, 2, 4, dtype=torch.float64)
    matrix, bias = unfolded(layer, (2, 4))
    y = layer(x.requires_grad_())
    rule = lrp.Epsilon(epsilon=eps, clip=clip, norm_scale=True)
    (got,) = lrp.relevance(y, x, torch.ones_like(y), rules=lrp.load_rules() | lrp.override(affine=rule))
    for n in range(2):
        a, z = x[n].reshape(-1).tolist(), y[n].reshape(-1).tolist()
        by = eps * (sum(v * v for v in z) / len(z)) ** 0.5
        expected = [0.0] * len(a)
        for j, weights in enumerate(matrix):
            sign = 1 if z[j] >= 0 else -1
            whole = sign * max(abs(z[j]), by) if clip else z[j] + sign * by
            for k, v in enumerate(weights):
                expected[k] += a[k] * v / whole
        assert got[n].reshape(-1).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert bias


def test_bounds_per_channel_and_per_pixel() -> None:
    conv = nn.Conv2d(3, 2, 3, padding=1).double()
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    low, high = (-1.0, -2.0, -0.5), (2.0, 1.5, 3.0)
    maps = torch.tensor([low, high], dtype=torch.float64).view(2, 3, 1, 1).expand(2, 3, 4, 4)
    y = conv(x)
    (a,) = lrp.relevance(y, x, rules=lrp.preset("epsilon-gamma-box", low=low, high=high))
    (b,) = lrp.relevance(y, x, rules=lrp.preset("epsilon-gamma-box", low=maps[0], high=maps[1]))
    (c,) = lrp.relevance(y, x, rules=lrp.preset("epsilon-gamma-box", low=-2.0, high=3.0))
    assert torch.equal(a, b) and not torch.allclose(a, c)
    (d,) = lrp.relevance(y, x, rules=lrp.preset("epsilon-gamma-box", low=list(low), high=list(high)))
    assert torch.equal(a, d)
    assert "low='tensor of (3, 4, 4)'" in lrp.ZBox(low=maps[0], high=1.0).id
    with pytest.raises(lrp.BadRule, match=r"bounds of shape \(2, 1, 1\) do not fit the input of shape"):
        lrp.relevance(y, x, rules=lrp.preset("epsilon-gamma-box", low=(0.0, 0.0), high=1.0))


def test_at_the_corner_of_its_box_an_input_contributes_nothing() -> None:
    """All relevance is absorbed, and no rounding of sums that cancel is divided by the stabilizer."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 1, 5).double()
    low, high = -1.7, 2.3
    w = conv.weight.detach()
    x = torch.full_like(w, high).masked_fill(w > 0, low).requires_grad_()
    run = lrp.propagate(conv(x), x, rules=lrp.preset("epsilon-gamma-box", low=low, high=high), ledger=True)
    assert not run.relevance[0].any()
    assert run.ledger is not None
    assert run.ledger.by_cause["epsilon"] == pytest.approx(run.ledger.seed, rel=1e-12)


def test_spread_conserves_what_biases_would_keep() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = model(x)
    for name in ("epsilon", "gamma"):
        (r,) = lrp.relevance(y, x, rules=lrp.preset(name, bias="spread", epsilon=1e-12))
        torch.testing.assert_close(r.sum(1), y.detach().sum(1), rtol=1e-6, atol=1e-6)


def test_the_bias_keeps_what_it_absorbs() -> None:
    """To the bias: ``at=`` reads the share that "absorb" gives it."""
    layer = nn.Linear(4, 3).double()
    x = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    run = lrp.propagate(y, x, rules=lrp.preset("epsilon", epsilon=0.0), at=(layer.bias,))
    torch.testing.assert_close(run.at[0], layer.bias.detach())
    torch.testing.assert_close(run.relevance[0].sum() + run.at[0].sum(), y.detach().sum())


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.5), (0.5, -0.5)])
def test_alpha_minus_beta_is_one(alpha: float, beta: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        lrp.AlphaBeta(alpha=alpha, beta=beta)


def addmv(b: Tensor, x: Tensor, w: Tensor, **factors: float) -> Tensor:
    return torch.stack([torch.addmv(b, w.mT, xn, **factors) for xn in x])


ALPHA: dict[str, Callable[..., Tensor]] = {
    "addmm": torch.addmm,
    "addmm, weights first": lambda b, x, w, **factors: torch.addmm(b[:, None], w.mT, x.mT, **factors).mT,
    "addmv": addmv,
    "baddbmm": lambda b, x, w, **factors: torch.baddbmm(b, x[None], w[None], **factors)[0],
}


@pytest.mark.parametrize("factors", [(-1.5, 1.0), (2.0, -0.5), (0.0, 1.0)], ids=str)
@pytest.mark.parametrize("spelling", ALPHA)
@pytest.mark.parametrize("name", RULES)
def test_the_weights_of_addmm_are_alpha_times_its_factor(
    name: str, spelling: str, factors: tuple[float, float]
) -> None:
    """A negative alpha turns the sign of each contribution, a negative beta that of the bias."""
    rule, definition = RULES[name]
    alpha, beta = factors
    torch.manual_seed(3)
    x, w, b = (torch.randn(s, dtype=torch.float64) for s in ((3, 4), (4, 5), (5,)))
    x.requires_grad_()
    with lrp.record():
        y = ALPHA[spelling](b, x, w, alpha=alpha, beta=beta)
    r = torch.randn_like(y)
    run = lrp.propagate(y, x, r, rules=lrp.load_rules() | lrp.override(affine=rule), ledger=True)
    for n in range(3):
        expected = [0.0] * 4
        for j in range(5):
            weights = [alpha * v for v in w[:, j].tolist()]
            shared = definition(x[n].tolist(), weights, beta * float(b[j]), float(r[n, j]))
            expected = [e + s for e, s in zip(expected, shared)]
        assert run.relevance[0][n].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert run.ledger is not None and run.ledger.closed, str(run.ledger)


def test_an_ignored_bias_costs_no_digits() -> None:
    """A sum without its bias is made without it: taking a large bias away again leaves nothing of float32."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    nn.init.constant_(layer.bias, 1e4)
    x, r = torch.rand(3, 6), torch.rand(3, 4)
    nn.init.uniform_(layer.weight, 0.5, 1.0)
    rules = lrp.load_rules() | lrp.override(affine=lrp.Epsilon(bias="ignore"))
    maps = []
    for dtype in (torch.float32, torch.float64):
        xs = x.to(dtype).requires_grad_()
        y = layer.to(dtype)(xs)
        maps.append(lrp.relevance(y, xs, r.to(dtype), rules=rules)[0].detach().double())
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-5, atol=1e-6)
