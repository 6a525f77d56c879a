"""Each source of a promised value by name."""

from __future__ import annotations

from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.node import address
from torch import Tensor, nn

from tests.core.graphs import sweep_of
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


def sources(y: Tensor, x: Any, rules: Any = "dynamiclrp") -> dict[str, int]:
    return dict(lrp.propagate(y, x, rules=rules).promises.sources)


def test_source_own() -> None:
    x, w = leaf_of(2, 3), leaf_of(3, 2, seed=1)
    run = lrp.propagate((x @ w).sum(1), x)
    assert run.promises.promises == 0 and not run.promises.sources  # w stands at the node itself


def test_source_saved_of_the_caller() -> None:
    x = leaf_of(4)
    h = x * 2
    z = x * 3
    y = h + z
    found = sources(y, (h, z))
    assert found["saved"] >= 2


def test_source_consumer() -> None:
    x = leaf_of(4)
    h = x * 2.0  # its own value is saved by silu alone
    y = -(F.silu(h) + h)
    found = sources(y, x)
    assert found["consumer"] >= 1


def test_source_consumer_through_the_base_of_a_saved_view() -> None:
    x = leaf_of(2, 6)
    h = x.neg()
    v = h.view(3, 4)[1:]
    y = torch.cat([F.silu(v).flatten(), (h + h * 2).flatten()]).sum()
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources == {"consumer": 1}
    torch.testing.assert_close(found.detach(), h.detach())


def test_source_move() -> None:
    x = leaf_of(2, 6)
    h = x * 2.0
    v = h.clone().transpose(0, 1)
    y = F.silu(v).sum() + h.sum()
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources["move"] == 1
    torch.testing.assert_close(found.detach(), h.detach())


def test_source_recomputed() -> None:
    x = leaf_of(4)
    h = -x
    y = -(h + x)
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources == {"recomputed": 1, "leaf": 1}
    torch.testing.assert_close(found.detach(), -x.detach())


def test_source_leaf() -> None:
    x, p = leaf_of(4), nn.Parameter(torch.ones(4, dtype=torch.float64))
    assert sources(-(x + p), x)["leaf"] >= 1


def test_source_inverse_is_noted() -> None:
    x = leaf_of(4)
    h = x * 1.0 + 2.0
    y = -h.tanh().neg()
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources["inverse"] == 1
    torch.testing.assert_close(found.detach(), h.detach(), rtol=1e-6, atol=1e-6)
    assert any("inverted" in note for note in sweep.values.stats.notes)


def test_source_recorded() -> None:
    x = leaf_of(4)
    with lrp.record():
        y = -(x * 1.0 + 2.0)
    assert sources(y, x)["recorded"] >= 1


def test_recorded_is_exact_where_the_difference_would_not_be() -> None:
    x = (torch.rand(4) + 100).requires_grad_()
    with lrp.record():
        y = x * 1.0 + 0.1
    run = lrp.propagate(y, x, rules="dynamiclrp")
    assert run.promises.sources["recorded"] == 1 and run.promises.sources["difference"] == 0


def test_source_stand_in() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5, dtype=torch.float64)
    x = leaf_of(2, 6)
    run = lrp.propagate(layer(x).relu().sum(), x, rules="epsilon")
    assert run.promises.sources["stand-in"] == 1
    # The same numbers as with the pre-activation itself, by loops.
    w, b, a = layer.weight.detach(), layer.bias.detach(), x.detach()
    expected = torch.zeros_like(a)
    total = float(layer(a).relu().sum().detach())
    for n in range(2):
        for j in range(5):
            z = sum(float(a[n, i] * w[j, i]) for i in range(6)) + float(b[j])
            if z <= 0:
                continue
            r = total * z / (total + 1e-6)  # the sum's own epsilon
            for i in range(6):
                expected[n, i] += a[n, i] * w[j, i] * r / (z + 1e-6)
    torch.testing.assert_close(run.relevance[0], expected, rtol=1e-9, atol=1e-12)


def test_a_tensor_that_is_read_out_gets_no_stand_in() -> None:
    layer = nn.Linear(6, 5, dtype=torch.float64)
    x = leaf_of(2, 6)
    h = layer(x)
    run = lrp.propagate(h.relu().sum(), (x, h), rules="epsilon")
    assert run.promises.sources["stand-in"] == 0


def test_one_half_saved_by_a_consumer_and_the_other_made() -> None:
    """Outputs of one node come from different sources: the second is not there because the first is."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    a, b = (x * 2.0).chunk(2, -1)
    run = lrp.propagate(a * b.sigmoid(), x, ledger=True)  # the product keeps a, nothing keeps b
    assert run.ledger is not None and run.ledger.closed, run.ledger
