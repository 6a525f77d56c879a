"""``LRP(...).attribute``: captum's call, restated by loops (captum itself is not needed here)."""

from __future__ import annotations

from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn


def net(bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 6, bias=bias), nn.ReLU(), nn.Linear(6, 4, bias=bias), nn.ReLU(),
        nn.Linear(4, 3, bias=bias),
    ).double()  # fmt: skip


def data(n: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def input_x_gradient(model: Any, x: Tensor, targets: list[int]) -> Tensor:
    """One sample and one backward at a time."""
    rows = []
    for row, target in zip(x, targets):
        one = row.clone().unsqueeze(0).requires_grad_()
        model(one)[0, target].backward()
        rows.append(row * one.grad[0])
    model.zero_grad()
    return torch.stack(rows)


def epsilon_lrp(model: nn.Sequential, x: Tensor, target: int, epsilon: float) -> Tensor:
    """captum's LRP with EpsilonRule on every layer: relevance by loops over neurons."""
    rows = []
    for row in x:
        activations = [row]
        for layer in model:
            activations.append(layer(activations[-1].unsqueeze(0))[0].detach())
        relevance = [0.0] * 3
        relevance[target] = float(activations[-1][target])
        for layer, a, z in zip(reversed(model), activations[-2::-1], activations[:0:-1]):
            if isinstance(layer, nn.ReLU):
                continue
            w = layer.weight.detach()
            lower = [0.0] * w.shape[1]
            for j in range(w.shape[0]):
                zj = float(z[j])
                zj += epsilon if zj >= 0 else -epsilon
                for i in range(w.shape[1]):
                    lower[i] += float(a[i]) * float(w[j, i]) * relevance[j] / zj
            relevance = lower
        rows.append(relevance)
    return torch.tensor(rows, dtype=torch.float64)


def test_default_is_input_times_gradient_on_a_relu_net_without_bias() -> None:
    model, x = net(), data()
    found = lrp.LRP(model).attribute(x, target=2)
    torch.testing.assert_close(found, input_x_gradient(model, x, [2] * 4))


@pytest.mark.parametrize("bias", [False, True])
def test_epsilon_is_captums_epsilon_rule(bias: bool) -> None:
    model, x = net(bias), data()
    epsilon = 0.01
    table = lrp.load_rules() | lrp.override(affine=lrp.Epsilon(epsilon=epsilon))
    found = lrp.LRP(model, rules=table).attribute(x, target=1)
    torch.testing.assert_close(found, epsilon_lrp(model, x, 1, epsilon), rtol=1e-9, atol=1e-12)


# -- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "columns"),
    [
        (1, [1, 1, 1, 1]),
        (-1, [2, 2, 2, 2]),
        ((1,), [1, 1, 1, 1]),
        (torch.tensor(2), [2, 2, 2, 2]),
        (torch.tensor([2]), [2, 2, 2, 2]),
        (torch.tensor([0, 1, 2, 1]), [0, 1, 2, 1]),
        ([0, 1, 2, 1], [0, 1, 2, 1]),
        ([(0,), (1,), (2,), (1,)], [0, 1, 2, 1]),
        (lambda out: out[:, 2], [2, 2, 2, 2]),
        (lambda out: out[:, 2].sum(), [2, 2, 2, 2]),
    ],
    ids=lambda v: "callable" if callable(v) else repr(v),
)
def test_targets_of_a_matrix_of_outputs(target: Any, columns: list[int]) -> None:
    model, x = net(), data()
    found = lrp.LRP(model).attribute(x, target=target)
    torch.testing.assert_close(found, input_x_gradient(model, x, columns))


@pytest.mark.parametrize("target", [(1, 0), [(1, 0)] * 4], ids=repr)
def test_targets_of_outputs_of_more_dimensions(target: Any) -> None:
    model, x = net(), data()

    def wide(t: Tensor) -> Tensor:
        return torch.stack([model(t), 2 * model(t)], 2)  # (n, 3, 2)

    found = lrp.LRP(wide).attribute(x, target=target)
    torch.testing.assert_close(found, input_x_gradient(model, x, [1] * 4))


def test_one_tuple_per_sample() -> None:
    model, x = net(), data(2)

    def wide(t: Tensor) -> Tensor:
        return torch.stack([model(t), 2 * model(t)], 2)

    found = lrp.LRP(wide).attribute(x, target=[(1, 0), (2, 1)])
    expected = input_x_gradient(model, x, [1, 2])
    expected[1] *= 2
    torch.testing.assert_close(found, expected)


def test_no_target_for_one_value_per_sample() -> None:
    model, x = net(), data()
    expected = input_x_gradient(model, x, [1] * 4)
    for f in (lambda t: model(t)[:, 1], lambda t: model(t)[:, 1:2]):
        torch.testing.assert_close(lrp.LRP(f).attribute(x), expected)


