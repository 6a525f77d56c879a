"""``relevance``, ``propagate``, ``coverage``: seeds, derivatives, dtypes, what is not computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

PRESETS = ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"]


def leaf_of(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_()


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()


# -- seeds -----------------------------------------------------------------------------------------


def test_relevance_is_called_like_autograd_grad() -> None:
    net, x = mlp(), leaf_of(2, 4)
    y = net(x)[:, 0].sum()
    found = lrp.relevance(y, x)
    assert isinstance(found, tuple) and len(found) == 1
    (grad,) = torch.autograd.grad(y, x, retain_graph=True)
    torch.testing.assert_close(found[0], x.detach() * grad)


def test_no_seed_explains_the_output_itself() -> None:
    x = leaf_of(3)
    y = x * torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    run = lrp.propagate(y, x)
    torch.testing.assert_close(run.relevance[0], y.detach())
    expected = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(run.coefficients[0], expected)


def test_a_seed_is_relevance_and_is_not_divided_by_the_output() -> None:
    x = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    y = x.view(2, 1).clone()
    seed = torch.tensor([[3.0], [4.0]], dtype=torch.float64)
    run = lrp.propagate(y.view(2), x, seed.view(2))
    torch.testing.assert_close(run.relevance[0], torch.tensor([3.0, 4.0], dtype=torch.float64))
    assert run.coefficients[0] is None


def test_the_outputs_own_value_as_seed_is_no_seed() -> None:
    net, x = mlp(), leaf_of(2, 4)
    y = net(x)
    for rules in PRESETS:
        a = lrp.relevance(y, x, rules=rules)[0]
        b = lrp.relevance(y, x, y.detach(), rules=rules)[0]
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_seeds_of_both_kinds_mixed_and_none_in_a_tuple() -> None:
    net, x = mlp(), leaf_of(2, 4)
    y, z = net(x), x.tanh()
    seed = torch.randn(2, 3, dtype=torch.float64)
    both = lrp.relevance((y, z), x, (seed, None))[0]
    alone = lrp.relevance(y, x, seed)[0] + lrp.relevance(z, x)[0]
    torch.testing.assert_close(both, alone)
    torch.testing.assert_close(lrp.relevance(y, x, (None,))[0], lrp.relevance(y, x)[0])


@pytest.mark.parametrize("rules", PRESETS)
def test_relevance_is_linear_in_the_seed(rules: str) -> None:
    net, x = mlp(), leaf_of(2, 4)
    y = net(x)
    a, b = torch.randn(2, 2, 3, dtype=torch.float64)
    r = [lrp.relevance(y, x, s, rules=rules)[0] for s in (a, b, 2 * a - 3 * b)]
    torch.testing.assert_close(r[2], 2 * r[0] - 3 * r[1], rtol=1e-9, atol=1e-12)
    assert not lrp.relevance(y, x, torch.zeros(2, 3, dtype=torch.float64), rules=rules)[0].any()


def test_a_seed_of_another_dtype_is_taken() -> None:
    net, x = mlp(), leaf_of(2, 4)
    y = net(x)
    seed = torch.ones(2, 3)
    found = lrp.relevance(y, x, seed)[0]
    torch.testing.assert_close(found, lrp.relevance(y, x, seed.double())[0])
    assert found.dtype == torch.float64


def test_a_seed_that_requires_grad_is_not_dragged_along() -> None:
    net, x = mlp(), leaf_of(2, 4)
    seed = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    assert not lrp.relevance(net(x), x, seed)[0].requires_grad


# -- what a run says -------------------------------------------------------------------------------


def test_rules_used_counts_nodes_and_coverage_names_them() -> None:
    net, x = mlp(), leaf_of(2, 4)
    y = net(x).sum()
    run = lrp.propagate(y, x)
    assert sum(run.rules_used.values()) == 4  # sum, two layers, relu
    covered = lrp.coverage(y, inputs=x)
    assert covered.covered["AddmmBackward0"] == 2 and covered.covered["ReluBackward0"] == 1
    assert covered.fraction == 1.0 and not covered.missing
    some = lrp.coverage(y, rules=lrp.Rules(rows={"SumBackward0": lrp.load_rules()["SumBackward0"]}))
    assert some.missing == {"AddmmBackward0": 2, "ReluBackward0": 1}
    assert some.fraction == 0.25


@pytest.mark.parametrize("rules", PRESETS)
def test_a_ledger_changes_no_number_and_closes(rules: str) -> None:
    net, x = mlp(), leaf_of(2, 4)
    y = net(x)[:, 0]
    plain = lrp.propagate(y, x, rules=rules)
    run = lrp.propagate(y, x, rules=rules, ledger=True)
    assert torch.equal(run.relevance[0], plain.relevance[0])
    assert plain.ledger is None and run.ledger is not None
    assert run.ledger.closed, str(run.ledger)


# -- create_graph ----------------------------------------------------------------------------------


def convolutional() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2))
    return net, leaf_of(2, 1, 3, 3)


def dense_relu() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), leaf_of(3, 4)


def dense_tanh() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), leaf_of(3, 4)


def gelu_silu() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3), nn.SiLU(), nn.Linear(3, 2))
    return net, leaf_of(3, 4)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.b(self.norm(self.a(x)).tanh())
        return h


class BatchNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.b(self.norm(self.a(x)).sigmoid())
        return h


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        p = (self.q(x) @ x.T).softmax(-1)
        h: Tensor = p @ self.v(x)
        return h


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "conv": convolutional,
    "relu": dense_relu,
    "tanh": dense_tanh,
    "gelu and silu": gelu_silu,
    "layer norm": lambda: (Normed(), leaf_of(3, 4)),
    "batch norm": lambda: (BatchNormed().eval(), leaf_of(3, 4)),
    "softmax": lambda: (Attending(), leaf_of(3, 4)),
}


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "dynamiclrp"])
@pytest.mark.parametrize("name", MODELS)
def test_relevance_can_be_differentiated(name: str, rules: str) -> None:
    """d(loss of relevance)/d(parameters) and d/dx against central differences."""
    torch.manual_seed(3)
    net, x = MODELS[name]()
    net.double()
    readout = torch.randn(x.shape, dtype=torch.float64)
    table = lrp.preset(rules, **({"epsilon": 0.01} if rules != "default" else {}))

    def loss(create_graph: bool) -> Tensor:
        with lrp.record():
            y = net(x)[:, 0]
        (r,) = lrp.relevance(y, x, rules=table, create_graph=create_graph)
        assert r.requires_grad == create_graph
        return (r * readout).sum()

    tensors = [x, *net.parameters()]
    grads = torch.autograd.grad(loss(True), tensors, allow_unused=True)
    g = torch.Generator().manual_seed(1)
    step = 1e-6
    checked = 0
    for t, grad in zip(tensors, grads):
        flat = t.detach().view(-1)
        for i in torch.randperm(flat.numel(), generator=g)[:3].tolist():
            kept = float(flat[i])
            with torch.no_grad():
                flat[i] = kept + step
            up = float(loss(False))
            with torch.no_grad():
                flat[i] = kept - step
            down = float(loss(False))
            with torch.no_grad():
                flat[i] = kept
            slope = (up - down) / (2 * step)
            given = 0.0 if grad is None else float(grad.reshape(-1)[i])
            assert given == pytest.approx(slope, rel=1e-4, abs=1e-6), (name, rules, t.shape, i)
            checked += abs(slope) > 1e-6
    assert checked >= 3, "nothing depends on anything: the test says nothing"


def test_training_on_explanations_lowers_the_loss() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = leaf_of(16, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        (r,) = lrp.relevance(net(x)[:, 0], x, create_graph=True)
        loss = r[:, 0].pow(2).mean()  # the first feature must not matter
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_a_differentiable_seed_gets_its_gradient() -> None:
    net, x = mlp(), leaf_of(2, 4)
    seed = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (r,) = lrp.relevance(net(x), x, seed, create_graph=True, rules="epsilon")
    (grad,) = torch.autograd.grad(r.sum(), seed)
    # Relevance is linear in the seed: the gradient is the share that reaches the inputs.
    for n in range(2):
        for j in range(3):
            one = torch.zeros(2, 3, dtype=torch.float64)
            one[n, j] = 1.0
            share = float(lrp.relevance(net(x), x, one, rules="epsilon")[0].sum())
            assert float(grad[n, j]) == pytest.approx(share, abs=1e-9)


# -- dtype -----------------------------------------------------------------------------------------


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


# -- no weight gradient ----------------------------------------------------------------------------


class Products(TorchDispatchMode):
    """Shapes that matrix products give, and which gradients fused backwards were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.masks: list[list[bool]] = []
        self.called: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        self.called.add(name)
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, Tensor):
                self.shapes.append(tuple(part.shape))
        if func._schema.arguments and func._schema.arguments[-1].name == "output_mask":
            self.masks.append(list(args[-1]))
        return result


