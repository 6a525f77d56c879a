"""Note [Promises]: a promised value is the true one, wherever it was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import Address, address
from dynamiclrp_core.op import Op
from dynamiclrp_core.values.existing import Existing
from dynamiclrp_core.values.saved_index import SavedIndex
from torch import Tensor, nn

from tests.core.graphs import EACH_GRAPH, GRAPHS, PRESETS, made, sweep_of
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


class Watched(torch.overrides.TorchFunctionMode):
    """Keeps every tensor that the forward makes: the truth."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.values: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(t, Tensor) and t.grad_fn is not None:
                self.tensors.append(t)
                self.values.append(t.detach().clone())
        return result


def hide_everything(patch: pytest.MonkeyPatch) -> None:
    """As if autograd had saved no floating point tensor that the graph made, anywhere."""
    own, result, scan = Op.kept, Existing.result, SavedIndex._scan

    def no_operand(op: Op, i: int) -> Tensor | None:
        value = own(op, i)
        tracked = op.edges[i][0] is not None  # an untracked one stands at the node or nowhere
        return None if value is None or (tracked and value.is_floating_point()) else value

    def no_result(self: Existing, op: Any, nr: int) -> Tensor | None:
        value = result(self, op, nr)
        return None if value is None or value.is_floating_point() else value

    def scanned(self: SavedIndex) -> None:
        scan(self)
        self.found, self.leaves = {}, {}

    patch.setattr(Op, "kept", no_operand)
    patch.setattr(Existing, "result", no_result)
    patch.setattr(SavedIndex, "_scan", scanned)


