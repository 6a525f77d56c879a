"""Relevance that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn

from tests.tensors import leaf_of


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()


def convolutional() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2))
    return net, leaf_of(2, 1, 3, 3)


def dense_relu() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), leaf_of(3, 4)


def dense_tanh() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), leaf_of(3, 4)


def gelu_silu() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3), nn.SiLU(), nn.Linear(3, 2))
    return net, leaf_of(3, 4)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.b(self.norm(self.a(x)).tanh())
        return h


class BatchNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.b(self.norm(self.a(x)).sigmoid())
        return h


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        p = (self.q(x) @ x.T).softmax(-1)
        h: Tensor = p @ self.v(x)
        return h


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.lstm(x)[0][:, -1]
        return h


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "conv": convolutional,
    "relu": dense_relu,
    "tanh": dense_tanh,
    "gelu and silu": gelu_silu,
    "layer norm": lambda: (Normed(), leaf_of(3, 4)),
    "batch norm": lambda: (BatchNormed().eval(), leaf_of(3, 4)),
    "glu, a composite": lambda: (nn.Sequential(nn.Linear(4, 8), nn.GLU(), nn.Linear(4, 2)), leaf_of(3, 4)),
    "lstm, unrolled": lambda: (Recurrent(), leaf_of(2, 3, 4)),
    "softmax": lambda: (Attending(), leaf_of(3, 4)),
}


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "dynamiclrp"])
@pytest.mark.parametrize("name", MODELS)
def test_relevance_can_be_differentiated(name: str, rules: str) -> None:
    """d(loss of relevance)/d(parameters) and d/dx against central differences."""
    torch.manual_seed(3)
    net, x = MODELS[name]()
    net.double()
    readout = torch.randn(x.shape, dtype=torch.float64)
    table = lrp.preset(rules, **({"epsilon": 0.01} if rules != "default" else {}))

    def loss(create_graph: bool) -> Tensor:
        with lrp.record():
            y = net(x)[:, 0]
        (r,) = lrp.relevance(y, x, rules=table, create_graph=create_graph)
        assert r.requires_grad == create_graph
        return (r * readout).sum()

    tensors = [x, *net.parameters()]
    grads = torch.autograd.grad(loss(True), tensors, allow_unused=True)
    g = torch.Generator().manual_seed(1)
    step = 1e-6
    checked = 0
    for t, grad in zip(tensors, grads):
        flat = t.detach().view(-1)
        for i in torch.randperm(flat.numel(), generator=g)[:3].tolist():
            kept = float(flat[i])
            with torch.no_grad():
                flat[i] = kept + step
            up = float(loss(False))
            with torch.no_grad():
                flat[i] = kept - step
            down = float(loss(False))
            with torch.no_grad():
                flat[i] = kept
            slope = (up - down) / (2 * step)
            given = 0.0 if grad is None else float(grad.reshape(-1)[i])
            assert given == pytest.approx(slope, rel=1e-4, abs=1e-6), (name, rules, t.shape, i)
            checked += abs(slope) > 1e-6
    assert checked >= 3, "nothing depends on anything: the test says nothing"


def test_training_on_explanations_lowers_the_loss() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = leaf_of(16, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        (r,) = lrp.relevance(net(x)[:, 0], x, create_graph=True)
        loss = r[:, 0].pow(2).mean()  # the first feature must not matter
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_a_differentiable_seed_gets_its_gradient() -> None:
    net, x = mlp(), leaf_of(2, 4)
    seed = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (r,) = lrp.relevance(net(x), x, seed, create_graph=True, rules="epsilon")
    (grad,) = torch.autograd.grad(r.sum(), seed)
    # Relevance is linear in the seed: the gradient is the share that reaches the inputs.
    for n in range(2):
        for j in range(3):
            one = torch.zeros(2, 3, dtype=torch.float64)
            one[n, j] = 1.0
            share = float(lrp.relevance(net(x), x, one, rules="epsilon")[0].sum())
            assert float(grad[n, j]) == pytest.approx(share, abs=1e-9)
