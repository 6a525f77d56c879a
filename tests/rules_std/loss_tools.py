"""Tensors with known seeds, single entries, and maps whose ledger must close."""

from __future__ import annotations

import dynamiclrp_core as lrp
import torch
from torch import Tensor

N, C = 3, 4
"""Rows and classes."""


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def value(t: Tensor, *at: int) -> float:
    return t.detach()[at].item()


def closed(y: Tensor, x: Tensor) -> Tensor:
    """The map of x; the ledger must close."""
    run = lrp.propagate(y, x, ledger=True)
    assert run.ledger is not None and run.ledger.closed, str(run.ledger)
    return run.relevance[0]
