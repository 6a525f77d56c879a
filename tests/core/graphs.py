"""Graphs that ask for values of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.arguments import outputs_of
from dynamiclrp_core.engine import Sweep
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address
from torch import Tensor, nn

from tests.tensors import leaf_of

PRESETS = ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"]


def mlp(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    return net.double()(x)


def cnn(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 2, 2),
    )  # fmt: skip
    return net.double().eval()(x)


def residual(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    a, b, norm = nn.Linear(6, 8), nn.Linear(8, 6), nn.LayerNorm(6)
    a.double(), b.double(), norm.double()
    h = x
    for _ in range(3):
        h = h + b(F.gelu(a(norm(h))))
    return norm(h).mean(1, keepdim=True)


def arithmetic(x: Tensor) -> Tensor:
    a, b = x.split(3, dim=1)
    c = torch.cat([b * 2, a - b, (a * b).tanh()], 1)
    d = (c.exp() + 1).log() - c.abs().sqrt()
    return (d.view(-1, 3, 3).transpose(1, 2) @ torch.ones(3, 1, dtype=x.dtype)).flatten(1)


def constants(x: Tensor) -> Tensor:
    mask = torch.tensor([0.0, 1, 0, 1, 0, 1], dtype=x.dtype)
    h = (x + mask) * 2 - 0.5
    h = h.masked_fill(mask.bool(), 0.25)
    h = torch.where(mask.bool(), h + 1, h * 3)
    return F.pad(h, (1, 1), value=0.5).sum(1, keepdim=True) + 3


def recurrent(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    cell = nn.GRUCell(2, 4).double()
    h = torch.zeros(x.shape[0], 4, dtype=x.dtype)
    for t in range(3):
        h = cell(x[:, 2 * t : 2 * t + 2], h)
    return h


def softmaxed(x: Tensor) -> Tensor:
    p = (x * 2).softmax(-1)
    return (p * x).sum(-1, keepdim=True) / (1 + p.amax(-1, keepdim=True))


GRAPHS: dict[str, Callable[[Tensor], Tensor]] = {
    f.__name__: f for f in (mlp, cnn, residual, arithmetic, constants, recurrent, softmaxed)
}
EACH_GRAPH = pytest.mark.parametrize("graph", GRAPHS)


def made(graph: str, frozen: bool = False, record: bool = True) -> tuple[Tensor, Tensor]:
    x = leaf_of(3, 6)
    hold: list[Any] = []
    original = nn.Module.double

    def frozen_double(self: nn.Module) -> nn.Module:
        return original(self).requires_grad_(False)

    with pytest.MonkeyPatch.context() as patch:
        if frozen:
            patch.setattr(nn.Module, "double", frozen_double)
        if record:
            with lrp.record():
                y = GRAPHS[graph](x)
        else:
            y = GRAPHS[graph](x)
    hold.append(y)
    return x, y[:, 0]


def sweep_of(y: Tensor, x: Tensor, **known: Any) -> Sweep:
    return Sweep(Graph([address(o) for o in outputs_of(y)]), [address(x)], (), lrp.preset("epsilon"), {})
