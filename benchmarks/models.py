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

    def make(self, *, trainable: bool, batch: int | None = None) -> tuple[nn.Module, Tensor]:
        """The model and an input that requires grad, the same at every call; ``batch`` samples of it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.build().eval().requires_grad_(trainable)
            x = torch.randn(self.shape if batch is None else (batch, *self.shape[1:]))
        return model, x.requires_grad_()


class Add(nn.Module):
    """A sum as a module, so that libraries which hook modules can put theirs in its place."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


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
        self.add, self.relu = Add(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.add(self.main(x), self.shortcut(x)))
        return out


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


def _conv(wide: int, out: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(wide, out, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out, eps=1e-3), nn.SiLU()]


class Excitation(nn.Module):
    """Each channel times a gate made of all of them (Hu et al. 2018)."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        down, up = nn.Conv2d(wide, narrow, 1), nn.Conv2d(narrow, wide, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), down, nn.SiLU(), up, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class MBConv(nn.Module):
    """Tan & Le 2021, figure 2; ``fused``: one 3x3 convolution in place of a 1x1 and a depthwise one."""

    def __init__(self, wide: int, out: int, expand: int, stride: int, fused: bool) -> None:
        super().__init__()
        inner = wide * expand
        if fused and expand == 1:
            layers = _conv(wide, out, 3, stride)
        else:
            if fused:
                layers = _conv(wide, inner, 3, stride)
            else:
                layers = [*_conv(wide, inner, 1), *_conv(inner, inner, 3, stride, groups=inner)]
                layers.append(Excitation(inner, max(1, wide // 4)))
            layers += _conv(inner, out, 1)[:2]
        self.main = nn.Sequential(*layers)
        self.add = Add() if stride == 1 and wide == out else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return y if self.add is None else self.add(y, x)


def efficientnet_v2_m() -> nn.Module:
    """Tan & Le 2021, EfficientNetV2-M: 54 M weights."""
    layers, wide = _conv(3, 24, 3, 2), 24
    for expand, stride, out, repeats, fused in (
        (1, 1, 24, 3, True), (4, 2, 48, 5, True), (4, 2, 80, 5, True), (4, 2, 160, 7, False),
        (6, 1, 176, 14, False), (6, 2, 304, 18, False), (6, 1, 512, 5, False),
    ):  # fmt: skip
        for i in range(repeats):
            layers.append(MBConv(wide, out, expand, stride if i == 0 else 1, fused))
            wide = out
    layers += _conv(wide, 1280, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


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
    "vgg16": Case("VGG16, 224 x 224", vgg16, (1, 3, 224, 224), 11),
    "resnet50": Case("ResNet-50, 224 x 224", resnet50, (1, 3, 224, 224), 11),
    "efficientnet": Case("EfficientNetV2-M, 224 x 224", efficientnet_v2_m, (1, 3, 224, 224), 11),
    "mlp21": Case("MLP, 21 layers of 64, batch 16", mlp21, (16, 64), 200),
    "gru256": Case("GRU of 32, 256 steps, batch 1", GRU, (1, 256, 16), 15),
}
