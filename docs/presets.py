"""``python docs/presets.py``: one photograph under every preset, as in docs/presets.md.

A small CNN learns in seconds to tell crops of scikit-learn's two photographs apart, a temple and a flower.
It then sees a picture that is half of each, and every preset says what speaks for "flower". Prints the
table of the page and writes presets.png beside it.
"""

from __future__ import annotations

from pathlib import Path

import dynamiclrp_core as lrp
import torch
import torch.nn.functional as F
from dynamiclrp_core.packs.plugins import presets
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

SIZE = 128
CROP = 48
GRADIENTS = ("guided-backprop", "deconvnet", "beta-smooth")


def photograph(name: str) -> Tensor:
    """(3, SIZE, 1.5 SIZE) between 0 and 1."""
    pixels = torch.tensor(load_sample_image(name)).permute(2, 0, 1).float() / 255
    return F.interpolate(pixels[None], (SIZE, SIZE * 3 // 2), mode="bilinear", antialias=True)[0].clamp(0, 1)


def reader() -> nn.Module:
    """Convolutions with batch norm, pooling, a dense layer."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(3, 16),
        *block(16, 32),
        *block(32, 32),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 2),
    )


def train(model: nn.Module, pictures: Tensor, steps: int = 150) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        kinds = torch.randint(2, (32,))
        corners = [(torch.randint(SIZE - CROP, ()), torch.randint(SIZE * 3 // 2 - CROP, ())) for _ in kinds]
        crops = [pictures[k, :, i : i + CROP, j : j + CROP] for k, (i, j) in zip(kinds, corners)]
        optimizer.zero_grad()
        F.cross_entropy(model(normalised(torch.stack(crops))), kinds).backward()
        optimizer.step()
    model.eval()


def normalised(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.25


def main() -> None:
    torch.manual_seed(0)
    temple, flower = photograph("china.jpg"), photograph("flower.jpg")
    model = reader()
    train(model, torch.stack([temple, flower]))
    half = SIZE // 2
    picture = torch.cat([temple[:, :, half : 2 * half], flower[:, :, half : 2 * half]], 2)[None]
    x = normalised(picture).requires_grad_()
    maps = {}
    print("| preset | temple half | flower half | of all sizes, on the flower |")
    print("|---|---|---|---|")
    for name in sorted(presets(), key=lambda name: (name != "default", name)):
        bounds = dict(low=-2.0, high=2.0) if name == "epsilon-gamma-box" else {}
        with lrp.record():
            scores = model(x)
        run = lrp.propagate(scores[:, 1] - scores[:, 0], x, rules=lrp.preset(name, **bounds))
        found = run.coefficients[0] if name in GRADIENTS else run.relevance[0]
        assert found is not None
        maps[f"{name} (c)" if name in GRADIENTS else name] = found
        left, right = found[..., :half].sum(1), found[..., half:].sum(1)
        share = float(right.abs().sum() / (left.abs().sum() + right.abs().sum()))
        print(f"| `{name}` | {float(left.sum()):+.2f} | {float(right.sum()):+.2f} | {share:.0%} |")
    out = Path(__file__).with_suffix(".png")
    figure = lrp.plot.heatmap_grid(picture, maps, columns=5, title="flower against temple, by every preset")
    figure.savefig(out, dpi=96)
    Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)  # a tenth of the bytes
    with torch.no_grad():
        score = scores[0, 1] - scores[0, 0]
    print(f"\nflower - temple: {float(score):+.2f}; written: {out.name}")


if __name__ == "__main__":
    main()
