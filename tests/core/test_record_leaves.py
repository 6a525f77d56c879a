"""``record()`` and leaves that were written to after the forward."""

from __future__ import annotations

from contextlib import nullcontext

import dynamiclrp_core as lrp
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.core.shares import paper, share
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


@pytest.mark.parametrize("again", [False, True], ids=["recorded", "recorded again"])
def test_an_optimizer_step_between_forward_and_a_value_rule_is_an_error(again: bool) -> None:
    """A later recording does not hide that the leaf is stale, and knows what it is now."""
    x = leaf_of(4)
    p = nn.Parameter(torch.full((4,), 2.0, dtype=torch.float64))
    with lrp.record():
        y = x * 1.0 + p
    with torch.no_grad():
        p.add_(5.0)
    with lrp.record() if again else nullcontext():
        z = x * 1.0 + p
    with pytest.raises(lrp.DynamicLRPError, match="changed in place after the forward"):
        paper(y, x)
    if again:
        torch.testing.assert_close(paper(z, x), share(x, 7.0))


def test_without_a_recording_the_assumption_is_noted() -> None:
    x = leaf_of(4)
    p = nn.Parameter(torch.full((4,), 2.0, dtype=torch.float64))
    run = lrp.propagate(x * 1.0 + p, x, rules="dynamiclrp")
    assert not run.promises.notes  # version 0: nothing ever wrote to it
    with torch.no_grad():
        p.mul_(1.0)
    run = lrp.propagate(x * 1.0 + p, x, rules="dynamiclrp")
    assert any("unchanged since the forward" in note for note in run.promises.notes)


FROZEN = torch.randn(4, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
READS = {  # where the value of the leaf x, or of the leaf p, is needed and no node saves it
    "x, by a frozen layer": ("x", lambda x, p: x @ FROZEN),
    "x, by a sum": ("x", lambda x, p: x.sum() * 1.0),
    "x, in a list": ("x", lambda x, p: torch.stack([x, x]).sum(0)),
    "p, as a term": ("p", lambda x, p: x * 1.0 + p),
    "p, in a list": ("p", lambda x, p: x * 1.0 + torch.cat([p, p])[:4]),
    "p, through a move": ("p", lambda x, p: x * 1.0 + p.flip(0)),
    "p, which another node saved": ("p", lambda x, p: x * 1.0 + p + (p * p).exp()),
    "p, of which another node saved a view": (
        "p",
        lambda x, p: x * 1.0 + p + (p.view(2, 2) ** 2).exp().sum(),
    ),
}


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("name", READS)
def test_a_leaf_that_was_written_to_never_gives_other_numbers_unsaid(name: str, recorded: bool) -> None:
    """Under record() it is an error; without, the run notes what it takes for granted."""
    which, f = READS[name]
    x, p = leaf_of(4), nn.Parameter(leaf_of(4, seed=1).detach())
    with lrp.record() if recorded else nullcontext():
        y = f(x, p)
    before = lrp.propagate(y, x, rules="dynamiclrp")
    assert not before.promises.notes
    with torch.no_grad():
        {"x": x, "p": p}[which].add_(1.0)
    if recorded or "another node" in name:
        with pytest.raises(lrp.ModifiedInPlace, match="changed in place after the forward"):
            lrp.propagate(y, x, rules="dynamiclrp")
        return
    after = lrp.propagate(y, x, rules="dynamiclrp")
    assert not torch.equal(before.relevance[0], after.relevance[0])
    assert any("unchanged since the forward" in note for note in after.promises.notes)


def test_a_leaf_written_to_before_the_forward_is_fine() -> None:
    """Under record() nothing is taken for granted, and a node that saved the leaf tells as well."""
    x = leaf_of(4)
    with torch.no_grad():
        x.mul_(2.0)
    with lrp.record():
        y = x @ FROZEN
    for of in (y, x * x):
        run = lrp.propagate(of, x)
        assert not run.promises.notes
        torch.testing.assert_close(run.relevance[0].sum(), of.detach().sum())


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize("rules", ["default", "epsilon"])
def test_a_model_made_inside_the_block_counts_as_unchanged(rules: str, reentrant: bool) -> None:
    """Initialisation writes to parameters before anything reads them."""
    x = leaf_of(3, 4)
    with lrp.record():
        layer = nn.Linear(4, 4, dtype=torch.float64)
        y = checkpoint(layer, x, use_reentrant=reentrant).relu() + layer(x)
    again = layer(x).relu() + layer(x)
    torch.testing.assert_close(
        lrp.relevance(y, x, rules=rules), lrp.relevance(again, x, rules=rules), atol=1e-12, rtol=1e-12
    )
