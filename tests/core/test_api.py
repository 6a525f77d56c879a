"""``relevance``, ``propagate``, ``coverage``: seeds, derivatives, dtypes, what is not computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tensors import leaf_of

PRESETS = ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"]


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
