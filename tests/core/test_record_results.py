"""``record()`` keeps results that nobody computes again: of draws, and of comparisons in place."""

from __future__ import annotations

import re

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.packs.plugins import samples
from dynamiclrp_core.samples import Sample

pytestmark = pytest.mark.usefixtures("forget_recordings")

RULES = lrp.load_rules()
SOURCES = [
    s for _, s in samples()
    if (row := RULES.get(s.node)) is not None and row.family == "stop" and row.forward is None
]  # fmt: skip


def test_there_are_draws_and_comparisons() -> None:
    nodes = {s.node for s in SOURCES}
    assert {"UniformBackward0", "BernoulliBackward0", "StandardGammaBackward0", "LtBackward1"} <= nodes


@pytest.mark.parametrize("sample", SOURCES, ids=str)
def test_what_is_stopped_is_booked(sample: Sample) -> None:
    tensors = [t.requires_grad_() for t in sample.tensors(3, dtype=torch.float64)]
    with lrp.record():
        made = sample.call(*tensors)
        y = made + 1
    drawn = made.detach().clone()
    with torch.no_grad():
        made.zero_()  # what is kept is no view of it
    run = lrp.propagate(y, tensors, ledger=True, allow_unused=True)
    assert run.ledger is not None and run.ledger.closed, run.ledger
    assert run.ledger.by_cause.get("stopped", 0.0) == pytest.approx(float(drawn.sum()))
    assert all(not r.any() for r in run.relevance)


def test_without_a_record_the_cure_is_one() -> None:
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)

    def explain() -> lrp.Run:
        return lrp.propagate(x.clone().lt_(0.5).sign() * x, x)

    with pytest.raises(lrp.Unrecoverable, match=r"the result of LtBackward0") as error:
        explain()
    cure = re.search("`with (.*?):`", str(error.value))
    assert cure is not None
    with eval(cure[1], {"dynamiclrp_core": lrp}):
        explain()
