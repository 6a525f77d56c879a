"""The models of the benchmarks, in plain ``torch.nn``: random weights, evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A model, the shape of its input, and how many pairs of runs one figure takes."""

    title: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    pairs: int

    def make(self, *, trainable: bool) -> tuple[nn.Module, Tensor]:
        """The model and an input that requires grad, the same at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.build().eval().requires_grad_(trainable)
            x = torch.randn(self.shape)
        return model, x.requires_grad_()


def vgg16() -> nn.Module:
    """Simonyan & Zisserman 2015, configuration D, for 224 x 224 pixels: 138 M weights."""
    layers: list[nn.Module] = []
    last = 3
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            layers += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU()]
            last = width
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(4096, 1000))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolution with batch norm, and a shortcut (He et al. 2016, figure 5)."""

    def __init__(self, wide: int, narrow: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(wide, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, 4 * narrow, 1, bias=False),
            nn.BatchNorm2d(4 * narrow),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or wide != 4 * narrow:
            conv = nn.Conv2d(wide, 4 * narrow, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(4 * narrow))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """He et al. 2016: a stem and 3 + 4 + 6 + 3 bottlenecks."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    blocks: list[nn.Module] = []
    wide = 64
    for narrow, repeats, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(repeats):
            blocks.append(Bottleneck(wide, narrow, stride if i == 0 else 1))
            wide = 4 * narrow
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(wide, 1000)]
    return nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *blocks, *head)


def mlp21() -> nn.Module:
    """21 layers so small that dispatch is all there is to measure."""
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


class GRU(nn.Module):
    """A recurrent reader: many small nodes, deep rather than wide."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.reader(x)
        out: Tensor = self.head(states[:, -1])
        return out


CASES = {
    "vgg16": Case("VGG16, 224 x 224, batch 1", vgg16, (1, 3, 224, 224), 11),
    "resnet50": Case("ResNet-50, 224 x 224, batch 1", resnet50, (1, 3, 224, 224), 11),
    "mlp21": Case("MLP, 21 layers of 64, batch 16", mlp21, (16, 64), 200),
    "gru256": Case("GRU of 32, 256 steps, batch 1", GRU, (1, 256, 16), 15),
}