@pytest.fixture(params=[False, True], ids=["seen", "hidden"])
def hidden(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    if request.param:
        hide_everything(monkeypatch)
    yield request.param


@EACH_GRAPH
def test_every_promised_value_is_the_forward_value(graph: str, hidden: bool) -> None:
    x = leaf_of(3, 6)
    watched = Watched()
    with lrp.record(), watched:
        y = GRAPHS[graph](x)
    order = set(Graph([address(y)]).order)
    compared = 0
    for t, value in zip(watched.tensors, watched.values):
        if t.grad_fn not in order:
            continue
        sweep = sweep_of(y, x)  # a new one: nothing may be remembered from another value
        found = sweep.values.edge(Address(t.grad_fn, t.output_nr))
        torch.testing.assert_close(found.detach(), value, rtol=1e-9, atol=1e-10)
        compared += 1
    assert compared >= 5


@EACH_GRAPH
@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_hiding_every_saved_value_changes_no_map(graph: str, rules: str, frozen: bool) -> None:
    x, y = made(graph, frozen)
    seen = lrp.relevance(y, x, rules=rules)[0]
    with pytest.MonkeyPatch.context() as patch:
        hide_everything(patch)
        run = lrp.propagate(y, x, rules=rules)
    torch.testing.assert_close(run.relevance[0], seen, rtol=1e-7, atol=1e-9)
    assert run.promises.sources["own"] == 0 and run.promises.sources["consumer"] == 0


@EACH_GRAPH
@pytest.mark.parametrize("rules", PRESETS)
def test_frozen_and_trainable_models_have_one_map(graph: str, rules: str) -> None:
    x, y = made(graph, frozen=False)
    z, w = made(graph, frozen=True)
    assert torch.equal(y, w)
    torch.testing.assert_close(
        lrp.relevance(y, x, rules=rules)[0], lrp.relevance(w, z, rules=rules)[0],
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


@EACH_GRAPH
@pytest.mark.parametrize("rules", PRESETS)
def test_a_second_run_equals_the_first_bit_for_bit(graph: str, rules: str) -> None:
    x, y = made(graph)
    first = lrp.propagate(y, x, rules=rules)
    second = lrp.propagate(y, x, rules=rules)
    assert torch.equal(first.relevance[0], second.relevance[0])
    assert first.promises.sources == second.promises.sources
    assert first.rules_used == second.rules_used


@EACH_GRAPH
def test_default_asks_for_no_lost_value(graph: str) -> None:
    # No recording, frozen: whatever default asks for must be there.
    if graph in ("constants", "softmaxed", "arithmetic", "recurrent"):
        pytest.skip("not a claim: matchers and exp ask for values here")
    x, y = made(graph, frozen=True, record=False)
    run = lrp.propagate(y, x)
    assert run.promises.sources["recorded"] == run.promises.sources["difference"] == 0


# -- statistics ------------------------------------------------------------------------------------


def test_statistics_of_a_tree_counted_by_hand() -> None:
    x = leaf_of(4)
    a = -x
    b = -a
    y = -b
    sweep = sweep_of(-y, x)
    sweep.values.edge(address(y))  # y <- b <- a <- x: three recomputed, depth 3
    stats = sweep.values.stats
    assert stats.internal_nodes == 3 and stats.max_depth == 3 and stats.promises == 1
    assert stats.path_length == 3 and stats.nodes == 5
    assert stats.density == pytest.approx(1 / 5)
    assert "1 promises on 5 nodes" in str(stats)


def test_a_value_is_computed_once_per_run() -> None:
    x = leaf_of(4)
    h = -x
    y = (h + h * 2.0) + (h + x)
    run = lrp.propagate(-y, x, rules="dynamiclrp")
    forwards = run.promises.sources["recomputed"]
    assert forwards == run.promises.internal_nodes
    assert forwards <= 6  # h, h * 2, and the three sums, -y is known


def test_a_deep_tree_of_promises_needs_no_recursion() -> None:
    x = leaf_of(2)
    y = x
    for _ in range(3_000):
        y = -y
    sweep = sweep_of(-y, x)
    torch.testing.assert_close(sweep.values.edge(address(y)).detach(), x.detach())
    assert sweep.values.stats.max_depth == 3_000


# -- constants -------------------------------------------------------------------------------------


def test_constants_pass_need_not_be_known() -> None:
    x = leaf_of(4)
    y = -(x * 2.0 + 3.0)
    rules = lrp.preset("dynamiclrp", epsilon=0.0, constants="pass")
    (r,) = lrp.relevance(y, x, y.detach(), rules=rules)
    torch.testing.assert_close(r, y.detach())


def test_constants_pass_in_both_forms_alike() -> None:
    x = leaf_of(4)
    y = x * 2.0 + 3.0
    rules = lrp.preset("dynamiclrp", epsilon=0.0, constants="pass")
    for seed in (None, y.detach()):
        torch.testing.assert_close(lrp.relevance(y, x, seed, rules=rules)[0], y.detach())


def test_constants_pass_a_frozen_bias() -> None:
    layer = nn.Linear(4, 3, dtype=torch.float64).requires_grad_(False)
    x = leaf_of(2, 4)
    y = layer(x)[:, 1]
    rules = lrp.preset("dynamiclrp", epsilon=0.0, constants="pass")
    (r,) = lrp.relevance(y, x, y.detach(), rules=rules)
    torch.testing.assert_close(r.sum(1), y.detach())
    for n in range(2):
        parts = [float(x.detach()[n, i] * layer.weight[1, i]) for i in range(4)]
        expected = [float(y.detach()[n]) * p / sum(parts) for p in parts]
        torch.testing.assert_close(r[n], torch.tensor(expected, dtype=torch.float64))


def test_absorbing_is_the_default_and_loses_by_name_not_in_silence() -> None:
    layer = nn.Linear(4, 3, dtype=torch.float64).requires_grad_(False)
    x = leaf_of(2, 4)
    y = -(layer(x) * torch.ones(3, dtype=torch.float64))
    with pytest.raises(lrp.Unrecoverable, match="AddmmBackward0"):
        lrp.relevance(y, x, rules="dynamiclrp")
