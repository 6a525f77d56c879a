"""Spellings of rotary position encodings."""

from __future__ import annotations

import torch
from torch import Tensor

from .table import Group

ANGLES = torch.arange(3, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.1], dtype=torch.float64)


def _cos_sin(x: Tensor) -> tuple[Tensor, Tensor]:
    return ANGLES.cos().to(x), ANGLES.sin().to(x)


def _rotate_half(x: Tensor) -> Tensor:
    cos, sin = (torch.cat([t, t], -1) for t in _cos_sin(x))
    return x * cos + torch.cat([-x[..., 2:], x[..., :2]], -1) * sin


def _halves(x: Tensor) -> Tensor:
    cos, sin = _cos_sin(x)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _rotated_by_roll(x: Tensor) -> Tensor:
    cos, sin = (torch.cat([t, t], -1) for t in _cos_sin(x))
    return x * cos + x.roll(2, -1) * torch.tensor([-1, -1, 1, 1]).to(x) * sin


def _complex(x: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (2, 2)).transpose(-1, -2).contiguous())
    turned = pairs * torch.polar(torch.ones_like(ANGLES), ANGLES).to(pairs.dtype)
    return torch.view_as_real(turned).transpose(-1, -2).flatten(-2)


def _interleaved(x: Tensor) -> Tensor:
    cos, sin = _cos_sin(x)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def _interleaved_by_rotation(x: Tensor) -> Tensor:
    cos, sin = (t.repeat_interleave(2, -1) for t in _cos_sin(x))
    return x * cos + torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * sin


def _interleaved_complex(x: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (2, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(ANGLES), ANGLES)).flatten(-2)


def _rotation_matrices(x: Tensor) -> Tensor:
    cos, sin = _cos_sin(x)
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return torch.einsum("tpij,btpj->btpi", turn, x.unflatten(-1, (2, 2))).flatten(-2)


ROTARY = (
    Group("rotary, halves", {
        "rotate_half": _rotate_half,
        "halves": _halves,
        "roll": _rotated_by_roll,
        "complex": _complex,
    }, live=((2, 3, 4),)),
    Group("rotary, interleaved", {
        "stack": _interleaved,
        "rotation": _interleaved_by_rotation,
        "matrices": _rotation_matrices,
        "complex": _interleaved_complex,
    }, live=((2, 3, 4),)),
)  # fmt: skip