@pytest.mark.parametrize(
    ("f", "target", "text"),
    [
        (lambda t: t, None, "name the target"),
        (lambda t: t, [0, 1], "2 entries for a batch of 4"),
        (lambda t: t.unflatten(1, (5, 1)).expand(4, 5, 2), 1, "target"),
        (lambda t: t.unflatten(1, (5, 1)).expand(4, 5, 2), [0, 1, 2, 1], "target"),
        (lambda t: {"a": t}, 0, "no tensor"),
    ],
)
def test_targets_that_do_not_fit(f: Any, target: Any, text: str) -> None:
    with pytest.raises(lrp.DynamicLRPError, match=text):
        lrp.LRP(f).attribute(data(), target=target)


def test_model_outputs_with_logits_and_tuples() -> None:
    model, x = net(), data()

    class Output:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    expected = input_x_gradient(model, x, [1] * 4)
    torch.testing.assert_close(lrp.LRP(lambda t: Output(model(t))).attribute(x, 1), expected)
    torch.testing.assert_close(lrp.LRP(lambda t: (model(t), None)).attribute(x, 1), expected)
    chosen = lrp.LRP(lambda t: {"p": model(t)}).attribute(x, lambda out: out["p"][:, 1])
    torch.testing.assert_close(chosen, expected)


# -- tuples and arguments --------------------------------------------------------------------------


def test_a_tensor_in_gives_a_tensor_and_a_tuple_a_tuple() -> None:
    model, x, z = net(), data(), data(seed=2)
    assert isinstance(lrp.LRP(model).attribute(x, 0), Tensor)
    (alone,) = lrp.LRP(model).attribute((x,), 0)
    torch.testing.assert_close(alone, input_x_gradient(model, x, [0] * 4))
    both = lrp.LRP(lambda a, b: model(a) - 2 * model(b)).attribute((x, z), 0)
    assert isinstance(both, tuple) and len(both) == 2
    torch.testing.assert_close(both[0], input_x_gradient(model, x, [0] * 4))
    torch.testing.assert_close(both[1], -2 * input_x_gradient(model, z, [0] * 4))


def test_additional_forward_args_of_any_kind() -> None:
    model, x = net(), data()
    expected = 3 * input_x_gradient(model, x, [1] * 4)

    def f(t: Tensor, factor: float, mask: Tensor | None = None) -> Tensor:
        assert mask is None or mask.shape == (4, 1)
        return model(t) * factor * (1.0 if mask is None else mask)

    explainer = lrp.LRP(f)
    for extra in (3.0, (3.0,), (3.0, torch.ones(4, 1, dtype=torch.float64))):
        found = explainer.attribute(x, 1, additional_forward_args=extra)
        torch.testing.assert_close(found, expected)


def test_inputs_are_not_touched_and_nothing_is_left_on_the_model() -> None:
    model, x = net(), data()
    before = x.clone()
    hooks = [len(m._forward_hooks) for m in model.modules()]
    lrp.LRP(model).attribute(x, 1)
    lrp.LRP(model, layer=model[1]).attribute(x, 1)
    assert torch.equal(x, before) and not x.requires_grad and x.grad is None
    assert all(p.grad is None for p in model.parameters())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks


def test_the_hook_goes_also_when_the_forward_fails() -> None:
    model = net()
    with pytest.raises(RuntimeError):
        lrp.LRP(model, layer=model[0]).attribute(torch.ones(2, 7, dtype=torch.float64), 1)
    assert not model[0]._forward_hooks


def test_it_works_under_no_grad_and_on_leaves_that_require_grad() -> None:
    model, x = net(), data()
    expected = input_x_gradient(model, x, [1] * 4)
    with torch.no_grad():
        torch.testing.assert_close(lrp.LRP(model).attribute(x, 1), expected)
    with torch.inference_mode():
        torch.testing.assert_close(lrp.LRP(model).attribute(x, 1), expected)
    torch.testing.assert_close(lrp.LRP(model).attribute(x.clone().requires_grad_(), 1), expected)


# -- convergence -----------------------------------------------------------------------------------


def test_the_convergence_delta_is_what_biases_keep() -> None:
    for bias in (False, True):
        model, x = net(bias), data()
        found, delta = lrp.LRP(model).attribute(x, 1, return_convergence_delta=True)
        assert delta.shape == (4,)
        for n in range(4):
            left = float(model(x[n : n + 1])[0, 1].detach()) - float(found[n].sum())
            assert float(delta[n]) == pytest.approx(left, abs=1e-12)
        assert bool((delta.abs() < 1e-12).all()) == (not bias)


def test_the_convergence_delta_over_several_inputs() -> None:
    model, x, z = net(), data(), data(seed=2)
    explainer = lrp.LRP(lambda a, b: model(a) + model(b))
    found, delta = explainer.attribute((x, z), 1, return_convergence_delta=True)
    assert isinstance(found, tuple) and bool((delta.abs() < 1e-12).all())


def test_the_convergence_delta_of_one_explained_number() -> None:
    # A callable may sum the batch up: then there is one delta, of the whole.
    model, x = net(bias=True), data()
    target = lambda out: out[:, 1].sum()  # noqa: E731
    found, delta = lrp.LRP(model).attribute(x, target, return_convergence_delta=True)
    left = float(model(x)[:, 1].sum().detach()) - float(found.sum())
    assert delta.numel() == 1 and float(delta) == pytest.approx(left)
