"""Rules in another dtype than the model."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.tensors import leaf_of

PRESETS = ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"]


def lowered(dtype: torch.dtype, bias: bool = False) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, bias=bias), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(4, 16, bias=bias), nn.ReLU(), nn.Linear(16, 3, bias=bias),
    ).to(dtype)  # fmt: skip
    return net, leaf_of(8, 16, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("above", [torch.float32, torch.float64])
@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
def test_rules_in_a_dtype_above_the_models(
    dtype: torch.dtype, above: torch.dtype, rules: str, bias: bool
) -> None:
    net, x = lowered(dtype, bias)
    with lrp.record():
        y = net(x)[:, 0]
    run = lrp.propagate(y, x, rules=rules, dtype=above)
    assert run.relevance[0].dtype == above
    exact_net = net.double()
    z = x.detach().double().requires_grad_()
    exact = lrp.relevance(exact_net(z)[:, 0], z, rules=rules)[0]
    found = run.relevance[0].double()
    if dtype == torch.float32:
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))
    # What relu selects is the model's own, and a low dtype selects otherwise where x is near 0.
    assert float(F.cosine_similarity(found.flatten(), exact.flatten(), 0)) > 0.95


def test_it_conserves_far_better_than_the_models_dtype() -> None:
    net, x = lowered(torch.bfloat16)
    y = net(x)[:, 0]
    seed = torch.ones(8)
    table = lrp.preset("epsilon", epsilon=0.0)
    lost = {}
    for dtype in (None, torch.float32, torch.float64):
        (r,) = lrp.propagate(y, x, seed, rules=table, dtype=dtype).relevance
        lost[dtype] = float((r.double().sum(1) - 1).abs().max())
    assert lost[torch.float64] < 1e-9
    assert lost[torch.float32] < 1e-3
    assert lost[torch.float32] < lost[None] / 10


class Attention(nn.Module):
    """Every kind of node whose own backward insists on its dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.group, self.head = nn.GroupNorm(2, 8), nn.Linear(8, 3)
        self.batch = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, 8)
        h = x + self.out(a)
        h = self.batch(self.group(h.transpose(1, 2))).transpose(1, 2)
        h = F.silu(h) * h.softmax(-1) + F.gelu(h).cumsum(1) * 0.1
        h = torch.cat([h, h.flip(1)], 1).sum(1) + h.mean(1) + F.elu(h).amax(1)
        y: Tensor = self.head(F.leaky_relu(h) / (1 + h.abs()))
        return y


@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_node_is_called_in_a_dtype_that_is_not_its_own(rules: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = Attention().eval().to(dtype)
    x = leaf_of(2, 3, 8, dtype=dtype)
    with lrp.record():
        y = net(x)[:, 0]
    for above in (None, torch.float32, torch.float64):
        (r,) = lrp.propagate(y, x, rules=rules, dtype=above).relevance
        assert r.shape == x.shape and bool(torch.isfinite(r).all())
    if dtype == torch.float32:
        z = x.detach().double().requires_grad_()
        with lrp.record():
            exact = net.double()(z)[:, 0]
        expected = lrp.relevance(exact, z, rules=rules)[0]
        torch.testing.assert_close(r, expected, rtol=2e-2, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.max(1).values,
        lambda x: x.sort(1).values[:, 0],
        lambda x: x.topk(2, 1).values.sum(1),
        lambda x: F.max_pool1d(x, 2).sum(1),
        lambda x: x.median(1).values,
        lambda x: x.cummax(1).values.sum(1),
        lambda x: x.amax(1),
        lambda x: x.amin(1, keepdim=True).flatten(),
    ],
    ids=["max", "sort", "topk", "max_pool", "median", "cummax", "amax", "amin"],
)
def test_selections_with_indices_in_a_dtype_above_the_models(
    f: Callable[[Tensor], Tensor], rules: str
) -> None:
    x = leaf_of(2, 6, dtype=torch.bfloat16)
    y = f(x)
    if lrp.coverage(y, inputs=x).missing:
        pytest.skip("no row for it yet")
    (r,) = lrp.propagate(y, x, rules=rules, dtype=torch.float64).relevance
    # Coefficients give the exact sum, rules that divide conserve the model's rounded one.
    selected = f(x.detach().double()).view(2)
    torch.testing.assert_close(r.sum(1), selected, rtol=1e-2, atol=1e-2)


def test_value_rules_never_work_below_float32() -> None:
    net, x = lowered(torch.bfloat16)
    seed = torch.ones(8, dtype=torch.bfloat16)
    (r,) = lrp.relevance(net(x)[:, 0], x, seed, rules="epsilon")
    assert bool(torch.isfinite(r).all())
    y = x * 1.0
    run = lrp.propagate(y, x, torch.ones_like(y) * 0.1, rules="dynamiclrp")
    assert run.relevance[0].dtype == torch.float32
