"""The snapshot of the autograd graph and what the engine may not disturb while it walks it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from itertools import pairwise

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, kind, leaf, signed
from torch import Tensor, nn


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def leaf_of(*shape: int, seed: int = 0) -> Tensor:
    return randn(*shape, seed=seed).requires_grad_()


def graph_of(*outputs: Tensor) -> Graph:
    return Graph([address(y) for y in outputs])


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# -- order -----------------------------------------------------------------------------------------


def assert_topological(graph: Graph) -> None:
    assert len(graph.order) == len(set(graph.order)) == len(graph.position)
    for i, node in enumerate(graph.order):
        assert graph.position[node] == i
        assert graph.edges[node] == node.next_functions
        for child, _ in graph.edges[node]:
            if child is not None:
                assert graph.position[child] < i, "an operand must come before the node that reads it"


def test_order_is_topological_on_diamonds_fan_out_and_shared_operands() -> None:
    x, w = leaf_of(3, 4), leaf_of(4, 4, seed=1)
    h = x @ w
    a, b = h.split(2, dim=1)
    c = torch.cat([b, a], 1) + h
    y = (c * c).sum() + (h * c).mean() + (x * x).sum()
    assert_topological(graph_of(y))


def test_order_with_several_roots_one_an_ancestor_of_another() -> None:
    x = leaf_of(3)
    h = x * 2
    y = h + x
    for roots in ((h, y), (y, h), (y, y)):
        graph = graph_of(*roots)
        assert_topological(graph)
        assert set(graph.order) == set(graph_of(y).order)


def test_random_dags_are_ordered() -> None:
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        tensors = [leaf_of(2, seed=seed), leaf_of(2, seed=seed + 100)]
        for _ in range(60):
            i, j = torch.randint(len(tensors), (2,), generator=g).tolist()
            tensors.append(tensors[i] + tensors[j])
        graph = graph_of(*tensors[-3:])
        assert_topological(graph)
        reached, todo = set(), [t.grad_fn for t in tensors[-3:]]
        while todo:
            node = todo.pop()
            if node is not None and node not in reached:
                reached.add(node)
                todo += [child for child, _ in node.next_functions]
        assert reached == set(graph.order)


def test_depth_is_the_longest_chain() -> None:
    x = leaf_of(2)
    y = x
    for _ in range(50):
        y = y + x
    assert graph_of(y).depth() == 51
    assert graph_of(torch.stack([y, x])).depth() == graph_of(torch.stack([x, y])).depth() == 52


def test_path_leads_from_an_output_to_the_node() -> None:
    x = leaf_of(2)
    y = ((x * 2).tanh() + 1).sum()
    graph = graph_of(y)
    path = graph.path(graph.order[0])
    assert path[0] is y.grad_fn and path[-1] is graph.order[0]
    for parent, child in pairwise(path):
        assert child in [n for n, _ in parent.next_functions]


# -- reading nodes ---------------------------------------------------------------------------------


def test_signed_undoes_unsigned_integers_also_in_tuples() -> None:
    assert signed(2**64 - 1) == -1
    assert signed((2**64 - 2, 3)) == (-2, 3)
    assert signed(5) == 5 and signed(True) is True and signed(None) is None
    y = leaf_of(2, 3).sum(-1)
    op_dim = y.grad_fn._saved_dim  # type: ignore[union-attr]
    assert signed(op_dim) in ((-1,), -1)


class WithAttributes(torch.autograd.Function):
    """A Function whose context has attributes that autograd nodes also have."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.variable = torch.tensor(7.0)
        return x * 2

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        raise AssertionError("the user's backward must not run")


def test_a_custom_function_with_an_attribute_called_variable_is_no_leaf() -> None:
    x = leaf_of(3)
    y = WithAttributes.apply(x)
    assert leaf(y.grad_fn) is None
    assert leaf(address(x).node) is x
    rules = lrp.load_rules() | lrp.Rules.of(
        elementwise(kind(y.grad_fn), slope=lambda op: torch.tensor(2.0, dtype=op.dtype))
    )
    run = lrp.propagate(y.sum(), rules=rules)  # finds its input itself: x alone
    assert len(run.relevance) == 1
    close(run.relevance[0], 2 * x.detach())


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        raise AssertionError("the user's backward must not run")


