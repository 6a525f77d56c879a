"""The share of a sum's term by absolute ratio, by the preset and entry by entry."""

from __future__ import annotations

import dynamiclrp_core as lrp
import torch
from torch import Tensor


def paper(y: Tensor, x: Tensor) -> Tensor:
    return lrp.relevance(y, x, rules=lrp.preset("dynamiclrp", epsilon=0.0))[0]


def share(x: Tensor, c: float) -> Tensor:
    """Of R = x + c, what x gets by absolute ratio, entry by entry."""
    shares = []
    for v in x.detach().reshape(-1).tolist():
        shares.append((v + c) * abs(v) / (abs(v) + abs(c)))
    return torch.tensor(shares, dtype=torch.float64).view(x.shape)
