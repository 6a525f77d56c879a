"""The list of torch's node types, and what is said about those without a tested rule."""

from __future__ import annotations

from pathlib import Path

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.cli import torch_nodes
from dynamiclrp_core.cli.docs import markdown, release
from dynamiclrp_core.cli.listing import missing_records
from dynamiclrp_core.cli.torch_nodes import generated
from dynamiclrp_core.families import elementwise

RULES_MD = Path(__file__).parents[2] / "docs" / "rules.md"


def test_header_has_the_fields_that_python_sees() -> None:
    seen = torch_nodes._python_classes()
    of_header = generated()
    classes = [name for name in seen if name in of_header]
    assert len(classes) > 600
    for name in classes:
        assert seen[name] <= of_header[name], name


def test_a_node_is_in_the_list_under_its_name() -> None:
    x = torch.ones(3, requires_grad=True)
    for y in (x.exp(), x * 2, x.view(1, 3), torch._foreach_mul([x], [x])[0]):
        name = y.grad_fn.name().removeprefix("torch::autograd::")
        assert name in generated(), name


def test_without_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_nodes, "HEADER", "not/there.h")
    generated.cache_clear()
    try:
        assert generated() == torch_nodes._python_classes()
    finally:
        generated.cache_clear()


def test_every_missing_node_has_a_reason() -> None:
    states = {record["node"]: record["state"] for record in missing_records(lrp.load_rules())}
    assert states["CudnnCtcLossBackward0"] == "refused"
    assert "NllLossBackward0" not in states
    assert states["CudnnConvolutionBackward0"] == "not executable here"
    assert "ReluBackward0" not in states
    row = elementwise("TestWarnInAutogradBackward0", forward=lambda op, x: x)
    records = missing_records(lrp.load_rules() | lrp.Rules.of(row))
    assert {r["node"]: r["state"] for r in records}["TestWarnInAutogradBackward0"] == "untested"
    assert all(record["reason"] for record in records)
    bare = missing_records(lrp.Rules.of())
    assert {r["state"] for r in bare} == {"no row"}


def test_rows_name_nodes_of_this_torch() -> None:
    """A row that torch no longer builds helps nobody: Python's own and hand-written nodes apart."""
    rows = [row.node for row in lrp.load_rules().values() if not row.pack.startswith("core")]
    known = {*generated(), "NotImplemented"}
    assert [node for node in rows if node not in known and "." not in node] == []


def test_rules_md_is_fresh() -> None:
    text = RULES_MD.read_text()
    if f"on torch {release()};" not in text:
        pytest.skip(f"docs/rules.md was made on another torch than {release()}")
    assert text == markdown(), "docs/rules.md is stale: make docs"


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="the packs were run on torch 2.13")
def test_every_node_that_torch_generates_has_a_row_or_a_named_refusal() -> None:
    """And every row either a sample that builds it, or what the node needs that is not here."""
    states = {record["state"] for record in missing_records(lrp.load_rules())}
    assert states == {"refused", "not executable here"}
