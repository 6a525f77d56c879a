"""``dynamiclrp demo``: a small CNN reads handwritten digits, and four rule sets say what it saw.

Then a photograph goes through a net of VGG16's shape and random weights, to show size and speed, and a
tiny language model (``demo_text.py``) says which words it used.
Needs ``pip install 'dynamiclrp-core[demo]'``. Same numbers at every run (times aside).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from ..api import Run, propagate
from ..graph import Graph
from ..node import address
from ..plot import heatmap_grid
from .demo_text import explain_sentences

RULES = ("default", "epsilon-plus", "gamma", "dynamiclrp")
PHOTO_RULES = ("default", "epsilon-plus")
SHOWN = 6
T = TypeVar("T")


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) between 0 and 1 with their classes, for training and for testing."""

    train: Tensor
    train_class: Tensor
    test: Tensor
    test_class: Tensor


def main(out: Path, quick: bool = False) -> None:
    """Run the demo; pictures go to the folder ``out``. ``quick``: less training, a smaller photo.

    Raises ModuleNotFoundError where matplotlib, scikit-learn or the std pack is not installed.
    """
    console = Console(highlight=False)
    with seeded(), Progress(console=console, transient=True) as progress:
        data = digits()
        model = digit_reader()
        train(model, data, epochs=2 if quick else 12, progress=progress)
        explain_digits(model, data, out / "digits.png", console)
        size, shrink = (64, 8) if quick else (224, 1)
        explain_photograph(size, shrink, out / "photograph.png", console, progress)
        explain_sentences(out / "text.html", quick, console, progress)


@contextmanager
def seeded() -> Iterator[None]:
    """Random weights that are the same at every run; the caller's generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# -- digits ----------------------------------------------------------------------------------------


def digits() -> Digits:
    """scikit-learn's 1797 handwritten digits, every fourth kept for testing."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = torch.tensor(bundle.images, dtype=torch.float32).unsqueeze(1) / 16
    classes = torch.tensor(bundle.target)
    test = torch.arange(len(images)) % 4 == 3
    return Digits(images[~test], classes[~test], images[test], classes[test])


def digit_reader() -> nn.Module:
    """Two convolutions, one with batch norm and one with a bias, and a dense layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def train(model: nn.Module, data: Digits, epochs: int, progress: Progress) -> None:
    """Adam on cross-entropy, in batches of 64; the model is left in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    task = progress.add_task("training on digits", total=epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(data.train[batch]), data.train_class[batch]).backward()
            optimizer.step()
        progress.advance(task)
    model.eval()
    progress.remove_task(task)


def explain_digits(model: nn.Module, data: Digits, picture: Path, console: Console) -> None:
    """Accuracy, heatmaps of some test images, and what each rule set did to get there."""
    with torch.no_grad():
        right = model(data.test).argmax(1) == data.test_class
    console.print(
        f"Digits: a CNN of {weights(model):,} weights, {len(data.test)} images it was not trained "
        f"on, {right.float().mean():.1%} read correctly.\n"
    )
    # The first test image of each of some classes.
    chosen = torch.stack([(data.test_class == k).nonzero()[0, 0] for k in range(SHOWN)])
    images = data.test[chosen]
    runs = {name: explain(model, images, name) for name in RULES}
    predicted = runs[RULES[0]][1]
    captions = [f"{k} read as {p}" for k, p in enumerate(predicted.tolist())]
    heatmaps = {name: run.relevance[0] for name, (run, _) in runs.items()}
    heatmap_grid(images, heatmaps, picture, captions=captions)
    console.print("Predicted: " + ", ".join(captions) + ".\n")
    console.print(promises_table({name: run for name, (run, _) in runs.items()}))
    console.print("\n[bold]Rules used[/bold] (number of nodes)")
    for name, (run, _) in runs.items():
        used = ", ".join(f"{rule} ({n})" for rule, n in run.rules_used.items())
        console.print(f"  [cyan]{name}[/cyan]: ", end="")
        console.print(used, markup=False)
    console.print(f"\n[bold]Ledger[/bold] of {captions[0]}, rules [cyan]gamma[/cyan]")
    console.print(str(explain(model, images[:1], "gamma", ledger=True)[0].ledger), markup=False)
    console.print(f"\nWritten: {picture}\n", soft_wrap=True)


def explain(model: nn.Module, images: Tensor, rules: str, ledger: bool = False) -> tuple[Run, Tensor]:
    """Explain the score of each image's predicted class; also the classes."""
    x = images.clone().requires_grad_()
    scores = model(x)
    predicted = scores.argmax(1)
    explained = scores.gather(1, predicted.unsqueeze(1))
    return propagate(explained, x, rules=rules, ledger=ledger), predicted


