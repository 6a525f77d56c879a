"""Nothing the user has is changed, whatever state it is in."""

from __future__ import annotations

import warnings

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, kind
from torch import Tensor, nn

from tests.tensors import close, leaf_of


def graph_of(*outputs: Tensor) -> Graph:
    return Graph([address(y) for y in outputs])


# -- states that must not change -------------------------------------------------------------------


def small() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 2))
    return model, torch.randn(3, 4, requires_grad=True)


def test_nothing_outside_changes() -> None:
    model, x = small()
    y = model(x)[:, 0].sum()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lrp.propagate(y, x, ledger=True)
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert x.grad is None and model[3].weight.grad is None
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert torch.is_grad_enabled()
    y.backward()  # the graph is whole
    assert x.grad is not None


def test_relevance_after_a_backward_that_kept_the_graph() -> None:
    model, x = small()
    y = model(x)[:, 0].sum()
    expected = lrp.relevance(y, x)[0]
    y.backward(retain_graph=True)
    grad = x.grad.clone()
    assert torch.equal(lrp.relevance(y, x)[0], expected)
    assert torch.equal(x.grad, grad)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_runs_under_any_grad_mode(guard) -> None:  # type: ignore[no-untyped-def]
    model, x = small()
    y = model(x)[:, 0].sum()
    expected = lrp.relevance(y, x)[0]
    with guard():
        found = lrp.relevance(y, x)[0]
        enabled = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with guard():
            assert enabled == (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    assert torch.equal(found, expected)
    assert not found.requires_grad and not found.is_inference()


def test_it_runs_in_anomaly_mode() -> None:
    model, x = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autograd.detect_anomaly():
            y = model(x)[:, 0].sum()
            found = lrp.relevance(y, x)[0]
    assert torch.equal(found, lrp.relevance(y, x)[0])


def test_it_runs_inside_a_hook_of_the_users_own_backward() -> None:
    x = leaf_of(3)
    h = x * 2
    y, z = (h * h).sum(), h.sum()
    seen: list[Tensor] = []
    h.register_hook(lambda g: seen.append(lrp.relevance(z, x)[0]))
    y.backward()
    close(seen[0], 2 * x.detach())


def test_no_hook_of_the_user_runs() -> None:
    model, x = small()
    ran: list[str] = []
    model[0].register_full_backward_hook(lambda *a: ran.append("module"))
    h = model[0](x)
    h.register_hook(lambda g: ran.append("tensor"))
    x.register_hook(lambda g: ran.append("leaf"))
    y = model[3](model[1](h))[:, 0].sum()
    y.grad_fn.register_hook(lambda *a: ran.append("node"))
    y.grad_fn.register_prehook(lambda *a: ran.append("prehook"))
    with_hooks = lrp.relevance(y, x)[0]
    assert ran == []
    twin, z = small()
    torch.testing.assert_close(with_hooks, lrp.relevance(twin[3](twin[1](twin[0](z)))[:, 0].sum(), z)[0])
    y.backward()
    assert set(ran) == {"module", "tensor", "leaf", "node", "prehook"}


# -- autocast --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["default", "epsilon", "dynamiclrp"])
def test_graphs_made_under_autocast(rules: str) -> None:
    model, x = small()
    model.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)[:, 0].sum()
    assert "ToCopyBackward0" in {kind(n) for n in graph_of(y).order}
    found = lrp.relevance(y, x, rules=rules)[0]
    exact = lrp.relevance(model(x)[:, 0].sum(), x, rules=rules)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.05)
    inside = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = lrp.relevance(y, x, rules=rules)[0]
    assert torch.equal(inside, found)


# -- saved-tensor hooks ----------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "dynamiclrp"])
def test_save_on_cpu_and_hooks_of_the_user(rules: str) -> None:
    model, x = small()
    model.eval()
    plain = lrp.relevance(model(x)[:, 0].sum(), x, rules=rules)[0]
    with torch.autograd.graph.save_on_cpu():
        y = model(x)[:, 0].sum()
    assert torch.equal(lrp.relevance(y, x, rules=rules)[0], plain)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (t.detach().numpy(), 1), lambda p: torch.from_numpy(p[0])
    ):
        y = model(x)[:, 0].sum()
    assert torch.equal(lrp.relevance(y, x, rules=rules)[0], plain)
    y.backward()


def test_functional_calls_with_fused_nodes_still_walk() -> None:
    x = leaf_of(2, 4)
    y = F.log_softmax(x, -1)[:, 0].sum()
    assert lrp.coverage(y, inputs=x).fraction == 1.0