def test_custom_function_is_missing_by_default_and_works_with_a_row() -> None:
    x = leaf_of(3)
    y = Doubled.apply(x * 3).sum()
    name = f"{__name__}.Doubled"
    with pytest.raises(lrp.MissingRule, match=name):
        lrp.relevance(y, x)
    row = elementwise(name, "self", forward=lambda op, v: v * 2, slope=lambda op: torch.tensor(2.0))
    for dtype in (None, torch.float64):
        run = lrp.propagate(y, x, rules=lrp.load_rules() | lrp.Rules.of(row), dtype=dtype)
        close(run.relevance[0], 6 * x.detach())


def test_on_missing_pass_and_stop_are_explicit_and_booked() -> None:
    x = leaf_of(3)
    y = (Doubled.apply(x).abs() + x).sum()  # abs keeps what "pass" needs: the Function's output
    passed = lrp.propagate(y, x, on_missing="pass", ledger=True)
    close(passed.relevance[0], (2 * x.abs() + x).detach())
    stopped = lrp.propagate(y, x, on_missing="stop", ledger=True)
    close(stopped.relevance[0], x.detach())
    for run in (passed, stopped):
        assert any("missing rule" in cause for _, cause in run.ledger.unattributed)


def test_foreach_nodes_are_named_by_their_cpp_name() -> None:
    x, z = leaf_of(3), leaf_of(3, seed=1)
    ys = torch._foreach_mul([x, z], [2.0, 3.0])
    assert "Foreach" in kind(ys[0].grad_fn) and "::" not in kind(ys[0].grad_fn)
    with pytest.raises(lrp.MissingRule, match="ForeachMul"):
        lrp.relevance(ys[0].sum(), x)


# -- outputs and inputs ----------------------------------------------------------------------------


def test_several_outputs_add_up_also_when_one_is_an_ancestor() -> None:
    x = leaf_of(4)
    w = randn(4, 4, seed=1)
    h = x @ w
    y = (h * 3).sum()
    both = lrp.relevance((y, h), x)[0]
    swapped = lrp.relevance((h, y), x)[0]
    one = lrp.relevance(y, x)[0]
    other = lrp.relevance(h, x)[0]
    close(both, one + other)
    close(swapped, both)
    # By hand: R_i = 4 * sum_j x_i w_ij
    a = x.detach()
    by_hand = [4 * sum(float(a[i] * w[i, j]) for j in range(4)) for i in range(4)]
    close(both, torch.tensor(by_hand, dtype=torch.float64))


def test_the_same_output_twice_counts_twice() -> None:
    x = leaf_of(4)
    y = x.tanh()
    close(lrp.relevance((y, y), x)[0], 2 * lrp.relevance(y, x)[0])


def test_an_intermediate_input_does_not_stop_the_flow() -> None:
    x = leaf_of(2, 4)
    h = x @ randn(4, 4, seed=1)
    y = (h.relu() @ randn(4, 2, seed=2)).sum()
    r_x, r_h = lrp.relevance(y, (x, h))
    close(r_x, lrp.relevance(y, x)[0])
    close(r_h, lrp.relevance(y, h)[0])
    close(r_x.sum(), r_h.sum())


def test_a_residual_stream_as_input_and_its_source() -> None:
    x = leaf_of(3)
    h = x * 2
    y = h + x * 5
    r_x, r_h = lrp.relevance(y.sum(), (x, h))
    close(r_h, 2 * x.detach())
    close(r_x, 7 * x.detach())


def test_several_inputs_and_the_order_they_are_named_in() -> None:
    x, z = leaf_of(3), leaf_of(3, seed=1)
    y = (2 * x - 3 * z).sum()
    for names in ((x, z), (z, x), [x, z, x]):
        for t, r in zip(names, lrp.relevance(y, names)):
            close(r, (2 if t is x else -3) * t.detach())


def test_an_input_that_is_also_an_output() -> None:
    x = leaf_of(3)
    close(lrp.relevance(x, x)[0], x.detach())
    h = x * 2
    close(lrp.relevance(h, h)[0], h.detach())
    r_h, r_x = lrp.relevance((h, h.sum()), (h, x))
    close(r_h, 2 * h.detach())
    close(r_x, 2 * h.detach())


def test_a_seed_on_an_input_that_is_an_output_arrives_unchanged() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    seed = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    close(lrp.relevance(x, x, seed)[0], seed)


def test_unreached_inputs_raise_or_are_zero() -> None:
    x, z = leaf_of(3), leaf_of(2, 2, seed=1)
    y = x.sum()
    with pytest.raises(lrp.UnreachableInput, match=r"inputs\[1\].*\(2, 2\)"):
        lrp.relevance(y, (x, z))
    run = lrp.propagate(y, (x, z), allow_unused=True)
    close(run.relevance[0], x.detach())
    assert run.relevance[1].shape == z.shape and not run.relevance[1].any()


