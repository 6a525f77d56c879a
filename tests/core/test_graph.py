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
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, kind, leaf, signed
from torch import Tensor

from tests.tensors import close, leaf_of


def graph_of(*outputs: Tensor) -> Graph:
    return Graph([address(y) for y in outputs])


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
    with lrp.record():
        ys = torch._foreach_mul([x, z], [2.0, 3.0])
    assert "Foreach" in kind(ys[0].grad_fn) and "::" not in kind(ys[0].grad_fn)
    run = lrp.propagate(ys[0].sum(), x)
    close(run.relevance[0], 2 * x.detach())
    assert not any("::" in rule for rule in run.rules_used)


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
