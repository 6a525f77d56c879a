"""Pixel flipping on scikit-learn's digits: a CNN and a tiny ViT (faithfulness.py)."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from dynamiclrp_core.cli.demo import Digits, digit_reader, digits
from methods import CNN, VIT, Method, Table, note, zennit_methods
from torch import Tensor, nn


class TinyViT(nn.Module):
    """Patches of 2 x 2 of an 8 x 8 image, a class token, two blocks."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        block = partial(nn.TransformerEncoderLayer, width, 4, 64, 0.0, "gelu", batch_first=True)
        self.blocks = nn.ModuleList(block(norm_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


def train(model: nn.Module, data: Digits, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(data.train[batch]), data.train_class[batch]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def flipping(model: nn.Module, images: Tensor, relevance: Tensor, mean: Tensor) -> dict[str, float]:
    """Pixel flipping (Samek et al. 2017; ABPC: Bluecher et al. 2024), one pixel at a time."""
    n, pixels = len(images), images[0].numel()
    predicted = model(images).argmax(1)
    areas: dict[str, float] = {}
    for name, descending in (("MoRF", True), ("LeRF", False)):
        order = relevance.reshape(n, -1).argsort(1, descending=descending)
        # Step k has the first k pixels of the order replaced: rank of each pixel < k.
        rank = order.argsort(1)
        kept = rank[:, None] >= torch.arange(pixels + 1)[:, None]
        flipped = torch.where(kept, images.reshape(n, 1, -1), mean.reshape(1, 1, -1))
        logits = model(flipped.view(-1, *images.shape[1:])).view(n, pixels + 1, -1)
        p = logits.softmax(-1).gather(-1, predicted.view(n, 1, 1).expand(-1, pixels + 1, 1))
        areas[name] = p.mean().item()
    return {**areas, "ABPC": areas["LeRF"] - areas["MoRF"]}


def score_pixels(model: nn.Module, data: Digits, method: Method, seed: int, n: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data.test), generator=generator)[:n]
    x = data.test[chosen].clone().requires_grad_()
    predicted = model(x).argmax(1, keepdim=True)
    torch.manual_seed(seed)
    r = method(lambda images: model(images).gather(1, predicted)[:, 0], x)
    accuracy = (model(data.test).argmax(1) == data.test_class).double().mean().item()
    return {"accuracy": accuracy, **flipping(model, x.detach(), r, data.train.mean(0))}


def pixels(table: Table, seeds: int, quick: bool) -> None:
    data = digits()
    for seed in range(seeds):
        for name, build, epochs, methods in (
            ("CNN", digit_reader, 12, {**CNN, **zennit_methods()}),
            ("ViT", TinyViT, 40, VIT),
        ):
            torch.manual_seed(seed)
            model = train(build(), data, 2 if quick else epochs)
            for method_name, method in methods.items():
                if method_name.startswith("zennit"):
                    method = partial(method, model)
                scored = score_pixels(model, data, method, seed, 16 if quick else 100)
                note(table[name][method_name], scored)
