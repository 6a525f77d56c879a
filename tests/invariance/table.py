"""What a group of spellings is, and how their maps are compared.

A group holds spellings of one computation: functions of the same live tensors and the same constants.
All must give one map, that of the first spelling, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor

Spelling = Callable[..., Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """``spellings``: name -> ``f(*live, *constants)``.

    ``live``, ``constants``: shapes; the first dimension of a live tensor is a batch if ``batched``.
    ``positive``: operands are drawn from (0.5, 2). ``layer``: all are one layer to the epsilon rule,
    so they agree at any epsilon and not only where it vanishes, and so under rules that split by sign.
    ``several``: those that are not one layer, because product and sum are not one op, or something that
    joins tensors stands between the layer and its bias.
    """

    name: str
    spellings: dict[str, Spelling]
    live: tuple[Shape, ...] = ((3, 4),)
    constants: tuple[Shape, ...] = ()
    positive: bool = False
    batched: bool = True
    layer: bool = False
    several: tuple[str, ...] = ()
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def first(self) -> str:
        return next(iter(self.spellings))

    def tensors(self, dtype: torch.dtype = torch.float64, trainable: bool = True) -> tuple[list[Tensor], ...]:
        """The live tensors and the constants."""
        g = torch.Generator().manual_seed(len(self.name))

        def drawn(shape: Shape) -> Tensor:
            made = torch.randn(shape, generator=g, dtype=torch.float64)
            if self.positive:
                made = 0.5 + 1.5 * made.sigmoid()
            return made.to(dtype)

        return (
            [drawn(s).requires_grad_() for s in self.live],
            [drawn(s).requires_grad_(trainable) for s in self.constants],
        )


def read_out_weights(y: Tensor) -> Tensor:
    """Weights of a random linear read-out of all entries, so that wrong routing cannot cancel out."""
    g = torch.Generator().manual_seed(1_000_003)
    return torch.randn(y.shape, generator=g, dtype=torch.float64).to(y)


def read_out(y: Tensor) -> Tensor:
    """What is explained: one number that depends on all entries of ``y``."""
    return (y * read_out_weights(y)).sum()


def explain(
    f: Spelling,
    live: list[Tensor],
    constants: list[Tensor],
    rules: lrp.Rules | str = "default",
    inputs: Sequence[int] | None = None,
    *,
    recorded: bool = True,
) -> list[Tensor]:
    """Relevance of a read-out of ``f`` to its live tensors, or to those numbered ``inputs``."""
    with lrp.record() if recorded else nullcontext():
        y = read_out(f(*live, *constants))
    named = live if inputs is None else [live[i] for i in inputs]
    try:
        return list(lrp.relevance(y, named, rules=rules))
    except lrp.MissingRule as error:
        pytest.skip(f"no row yet: {str(error).splitlines()[0]}")


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference of two maps, relative to the size of the second."""
    scale = max(float(t.abs().max()) for t in b) or 1.0
    return max(float((s - t).abs().max()) for s, t in zip(a, b)) / scale


def agree(a: list[Tensor], b: list[Tensor], tolerance: float) -> None:
    assert len(a) == len(b)
    assert all(bool(torch.isfinite(t).all()) for t in (*a, *b))
    assert all(s.shape == t.shape for s, t in zip(a, b))
    assert difference(a, b) <= tolerance, (difference(a, b), a, b)
