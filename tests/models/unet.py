"""A small diffusion-style U-Net: residual blocks told the time, attention at the bottom, skips."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Group norm, SiLU, convolution, twice; the time scales and shifts the second norm."""

    def __init__(self, wide: int, narrow: int, time: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(2, wide), nn.GroupNorm(2, narrow)])
        self.convs = nn.ModuleList(
            [nn.Conv2d(wide, narrow, 3, padding=1), nn.Conv2d(narrow, narrow, 3, padding=1)]
        )
        self.time = nn.Linear(time, 2 * narrow)
        self.shortcut = nn.Conv2d(wide, narrow, 1) if wide != narrow else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.convs[0](F.silu(self.norms[0](x)))
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, 1)
        h = self.norms[1](h) * (1 + scale) + shift
        return self.shortcut(x) + self.convs[1](F.silu(h))


class Attention(nn.Module):
    """Self-attention over places, then cross-attention to a context."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.cross = nn.MultiheadAttention(width, 2, kdim=context, vdim=context, batch_first=True)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (t.flatten(2).mT[:, None] for t in self.qkv(self.norm(x)).chunk(3, 1))
        h = x.flatten(2).mT + F.scaled_dot_product_attention(q, k, v)[:, 0]
        h = h + self.cross(h, context, context, need_weights=False)[0]
        return h.mT.reshape(x.shape)


class UNet(nn.Module):
    """(n, 3, 8, 8), steps (n,), context (n, length, 6) -> (n, 3, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 16))
        self.start = nn.Conv2d(3, 8, 3, padding=1)
        self.down = Residual(8, 8, 16)
        self.smaller = nn.Conv2d(8, 8, 3, 2, 1)
        self.bottom = nn.ModuleList([Residual(8, 16, 16), Attention(16, 6), Residual(16, 8, 16)])
        self.up = Residual(16, 8, 16)
        self.end = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor, steps: Tensor, context: Tensor) -> Tensor:
        rates = torch.exp(-math.log(1e4) * torch.arange(4, dtype=x.dtype) / 4)
        angles = steps.to(x.dtype)[:, None] * rates
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        skip = self.down(self.start(x), time)
        h = self.bottom[0](self.smaller(skip), time)
        h = self.bottom[2](self.bottom[1](h, context), time)
        # Nearest neighbours by index, as interpolate does it.
        h = h.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return self.end(F.silu(self.up(torch.cat([h, skip], 1), time)))