def test_an_unreached_output_of_a_node_that_is_reached_through_another() -> None:
    x = leaf_of(4)
    a, b = x.split(2)
    y = a.sum()
    with pytest.raises(lrp.UnreachableInput, match=r"inputs\[0\]"):
        lrp.relevance(y, b)
    run = lrp.propagate(y, (a, b), allow_unused=True)
    close(run.relevance[0], a.detach())
    assert not run.relevance[1].any()


def test_an_unreached_read_out_raises_too() -> None:
    x, z = leaf_of(3), leaf_of(2, 2, seed=1)
    with pytest.raises(lrp.UnreachableInput, match=r"at\[0\]"):
        lrp.propagate(x.sum(), x, at=z)
    run = lrp.propagate(x.sum(), x, at=z, allow_unused=True)
    assert run.at[0].shape == z.shape and not run.at[0].any()


def test_none_edges_take_nothing() -> None:
    x = leaf_of(3)
    c = randn(3, seed=1)
    y = (x * c + c).sum()
    run = lrp.propagate(y, x, ledger=True)
    close(run.relevance[0], x.detach() * c)


def test_one_output_of_a_multi_output_node_as_input() -> None:
    x = leaf_of(2, 6)
    a, b, c = x.chunk(3, dim=1)
    y = (a * 2 + b * 3 + c * 5).sum()
    (r_b,) = lrp.relevance(y, b)
    close(r_b, 3 * b.detach())
    r_x, r_b = lrp.relevance(y, (x, b))
    close(r_b, 3 * b.detach())
    close(r_x, x.detach() * torch.tensor([2.0, 2, 3, 3, 5, 5], dtype=torch.float64))


def test_only_the_named_output_of_a_multi_output_node_is_live() -> None:
    # a * b: with b named, a is a constant factor and b takes all; with x named, both are live.
    x = leaf_of(4)
    a, b = x.split(2)
    y = (a * b).sum()
    close(lrp.relevance(y, b)[0], (a * b).detach())
    halves = (a * b).detach() / 2
    close(lrp.relevance(y, x)[0], torch.cat([halves, halves]))


def test_inputs_none_finds_the_data_leaves_and_no_parameter() -> None:
    model = nn.Linear(4, 2, dtype=torch.float64)
    x, z = leaf_of(2, 4), leaf_of(2, 4, seed=1)
    run = lrp.propagate((model(x) + model(z)).sum())
    assert len(run.relevance) == 2
    expected = {id(t): lrp.relevance((model(x) + model(z)).sum(), (x, z)) for t in (x,)}[id(x)]
    found = sorted(float(r.sum()) for r in run.relevance)
    assert found == pytest.approx(sorted(float(r.sum()) for r in expected))


# -- at= -------------------------------------------------------------------------------------------


