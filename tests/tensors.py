"""Tensors with known seeds, and how the tests compare them."""

from __future__ import annotations

import torch
from torch import Tensor


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers, drawn in float64 whatever the dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def leaf_of(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """The same, requiring grad."""
    return randn(*shape, seed=seed, dtype=dtype).requires_grad_()


def close(a: Tensor, b: Tensor) -> None:
    """Equal to float64's rounding."""
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
