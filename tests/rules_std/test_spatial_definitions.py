"""Resampling, padding, shuffles, index writes, group norm and GRU from their definitions, entry by entry."""

from __future__ import annotations

import itertools
import math

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def relevance(y: Tensor, x: Tensor, r: Tensor) -> Tensor:
    (made,) = lrp.relevance(y, x, r)
    return made


def shared(weights: dict[int, float], x: list[float], r: float, out: list[float]) -> None:
    """One output entry ``sum w_i x_i``: each entry of x gets its part of the sum (Bach et al. 2015)."""
    total = sum(w * x[i] for i, w in weights.items())
    for i, w in weights.items():
        out[i] += w * x[i] / total * r


def close(made: Tensor, expected: list[float]) -> None:
    assert torch.allclose(
        made.reshape(-1), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("corners", [False, True])
def test_bilinear_upsampling(corners: bool) -> None:
    """Each output pixel is a mean of four input pixels, weighted by how near they are."""
    height, width, tall, wide = 2, 3, 4, 5
    x = random(0, 1, 1, height, width).requires_grad_()
    y = F.interpolate(x, (tall, wide), mode="bilinear", align_corners=corners)
    r = random(1, 1, 1, tall, wide)

    def source(at: int, old: int, new: int) -> float:
        if corners:
            return at * (old - 1) / (new - 1)
        return max((at + 0.5) * old / new - 0.5, 0.0)

    out, entries = [0.0] * (height * width), x.detach().reshape(-1).tolist()
    for i, j in itertools.product(range(tall), range(wide)):
        weights: dict[int, float] = {}
        v, h = source(i, height, tall), source(j, width, wide)
        for down, right in itertools.product((0, 1), (0, 1)):
            row, column = min(math.floor(v) + down, height - 1), min(math.floor(h) + right, width - 1)
            near = (v % 1 if down else 1 - v % 1) * (h % 1 if right else 1 - h % 1)
            place = row * width + column
            weights[place] = weights.get(place, 0.0) + near
        assert sum(w * entries[k] for k, w in weights.items()) == pytest.approx(float(y[0, 0, i, j].detach()))
        shared(weights, entries, float(r[0, 0, i, j]), out)
    close(relevance(y, x, r), out)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("rules", ["default", "epsilon", "dynamiclrp"])
def test_what_is_repeated_has_the_relevance_of_its_copies(rules: str, mode: str) -> None:
    """No stabiliser has a part in it: nothing is added up forwards. 5 rows from 2, 7 columns from 3."""
    x = random(0, 1, 1, 2, 3).requires_grad_()
    y = F.interpolate(x, (5, 7), mode=mode)
    r = random(1, *y.shape)
    where = F.interpolate(torch.arange(6.0).view(1, 1, 2, 3), (5, 7), mode=mode).flatten().long().tolist()
    expected = [0.0] * 6
    for k, ri in zip(where, r.flatten().tolist()):
        expected[k] += ri
    table = lrp.preset(rules) | lrp.override(linear=lrp.Epsilon(epsilon=1.0))
    run = lrp.propagate(y, x, r, rules=table, ledger=True)
    assert run.relevance[0].flatten().tolist() == pytest.approx(expected, rel=1e-12)
    assert run.ledger is not None and run.ledger.closed


def test_reflection_padding() -> None:
    """A mirrored entry gives its relevance back to the one it shows."""
    n, left, right = 4, 3, 2
    x = random(2, 1, 1, n).requires_grad_()
    r = random(3, 1, 1, n + left + right)
    out = [0.0] * n
    for k in range(n + left + right):
        place = abs(k - left)
        place = 2 * (n - 1) - place if place >= n else place
        out[place] += float(r[0, 0, k])
    close(relevance(F.pad(x, (left, right), mode="reflect"), x, r), out)


def test_pixel_shuffle() -> None:
    """Channel ``c r^2 + a r + b`` holds the pixels of row a and column b in each r x r block."""
    factor, channels, height, width = 2, 2, 2, 3
    x = random(4, 1, channels * factor**2, height, width).requires_grad_()
    r = random(5, 1, channels, factor * height, factor * width)
    out = torch.zeros_like(x.detach())
    for c, i, j in itertools.product(range(channels), range(height * factor), range(width * factor)):
        channel = c * factor**2 + (i % factor) * factor + j % factor
        out[0, channel, i // factor, j // factor] = r[0, c, i, j]
    close(relevance(F.pixel_shuffle(x, factor), x, r), out.reshape(-1).tolist())


@pytest.mark.parametrize("own", [True, False], ids=["with-self", "alone"])
@pytest.mark.parametrize("how", ["sum", "mean", "prod", "amax", "amin"])
@pytest.mark.parametrize("live", ["both", "src"])
def test_scatter_reduce(how: str, own: bool, live: str) -> None:
    """Sums by share; products 1/n to each live factor; the winner takes all, equal winners share."""
    base, src = random(6, 4), random(7, 5)
    src[3] = src[0] = base[2] = 2.5  # three equal winners of amax at entry 2
    index, r = torch.tensor([2, 0, 2, 2, 1]), random(8, 4)
    base.requires_grad_(live == "both"), src.requires_grad_()
    y = base.scatter_reduce(0, index, src, how, include_self=own)
    of_base, of_src = [0.0] * 4, [0.0] * 5
    for k in range(4):
        terms = [("src", i, float(src[i].detach())) for i in range(5) if int(index[i]) == k]
        if own or not terms:
            terms.append(("base", k, float(base[k].detach())))
        values = [v for _, _, v in terms]
        alive = sum(live == "both" or name == "src" for name, _, _ in terms)
        best = max(values) if how == "amax" else min(values)
        for name, i, v in terms:
            if how in ("sum", "mean"):
                share = v / sum(values)
            elif how == "prod":
                share = 1 / alive if alive else 0.0
            else:
                share = (v == best) / values.count(best)
            (of_src if name == "src" else of_base)[i] += share * float(r[k])
    close(relevance(y, src, r) if live == "src" else lrp.relevance(y, (base, src), r)[1], of_src)
    if live == "both":
        close(lrp.relevance(y, (base, src), r)[0], of_base)


def test_group_norm() -> None:
    """1/std is held: y_i = g (x_i - mean) / std + b, whose terms share; the bias keeps its part."""
    channels, pixels, groups = 4, 3, 2
    x = random(9, 1, channels, pixels).requires_grad_()
    gain, bias, r = random(10, channels), random(11, channels), random(12, 1, channels, pixels)
    y = F.group_norm(x, groups, gain, bias, 1e-5)
    size = channels // groups * pixels
    entries, out = x.detach().reshape(-1).tolist(), [0.0] * (channels * pixels)
    for k in range(channels * pixels):
        group = range(k // size * size, k // size * size + size)
        mean = sum(entries[i] for i in group) / size
        std = math.sqrt(sum((entries[i] - mean) ** 2 for i in group) / size + 1e-5)
        g, b = float(gain[k // pixels]), float(bias[k // pixels])
        total = g * (entries[k] - mean) / std + b
        for i in group:
            weight = g / std * ((i == k) - 1 / size)
            out[i] += weight * entries[i] / total * float(r.reshape(-1)[k])
    close(relevance(y, x, r), out)


def test_gru_cell() -> None:
    """h' = n + z (h - n), one unit at a time: products of live factors halve, sums share, tanh and
    sigmoid by their secants from 0, and biases keep their part. x alone is live through three gates."""
    inputs, units = 3, 2
    torch.manual_seed(13)
    cell = nn.GRUCell(inputs, units, dtype=torch.float64)
    x, h = random(14, 1, inputs).requires_grad_(), random(15, 1, units)
    w_x, w_h = cell.weight_ih.detach(), cell.weight_hh.detach()
    b_x, b_h = cell.bias_ih.detach(), cell.bias_hh.detach()
    gates_x = [
        sum(float(w_x[k, i] * x[0, i].detach()) for i in range(inputs)) + float(b_x[k]) for k in range(6)
    ]
    gates_h = [sum(float(w_h[k, i] * h[0, i]) for i in range(units)) + float(b_h[k]) for k in range(6)]

    def sigmoid(t: float) -> float:
        return 1 / (1 + math.exp(-t))

    out = [0.0] * inputs
    for u in range(units):
        pre_r, pre_z = gates_x[u] + gates_h[u], gates_x[2 + u] + gates_h[2 + u]
        r, z = sigmoid(pre_r), sigmoid(pre_z)
        hidden_n = gates_h[4 + u]
        pre_n = gates_x[4 + u] + r * hidden_n
        n = math.tanh(pre_n)
        # Coefficients (relevance over value) from the output on; torch computes n + (h - n) z.
        c_n, c_difference, c_z = 1.0, z / 2, (float(h[0, u]) - n) / 2
        c_n -= c_difference
        c_pre_n = c_n * n / pre_n
        c_r = c_pre_n * hidden_n  # the hidden part is constant
        c_pre_r = c_r * (r - 0.5) / pre_r
        c_pre_z = c_z * (z - 0.5) / pre_z
        for i in range(inputs):
            weights = c_pre_r * w_x[u, i] + c_pre_z * w_x[2 + u, i] + c_pre_n * w_x[4 + u, i]
            out[i] += float(weights * x[0, i].detach())
    close(lrp.relevance(cell(x, h), x)[0], out)


@pytest.mark.parametrize("rules", ["epsilon", "epsilon-plus-flat", "gamma", "dynamiclrp"])
def test_a_memory_format_changes_nothing(rules: str) -> None:
    """channels_last takes other nodes (an as_strided behind the pool): they move entries, too."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    ).double().eval()  # fmt: skip
    maps = []
    for form in (torch.contiguous_format, torch.channels_last):
        x = torch.linspace(-1, 1, 2 * 3 * 6 * 6, dtype=torch.float64).view(2, 3, 6, 6)
        x = x.to(memory_format=form).requires_grad_()
        y = model.to(memory_format=form)(x)[:, 1]
        maps.append(lrp.relevance(y, x, rules=rules)[0])
    torch.testing.assert_close(maps[0].contiguous(), maps[1].contiguous(), rtol=1e-11, atol=1e-13)
