"""The nets on which libraries are compared: small, made of modules that all of them can hook.

Weights and inputs come from numpy's legacy generator, whose stream is frozen: the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

LOW, HIGH = -4.0, 4.0  # bounds of every input


class Add(nn.Module):
    """A residual sum as a module: other libraries need one of their own in its place."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Dense(nn.Module):
    """A dense layer on flattened inputs: captum has no rule for nn.Flatten."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.flatten(1))
        return out


class Block(nn.Module):
    """``relu(body(x) + shortcut(x))`` (He et al. 2016)."""

    def __init__(self, wide: int, out: int, stride: int, add: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(wide, out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or wide != out:
            self.shortcut = nn.Sequential(nn.Conv2d(wide, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.add = add()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.shortcut is None else self.shortcut(x)
        out: Tensor = self.relu(self.add(self.body(x), other))
        return out


def _mlp(add: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4))


def _mlp_without_bias(add: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False))


def _mlp_gelu(add: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 4))


def _cnn(add: Callable[[], nn.Module], bias: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(4, 5, 3, bias=bias),
        nn.ReLU(),
        nn.AvgPool2d(2),
        Dense(5, 4, bias),
    )


def _cnn_without_bias(add: Callable[[], nn.Module]) -> nn.Module:
    return _cnn(add, bias=False)


def _cnn_strided(add: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 2, stride=2),  # 5 x 6 leaves a remainder
        nn.ReLU(),
        nn.Conv2d(4, 6, 2, padding="same", dilation=2, groups=2),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 2, stride=2, output_padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        Dense(3, 4),
    )


def _cnn_batchnorm(add: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 2, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        Dense(5, 4),
    )


def _resnet(add: Callable[[], nn.Module]) -> nn.Module:
    stem = (nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    blocks = (Block(4, 4, 1, add), Block(4, 6, 2, add))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), Dense(6, 4))


def _cnn1d(add: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(4, 3, 3, stride=2),
        nn.ReLU(),
        Dense(9, 4),
    )


@dataclass(frozen=True)
class Net:
    """How to build a net, the shape of one batch, whether its inputs are never negative."""

    build: Callable[[Callable[[], nn.Module]], nn.Module]
    shape: tuple[int, ...]
    positive: bool = False
    batchnorm: bool = False


NETS = {
    "mlp": Net(_mlp, (3, 6)),
    "mlp-without-bias": Net(_mlp_without_bias, (3, 6)),
    "mlp-gelu": Net(_mlp_gelu, (3, 6)),
    "cnn": Net(_cnn, (2, 2, 5, 5)),
    "cnn-positive": Net(_cnn, (2, 2, 5, 5), positive=True),
    "cnn-without-bias": Net(_cnn_without_bias, (2, 2, 5, 5), positive=True),
    "cnn-strided": Net(_cnn_strided, (2, 2, 5, 6)),
    "cnn-batchnorm": Net(_cnn_batchnorm, (2, 2, 5, 5), batchnorm=True),
    "resnet": Net(_resnet, (2, 2, 5, 5), batchnorm=True),
    "cnn1d": Net(_cnn1d, (2, 2, 16)),
}


def made(
    name: str, dtype: torch.dtype, add: Callable[[], nn.Module] = Add
) -> tuple[nn.Module, Tensor, Tensor]:
    """The net in evaluation mode, its input, the class explained for each sample."""
    net = NETS[name]
    random = np.random.RandomState(sorted(NETS).index(name))

    def normal(shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
        return torch.from_numpy(random.standard_normal(shape) * scale)

    model = net.build(add).double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                n = (module.num_features,)
                module.weight.copy_(1 + normal(n, 0.3))
                module.bias.copy_(normal(n, 0.3))
                module.running_mean.copy_(normal(n, 0.5))  # type: ignore[union-attr]
                module.running_var.copy_(0.5 + normal(n).square())  # type: ignore[union-attr]
            elif hasattr(module, "weight"):
                fan_in = module.weight[0].numel()
                module.weight.copy_(normal(tuple(module.weight.shape), (2 / fan_in) ** 0.5))
                if module.bias is not None:
                    module.bias.copy_(normal(tuple(module.bias.shape), 0.2))
    x = normal(net.shape).clamp(LOW, HIGH)
    x = x.abs() if net.positive else x
    target = torch.arange(net.shape[0]) % 4
    return model.to(dtype), x.to(dtype).requires_grad_(), target
