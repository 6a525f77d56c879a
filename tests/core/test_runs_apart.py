"""Runs do not disturb each other."""

from __future__ import annotations

import threading
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn

from tests.core.graphs import PRESETS, made
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


@pytest.mark.parametrize("rules", PRESETS)
def test_two_graphs_of_one_model(rules: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x, z = leaf_of(2, 6), leaf_of(2, 6, seed=1)
    with lrp.record():
        y, w = net(x)[:, 0], net(z)[:, 0]
    alone = [lrp.relevance(y, x, rules=rules)[0], lrp.relevance(w, z, rules=rules)[0]]
    together = lrp.relevance((y, w), (x, z), rules=rules)
    for a, b in zip(alone, together):
        assert torch.equal(a, b)


def test_interleaved_runs_in_two_threads() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(5) for m in (nn.Linear(6, 6), nn.GELU())]).double()
    xs = [leaf_of(2, 6, seed=s) for s in range(4)]
    ys = [net(x)[:, 0] for x in xs]
    expected = [[lrp.relevance(y, x, rules=r)[0] for r in ("default", "epsilon")] for x, y in zip(xs, ys)]
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for _ in range(10):
                for r, e in zip(("default", "epsilon"), expected[k]):
                    assert torch.equal(lrp.relevance(ys[k], xs[k], rules=r)[0], e)
                    # and another thread's graph: shared nodes of the parameters
                    other = (k + 1) % 4
                    lrp.relevance(ys[other], xs[other], rules=r)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed[0]


@pytest.mark.parametrize("rules", PRESETS)
def test_sweeps_stepped_in_turn(rules: str) -> None:
    """A run started in the middle of another one (from a rule) disturbs neither."""
    x, y = made("residual")
    expected = lrp.relevance(y, x, rules=rules)[0]
    seen: list[Tensor] = []
    table = lrp.preset(rules)

    def nosy(op: Any) -> bool:
        if len(seen) < 3:
            seen.append(lrp.relevance(y, x, rules=rules)[0])
        return False

    rules_with = table.where(nosy, lrp.override(norm=lrp.Epsilon()))
    found = lrp.relevance(y, x, rules=rules_with)[0]
    assert torch.equal(found, expected)
    assert len(seen) == 3 and all(torch.equal(s, expected) for s in seen)
