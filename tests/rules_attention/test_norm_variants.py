"""``norm="scale"``, ``"statistics"``, ``"identity"``: by their definitions in loops, fused as by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.invariance.norms import NORMS
from tests.invariance.table import Group, agree, difference, explain

EPS = 1e-5
VARIANTS = ["scale", "statistics", "identity"]


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def slow(x: list[float], w: list[float], y: list[float], r: list[float], variant: str) -> list[float]:
    """Relevance of the entries of one group, for relevance r of y = w (x - mean) / std + b."""
    if variant == "identity":
        return r
    n = len(x)
    mean = sum(x) / n
    std = math.sqrt(sum((a - mean) ** 2 for a in x) / n + EPS)
    made = [0.0] * n
    for j in range(n):
        s = r[j] / y[j] * w[j] / std
        made[j] += x[j] * s
        if variant == "scale":  # the mean is a sum over all entries
            for i in range(n):
                made[i] -= x[i] / n * s
    return made


def by_hand(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return w * (centred / (centred.pow(2).mean(-1, keepdim=True) + EPS).sqrt()) + b


def by_moments(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    var, mean = torch.var_mean(x, -1, correction=0)
    return b + (x - mean[:, None]).clone() * torch.rsqrt(var + EPS)[:, None] * w


LAYER_NORMS = {"fused": lambda x, w, b: F.layer_norm(x, (5,), w, b, EPS), "hand": by_hand, "var": by_moments}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("spelled", LAYER_NORMS)
@pytest.mark.parametrize("as_value", [True, False])
def test_layer_norm(spelled: str, variant: str, as_value: bool) -> None:
    x, w, b = normal(0, 2, 5), normal(1, 5).detach(), normal(2, 5).detach()
    with lrp.record():
        y = LAYER_NORMS[spelled](x, w, b)
    seed = normal(3, 2, 5).detach() if as_value else None
    run = lrp.propagate(y, x, seed, rules=lrp.preset("attnlrp", norm=variant), ledger=True)
    given = y.detach() if seed is None else seed
    expected = [slow(x[n].tolist(), w.tolist(), y[n].tolist(), given[n].tolist(), variant) for n in range(2)]
    found = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(run.relevance[0], found, rtol=1e-8, atol=1e-9)
    assert run.ledger is not None and run.ledger.closed, run.ledger


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("frozen", [True, False])
def test_group_norm(variant: str, frozen: bool) -> None:
    """Channels 0, 1 and 2, 3 of each sample are a group each; weights are a channel's."""
    x, w, b = normal(0, 2, 4, 3), normal(1, 4), normal(2, 4)
    if frozen:
        w, b = w.detach(), b.detach()
    with lrp.record():
        y = F.group_norm(x, 2, w, b, EPS)
    run = lrp.propagate(y, x, rules=lrp.preset("attnlrp", norm=variant), ledger=True)
    for n in range(2):
        for g in (slice(0, 2), slice(2, 4)):
            wide = w[g].repeat_interleave(3).tolist()
            flat = [t[n, g].flatten().tolist() for t in (x, y, y)]
            expected = torch.tensor(slow(flat[0], wide, flat[1], flat[2], variant), dtype=torch.float64)
            found = run.relevance[0][n, g].flatten()
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    assert run.ledger is not None and run.ledger.closed, run.ledger


PAIRS = [(g, s) for g in NORMS for s in g.spellings if s != g.first]
# The mean is subtracted after scaling, by another sum, or in a matrix: no difference x - mean(x) is there to
# be seen; a bias behind a join of two norms is no one's.
UNSEEN = {
    "statistics": ("folded", "centring matrix"),
    "identity": ("folded", "centring matrix", "two halves"),
}


@pytest.mark.parametrize("variant", ["statistics", "identity"])
@pytest.mark.parametrize(("group", "spelling"), PAIRS, ids=[f"{g.name}-{s}" for g, s in PAIRS])
def test_one_map(group: Group, spelling: str, variant: str) -> None:
    rules = lrp.preset("attnlrp", norm=variant)
    for trainable in (True, False):
        live, constants = group.tensors(trainable=trainable)
        expected = explain(group.spellings[group.first], live, constants, rules)
        made = explain(group.spellings[spelling], live, constants, rules)
        if spelling in UNSEEN[variant]:
            assert difference(made, expected) > 1e-3
        else:
            agree(made, expected, 1e-5)  # Llama's goes through float32


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: F.rms_norm(x, (5,), eps=EPS),
        lambda x: F.normalize(x, dim=-1),
        lambda x: x - x.mean(-1, keepdim=True),
        lambda x: F.batch_norm(x, torch.ones(5).to(x), torch.ones(5).to(x)),
    ],
    ids=["rms norm", "l2 norm", "centring alone", "batch norm, evaluation"],
)
def test_nothing_else_changes(norm: Callable[[Tensor], Tensor]) -> None:
    """No mean of its own is divided by a scale of its own here."""
    x = normal(0, 3, 5)
    maps = [lrp.relevance(norm(x), x, rules=lrp.preset("attnlrp", norm=v))[0] for v in VARIANTS]
    torch.testing.assert_close(maps[1], maps[0])
    torch.testing.assert_close(maps[2], maps[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_term_that_is_no_bias_takes_its_share(variant: str) -> None:
    """Positions added to a norm that has its bias already, and constants added to anything else."""
    x, w, b, p = normal(0, 2, 5), normal(1, 5).detach(), normal(2, 5).detach(), normal(4, 5).detach()
    rules = lrp.preset("attnlrp", norm=variant)
    with lrp.record():
        normed = F.layer_norm(x, (5,), w, b, EPS)
        y = normed + p
    run = lrp.propagate(y, x, at=normed, rules=rules)
    torch.testing.assert_close(run.at[0], normed.detach())
    with lrp.record():
        y = x.tanh() + p
    torch.testing.assert_close(lrp.relevance(y, x, rules=rules)[0], x.detach().tanh())
