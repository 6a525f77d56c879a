"""``rules check``: a row that no longer fits this torch is named, with the reason."""

from __future__ import annotations

from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.cli import checking
from dynamiclrp_core.cli.checking import Verdict, check_packs
from dynamiclrp_core.families import elementwise, linear
from dynamiclrp_core.rule import Row
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.table import Rules


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``pack(row, *samples)``: the verdict on a pack "mine" of one row beside the installed ones."""

    def verdict(row: Row, *samples: Sample) -> Verdict:
        others = {n: r for n, r in lrp.load_rules().items() if n != row.node}
        table = Rules.joined({"all 1": others.values(), "mine 1": [row]})
        monkeypatch.setattr(checking, "load_rules", lambda: table)
        monkeypatch.setattr(checking, "samples", lambda: [("mine 1", s) for s in samples])
        (found,) = check_packs(["mine"])
        return found

    return verdict


SIN = Sample("SinBackward0", torch.sin)


def test_a_row_that_fits(pack: Any) -> None:
    found = pack(elementwise("SinBackward0", "self", forward=lambda op, x: x.sin()), SIN)
    assert found.state == "fits" and found.checks >= len(lrp.testing.CHECKS) and not found.failures


def test_a_wrong_forward(pack: Any) -> None:
    found = pack(elementwise("SinBackward0", "self", forward=lambda op, x: x.cos()), SIN)
    assert found.state == "fails" and any(f.startswith("forward: ") for f in found.failures)


def test_a_wrong_family(pack: Any) -> None:
    found = pack(linear("SinBackward0", "self", forward=lambda op, x: x.sin()), SIN)
    assert found.state == "fails"


def test_a_sample_that_builds_another_node(pack: Any) -> None:
    found = pack(
        elementwise("SinBackward0", "self", forward=lambda op, x: x.sin()), Sample("SinBackward0", torch.cos)
    )
    assert found.failures == ["SinBackward0: builds AccumulateGrad, CosBackward0 instead"]


def test_a_call_that_this_torch_refuses(pack: Any) -> None:
    broken = Sample("SinBackward0", lambda x: x.no_such_method())
    found = pack(elementwise("SinBackward0", "self", forward=lambda op, x: x.sin()), broken)
    assert found.state == "fails" and "the call itself failed: AttributeError" in found.failures[0]


def test_a_node_that_this_torch_does_not_have(pack: Any) -> None:
    found = pack(elementwise("SinhBackward7", "self", forward=lambda op, x: x.sinh()))
    assert found.state == "unknown" and torch.__version__ in found.note


def test_a_row_without_a_sample_is_not_called_good(pack: Any) -> None:
    found = pack(elementwise("SinBackward0", "self", forward=lambda op, x: x.sin()))
    assert found.state == "not run"


def test_a_pack_that_is_not_installed() -> None:
    with pytest.raises(lrp.DynamicLRPError, match="no pack nowhere"):
        list(check_packs(["nowhere"]))
