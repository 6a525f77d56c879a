"""What a function written by hand gets: its relevance, and the rules it took."""

from __future__ import annotations

import dynamiclrp_core as lrp
import torch
import torch.nn.functional as F
from torch import Tensor

GAIN = torch.tensor([1.0, 2.0, 0.5, -1.0], dtype=torch.float64, requires_grad=True)


def dropped(x: Tensor) -> Tensor:
    """Dropout with one mask."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return F.dropout(x, 0.3)


def relevance(f, *xs: Tensor, rules="default") -> list[Tensor]:
    """Relevance of a random linear readout of f, so that wrong routing cannot cancel out."""
    with lrp.record():
        y = f(*xs)
    g = torch.Generator().manual_seed(7)
    weights = torch.randn(y.shape, generator=g, dtype=torch.float64)
    return list(lrp.relevance((y * weights).sum(), xs, rules=rules))


def same(f, g, *xs: Tensor) -> None:
    for a, b in zip(relevance(f, *xs), relevance(g, *xs)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def rules_used(f, *xs: Tensor) -> dict[str, int]:
    with lrp.record():
        y = f(*xs)
    return lrp.propagate(y, xs).rules_used
