"""What rules that are hooked to modules get silently wrong, beside rules on the graph.

``ModuleRules`` is how tools with hooks work: the backward of each leaf module of a known type is replaced by
its rule, and between the modules autograd passes relevance as if it were a gradient.
``tests/agreement/module_cases.py`` puts zennit and captum beside it, and prints the table of docs/cnn.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dynamiclrp_core as lrp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-9


class ModuleRules:
    """The epsilon rule on linear layers and pooling, identity on activations and norms, by hooks."""

    LAYERS = (nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
    PASS = (nn.ReLU, nn.GELU, nn.BatchNorm2d)

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def relevance(self, x: Tensor, target: int) -> Tensor:
        handles: list[Any] = []
        for module in self.model.modules():
            if isinstance(module, self.LAYERS):
                handles += [
                    module.register_forward_hook(self._keep),
                    module.register_full_backward_hook(self._layer),
                ]
            elif isinstance(module, self.PASS):
                handles.append(module.register_full_backward_hook(lambda m, inputs, outputs: outputs))
        try:
            x = x.detach().requires_grad_()
            y = self.model(x)
            seed = torch.zeros_like(y)
            seed[:, target] = y.detach()[:, target]
            (r,) = torch.autograd.grad(y, x, seed)
        finally:
            for handle in handles:
                handle.remove()
        return r

    @staticmethod
    def _keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.kept_input = inputs[0].detach()  # type: ignore[assignment]

    @staticmethod
    def _layer(module: nn.Module, inputs: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        with torch.enable_grad():
            x = module.kept_input.clone().requires_grad_()  # type: ignore[operator]
            z = type(module).forward(module, x)
            (c,) = torch.autograd.grad(z, x, outputs[0] / (z + EPSILON * torch.where(z < 0, -1.0, 1.0)))
        return ((x * c).detach(),)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 3, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + self.relu(self.a(x)))


class Functional(nn.Module):
    """An activation that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.gelu(self.a(x)))


class Shared(nn.Module):
    """One layer used twice: its hook keeps the input of the last call. The sum is right, the map is not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 3, bias=False)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.again = self.a

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.relu2(self.again(self.relu1(self.a(x)))))

    def unshared(self) -> Shared:
        """The same net with two layers of the same weights: on it, module hooks are right."""
        other = copy.deepcopy(self)
        other.again = copy.deepcopy(self.a)
        return other


class Attention(nn.Module):
    """nn.MultiheadAttention reads its layers' weights and never calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, bias=False, batch_first=True)
        self.b = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.stack([x, x.flip(1), x.square()], 1)
        return self.b(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """Eight residual blocks, no canonizer. The norms do not shift, so that nothing may be absorbed."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), *[Block(4) for _ in range(8)])
        self.pool, self.b = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.pool(self.body(x.view(-1, 1, 3, 2))).flatten(1))


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    conserves: bool = True  # else the softmax of attention does not, and says so

    def run(self) -> tuple[nn.Module, Tensor, float, Tensor, lrp.Run]:
        """Model, input, explained output, the map by modules, and the run on the graph."""
        torch.manual_seed(0)
        model = self.build().double().eval()
        torch.manual_seed(1)
        x = torch.randn(1, 6, dtype=torch.float64)
        by_modules = ModuleRules(model).relevance(x, 1)
        x.requires_grad_()
        y = model(x)[:, 1]
        run = lrp.propagate(y, x, rules=lrp.preset("epsilon", epsilon=EPSILON), ledger=True)
        return model, x, float(y.detach()), by_modules, run


CASES = [
    Case("residual `x + f(x)`", Residual),
    Case("`F.gelu` instead of `nn.GELU`", Functional),
    Case("a layer used twice", Shared),
    Case("`nn.MultiheadAttention`", Attention, conserves=False),
    Case("ResNet, 8 blocks, no canonizer", ResNet),
]
