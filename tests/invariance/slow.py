"""Maps written out entry by entry, for computations on 4 x 4 tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

import dynamiclrp_core as lrp
import torch
from torch import Tensor

N = 4
Rows = list[list[float]]


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def square(seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, N, generator=g, dtype=torch.float64).requires_grad_()


def check(f: Callable[..., Tensor], slow: Callable[..., list[Rows]], *xs: Tensor) -> None:
    """The map of ``sum f(*xs)``, sizes of the output weighted by place, against ``slow(weights, *xs)``."""
    with lrp.record():
        y = f(*xs)
        weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view(y.shape)
        total = (y * weights).sum()
    made = lrp.relevance(total, xs)
    expected = slow(weights.tolist(), *(x.tolist() for x in xs))
    for m, e in zip(made, expected):
        torch.testing.assert_close(m, torch.tensor(e, dtype=m.dtype), rtol=1e-8, atol=1e-8)


def zeros() -> Rows:
    return [[0.0] * N for _ in range(N)]
