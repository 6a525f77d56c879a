"""Other backwards of ReLU: guided backpropagation, deconvnet, beta smoothing."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn


def relu_net(x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    torch.manual_seed(4)
    weights = [torch.randn(9, 4).double(), torch.randn(7, 9).double(), torch.randn(1, 7).double()]
    inputs, h = [], x
    for w in weights[:-1]:
        z = h @ w.T
        inputs.append(z)
        h = z.relu()
    return h @ weights[-1].T, weights, inputs


RELUS: dict[str, Callable[[float, float], float]] = {
    "guided-backprop": lambda g, z: g if g > 0 and z > 0 else 0.0,
    "deconvnet": lambda g, z: max(g, 0.0),
    "beta-smooth": lambda g, z: g / (1 + 2.718281828459045 ** (-10 * z)),
}


@pytest.mark.parametrize("name", RELUS)
def test_a_modified_gradient_is_the_coefficient(name: str) -> None:
    torch.manual_seed(5)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    y, weights, inputs = relu_net(x)
    run = lrp.propagate(y, x, rules=name, ledger=True)
    for n in range(2):
        g = weights[-1][0].tolist()
        for w, z in zip(weights[-2::-1], inputs[::-1]):
            g = [RELUS[name](gj, zj) for gj, zj in zip(g, z[n].tolist())]
            g = [sum(gj * float(w[j, i]) for j, gj in enumerate(g)) for i in range(w.shape[1])]
        assert run.coefficients[0] is not None
        assert run.coefficients[0][n].tolist() == pytest.approx(g, rel=1e-9, abs=1e-12)
        assert run.relevance[0][n].tolist() == pytest.approx((torch.tensor(g) * x[n].detach()).tolist(), 1e-6)
    assert run.ledger is not None and run.ledger.closed


def test_elsewhere_they_are_the_gradient() -> None:
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    y = (nn.functional.gelu(x) * x.sigmoid() / (1 + x.exp())).std(1)
    (g,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (c,) = lrp.propagate(y, x, rules="guided-backprop").coefficients
    torch.testing.assert_close(c, g)