def test_at_changes_nothing_and_reads_latents_and_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x = leaf_of(3, 4)
    h = model[0](x)
    y = model[2](model[1](h))[:, 1].sum()
    plain = lrp.propagate(y, x)
    run = lrp.propagate(y, x, at=(h, model[0].weight, model[2].bias))
    assert torch.equal(plain.relevance[0], run.relevance[0])
    close(run.at[0], lrp.relevance(y, h)[0])
    # a * c of parameters, by loops: c of the first weight is sum_n x_ni * (h_nj > 0) * w2_1j.
    w1, w2, a = model[0].weight.detach(), model[2].weight.detach(), x.detach()
    for j in range(5):
        for i in range(4):
            c = sum(float(a[n, i]) * float(h[n, j] > 0) * float(w2[1, j]) for n in range(3))
            assert float(run.at[1][j, i]) == pytest.approx(float(w1[j, i]) * c, abs=1e-12)
    close(run.at[2], model[2].bias.detach() * torch.tensor([0.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"])
def test_at_changes_nothing_under_any_preset(rules: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    model = model.double().eval()
    x = leaf_of(2, 1, 4, 4)
    y = model(x)[:, 0]
    plain = lrp.propagate(y, x, rules=rules)
    run = lrp.propagate(y, x, rules=rules, at=tuple(model.parameters()))
    assert torch.equal(plain.relevance[0], run.relevance[0])
    assert all(r.shape == p.shape for r, p in zip(run.at, model.parameters()))


def test_at_on_a_product_leaves_the_shares_alone() -> None:
    x, z = leaf_of(3), leaf_of(3, seed=1)
    y = (x * z).sum()
    run = lrp.propagate(y, x, at=z)
    close(run.relevance[0], (x * z).detach())
    close(lrp.relevance(y, (x, z))[0], (x * z).detach() / 2)


def test_at_upstream_of_the_inputs() -> None:
    x = leaf_of(3)
    h = x * 2
    y = (h * 3).sum()
    run = lrp.propagate(y, h, at=x)
    close(run.relevance[0], 6 * x.detach())
    close(run.at[0], 6 * x.detach())


# -- depth and size --------------------------------------------------------------------------------

CHAIN = """
import sys, threading, warnings
import torch
import dynamiclrp_core as lrp

def main():
    x = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    y = x
    with {record}:
        for i in range({n}):
            y = {step}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        (r,) = lrp.relevance(y, x, rules={rules!r})
    assert any("deep" in str(w.message) and "stack" in str(w.message) for w in seen), seen
    torch.testing.assert_close(r, {expected})
    del y
    print("survived")

threading.stack_size(1 << 30)
t = threading.Thread(target=main)
failed = []
threading.excepthook = lambda args: (failed.append(1), sys.__excepthook__(*args[:3]))
t.start(); t.join()
sys.exit(bool(failed))
"""


@pytest.mark.parametrize(
    ("step", "rules", "record", "expected"),
    [
        ("-y", "default", "warnings.catch_warnings()", "x.detach()"),
        (
            "y + 0.0",
            "dynamiclrp",
            "lrp.record()",
            "x.detach() * (x.detach().abs() / (x.detach().abs() + 1e-11)) ** 100_000",
        ),
    ],
)
def test_a_chain_of_100_000_ops_in_a_large_stack(step: str, rules: str, record: str, expected: str) -> None:
    code = CHAIN.format(n=100_000, step=step, rules=rules, record=record, expected=expected)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "survived" in done.stdout


def test_a_chain_deeper_than_pythons_recursion_limit() -> None:
    x = leaf_of(2)
    y = x
    for _ in range(5_000):
        y = y * 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (r,) = lrp.relevance(y, x)
    close(r, x.detach())


@pytest.mark.skipif("DYNAMICLRP_BIG" not in os.environ, reason="set DYNAMICLRP_BIG=1: a graph of 10^6 nodes")
def test_a_graph_of_a_million_nodes() -> None:
    x = leaf_of(1)
    terms = [x * float(i % 7) for i in range(499_999)]
    level = terms
    while len(level) > 1:
        level = [a + b for a, b in zip(level[::2], level[1::2])] + level[len(level) & ~1 :]
    run = lrp.propagate(level[0], x)
    assert run.promises.nodes >= 999_000
    close(run.relevance[0], x.detach() * sum(float(i % 7) for i in range(499_999)))


# -- in-place writes -------------------------------------------------------------------------------


def test_writes_into_views_route_to_what_was_written() -> None:
    x, z = leaf_of(2, 3), leaf_of(3, seed=1)
    base = x * 1.0
    base[0] = z * 2
    y = (base * torch.arange(1.0, 7.0, dtype=torch.float64).view(2, 3)).sum()
    r_x, r_z = lrp.relevance(y, (x, z))
    assert "CopySlices" in {kind(n) for n in graph_of(y).order}
    close(r_z, 2 * z.detach() * torch.tensor([1.0, 2, 3], dtype=torch.float64))
    close(r_x[0], torch.zeros(3, dtype=torch.float64))
    close(r_x[1], x.detach()[1] * torch.tensor([4.0, 5, 6], dtype=torch.float64))


def test_adding_into_a_view_shares() -> None:
    x, z = leaf_of(2, 3), leaf_of(3, seed=1)
    base = x * 1.0
    base[0] += z
    r_x, r_z = lrp.relevance(base.sum(), (x, z))
    close(r_x, x.detach())
    close(r_z, z.detach())


@pytest.mark.parametrize("write", ["mul_", "div_"])
def test_a_write_that_scales_a_slice_is_missing_and_says_so(write: str) -> None:
    x = leaf_of(2, 3)
    base = x * 1.0
    getattr(base[0], write)(3.0)
    with pytest.raises(lrp.MissingRule, match="in-place write into a view"):
        lrp.relevance(base.sum(), x)


def test_copy_into_a_tensor_takes_all() -> None:
    x, z = leaf_of(3), leaf_of(3, seed=1)
    base = x * 1.0
    base.copy_(z)
    run = lrp.propagate((base * 2).sum(), (x, z), allow_unused=True)
    assert not run.relevance[0].any()
    close(run.relevance[1], 2 * z.detach())


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
