"""Maps of every preset can be differentiated, by input and weights: beside central differences."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.packs.plugins import presets
from torch import Tensor, nn

STEP = 1e-6


def net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Softplus(), nn.AvgPool2d(2),
        nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3),
    ).double()  # fmt: skip
    for p in model.parameters():
        nn.init.normal_(p, 0.0, 0.5)
    nn.init.normal_(model[1].running_mean)
    nn.init.uniform_(model[1].running_var, 0.5, 2.0)
    return model


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("name", presets())
def test_maps_can_be_differentiated(name: str, training: bool) -> None:
    bounds = {"low": -9.0, "high": 9.0} if name == "epsilon-gamma-box" else {}
    rules = lrp.preset(name, **bounds)
    model = net().train(training)
    for norm in (m for m in model if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.0  # the same function at every call
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    look = torch.randn_like(x)

    def seen() -> Tensor:
        (r,) = lrp.relevance(model(x)[:, 1], x, rules=rules, create_graph=True)
        return (r * look).sum()

    leaves = [x, *model.parameters()]
    gradients = torch.autograd.grad(seen(), leaves, allow_unused=True, materialize_grads=True)
    for leaf, g in zip(leaves, gradients):
        direction, values = torch.randn_like(leaf), []
        for sign in (1, -1):
            with torch.no_grad():
                leaf += sign * STEP * direction
            values.append(float(seen().detach()))
            with torch.no_grad():
                leaf -= sign * STEP * direction
        slope = (values[0] - values[1]) / (2 * STEP)
        assert float((g * direction).sum().detach()) == pytest.approx(slope, rel=1e-4, abs=1e-5)