def sized() -> tuple[nn.Module, Tensor, list[tuple[int, ...]]]:
    """Every size is its own, so that a weight gradient is known by its shape."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 7, 3)
            self.batch = nn.BatchNorm2d(7)
            self.group = nn.GroupNorm(1, 7)
            self.lift = nn.Linear(7, 11)
            self.norm = nn.LayerNorm(11)
            self.plain = nn.Linear(11, 13, bias=False)
            self.head = nn.Linear(13, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.group(self.batch(self.conv(x)).relu())
            h = h.flatten(2).transpose(1, 2)  # (n, positions, 7): three dimensions
            h = self.norm(self.lift(h)).tanh()
            y: Tensor = self.head(self.plain(h).mean(1))
            return y

    net = Net().eval()
    weights = [tuple(p.shape) for p in net.parameters() if p.dim() > 1]
    return net, torch.randn(5, 2, 6, 6, requires_grad=True), weights


@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("above", [None, torch.float64])
def test_no_weight_gradient_is_computed_on_the_way_to_the_inputs(
    rules: str, above: torch.dtype | None
) -> None:
    net, x, weights = sized()
    with lrp.record():
        y = net(x)[:, 0]
    with Products() as seen:
        lrp.propagate(y, x, rules=rules, dtype=above)
    # The upcast weights themselves, and their moves, are no gradients: those are made of products.
    with Products() as control:
        torch.autograd.grad(y.sum(), list(net.parameters()), retain_graph=True)
    both = {s for w in weights for s in (w, w[::-1])}
    assert both & set(control.shapes), "the test would see a weight gradient"
    for mask in seen.masks:
        assert mask[0] and not any(mask[1:]), f"a fused backward was asked for more than x: {mask}"
    made = products_only(lambda: lrp.propagate(y, x, rules=rules, dtype=above))
    assert not both & set(made)


def products_only(f: Callable[[], Any]) -> list[tuple[int, ...]]:
    """Shapes of what matrix products and reductions made, without casts and signs of weights."""
    shapes: list[tuple[int, ...]] = []

    class Only(Products):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            name = func._schema.name.removeprefix("aten::")
            if name in ("mm", "bmm", "addmm", "baddbmm", "mul_sum", "sum", "outer", "einsum"):
                shapes.append(tuple(result.shape))
            if name == "convolution_backward" and result[1] is not None:
                shapes.append(tuple(result[1].shape))
            return result

    with Only():
        f()
    return shapes


def test_read_outs_do_get_the_weight_gradients_they_ask_for() -> None:
    net, x, _ = sized()
    y = net(x)[:, 0]
    shapes = products_only(lambda: lrp.propagate(y, x, at=net.plain.weight))
    assert any(set(s) == {11, 13} for s in shapes)
    assert not any(set(s) == {7, 11} for s in shapes)
