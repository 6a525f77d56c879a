"""Right by construction: residual sums, functional ops, reused modules, attention, ResNets."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import nn

from .module_tools import CASES, EPSILON, Case, ModuleRules, Shared


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.build.__name__)
def test_the_graph_keeps_what_hooks_lose_or_double(case: Case) -> None:
    _, _, y, by_modules, run = case.run()
    ours = run.relevance[0]
    assert float((by_modules - ours).norm()) > 0.2 * float(ours.norm())  # without a word
    if case.build is not Shared:
        assert abs(float(by_modules.sum()) - y) > 0.2 * abs(y)
    assert run.ledger is not None and run.ledger.closed
    if case.conserves:
        assert float(run.relevance[0].sum()) == pytest.approx(y, rel=1e-6)
    else:
        missing = y - float(run.relevance[0].sum())
        assert run.ledger.by_cause["softmax"] == pytest.approx(missing, rel=1e-6)


def test_a_shared_layer_is_two_layers_of_the_same_weights() -> None:
    model, x, _, _, run = next(case for case in CASES if case.build is Shared).run()
    assert isinstance(model, Shared)
    torch.testing.assert_close(run.relevance[0], ModuleRules(model.unshared()).relevance(x, 1))


def test_where_all_is_modules_the_two_agree() -> None:
    """The comparison is fair: on a plain stack of modules the hooks are right."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 3)).double()
    x = torch.randn(2, 1, 3, 2, dtype=torch.float64)
    by_modules = ModuleRules(model).relevance(x, 1)
    x.requires_grad_()
    (ours,) = lrp.relevance(model(x)[:, 1], x, rules=lrp.preset("epsilon", epsilon=EPSILON))
    torch.testing.assert_close(ours, by_modules)