def promises_table(runs: dict[str, Run]) -> Table:
    """The paper's statistics, a line per rule set."""
    table = Table(title="Promises: forward values that rules asked for", title_justify="left")
    table.add_column("rules", style="cyan")
    for name in ("promises", "density", "recomputed", "depth"):
        table.add_column(name, justify="right")
    table.add_column("values came from")
    for name, run in runs.items():
        kept = run.promises
        where = ", ".join(f"{n} {source}" for source, n in sorted(kept.sources.items()))
        figures = (kept.promises, f"{kept.density:.2f}", kept.internal_nodes, kept.max_depth)
        table.add_row(name, *map(str, figures), where or "none needed")
    return table


# -- photograph ------------------------------------------------------------------------------------


def photograph(size: int) -> Tensor:
    """scikit-learn's photograph of a temple, cut square: (1, 3, size, size) between 0 and 1."""
    from sklearn.datasets import load_sample_image

    pixels = torch.tensor(load_sample_image("china.jpg")).permute(2, 0, 1).float() / 255
    edge = min(pixels.shape[1:])
    left = (pixels.shape[2] - edge) // 2
    square = pixels[None, :, :edge, left : left + edge]
    shrunk = F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)
    return shrunk.clamp(0, 1)


def vgg16_shaped(size: int, shrink: int) -> nn.Module:
    """VGG16 for ``size`` x ``size`` pixels (its own: 224), ``shrink`` times narrower."""
    layers: list[nn.Module] = []
    last = 3
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            layers += [nn.Conv2d(last, width // shrink, 3, padding=1), nn.ReLU()]
            last = width // shrink
        layers.append(nn.MaxPool2d(2))
    dense = 4096 // shrink
    for wide in (last * (size // 32) ** 2, dense):
        layers += [nn.Flatten(), nn.Linear(wide, dense), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(dense, 1000)).eval()


def draw_weights(model: nn.Module) -> None:
    """He's choice: with PyTorch's own, nothing of the image is left after 16 layers."""
    for name, weight in model.named_parameters():
        if name.endswith("weight"):
            nn.init.normal_(weight, std=(2 / weight[0].numel()) ** 0.5)
        else:
            nn.init.zeros_(weight)


def explain_photograph(size: int, shrink: int, picture: Path, console: Console, progress: Progress) -> None:
    """Size and speed of explaining a photograph. The net knows nothing: its weights are random."""
    task = progress.add_task("drawing random weights", total=3 + len(PHOTO_RULES))
    with torch.device("meta"):  # else PyTorch would draw all the weights once more
        model = vgg16_shaped(size, shrink)
    draw_weights(model.to_empty(device="cpu"))
    x = photograph(size).requires_grad_()

    def forward() -> Tensor:
        scores: Tensor = model(x)
        return scores.max(1).values

    def step(doing: str, work: Callable[[], T]) -> tuple[T, float]:
        progress.update(task, description=doing, advance=1)
        return fastest(work)

    y, forward_time = step("forward", forward)
    _, gradient_time = step("gradient", lambda: torch.autograd.grad(y, x, retain_graph=True))
    runs = {name: step(f"relevance: {name}", partial(propagate, y, x, rules=name)) for name in PHOTO_RULES}
    progress.update(task, description="drawing heatmaps", advance=1)
    nodes = len(Graph([address(y)]).order)
    console.print(
        f"Photograph: {size} x {size} pixels through a net of VGG16's shape, {weights(model):,} "
        f"random weights, {nodes} nodes. It has learned nothing: only size and speed count."
    )
    console.print(f"  forward                  {forward_time * 1e3:8.1f} ms")
    console.print(f"  gradient                 {gradient_time * 1e3:8.1f} ms")
    for name, (_, taken) in runs.items():
        console.print(f"  relevance, {name:<14}{taken * 1e3:8.1f} ms")
    heatmap_grid(x, {name: run.relevance[0] for name, (run, _) in runs.items()}, picture)
    progress.remove_task(task)
    console.print(f"\nWritten: {picture}\n", soft_wrap=True)


def fastest(work: Callable[[], T], runs: int = 3) -> tuple[T, float]:
    """Result and seconds of the fastest run: the first ones also set up torch's kernels."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        made = work()
        best = min(best, time.perf_counter() - start)
    return made, best


def weights(model: nn.Module) -> int:
    """How many parameters."""
    return sum(p.numel() for p in model.parameters())
