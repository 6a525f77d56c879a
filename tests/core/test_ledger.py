"""The ledger: every unit by cause, op and node; and a planted wrong rule is seen and located."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Conserves, Entries
from dynamiclrp_core.rules.defaults import Elementwise
from torch import Tensor, nn

from tests.tensors import leaf_of


def net(bias: bool = True) -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias), nn.GELU(), nn.Linear(6, 2, bias)).double()
    return model, torch.randn(3, 4, dtype=torch.float64, requires_grad=True)


class Doubling(Elementwise):
    """A wrong rule: sends twice what it should. Still linear, still zero for zero."""

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return [e * 2 if isinstance(e, Tensor) else e for e in super().coefficient(op, *c)]


def test_a_planted_wrong_rule_is_a_residue_at_its_node() -> None:
    model, x = net()
    y = model(x)[:, 0]
    wrong = lrp.load_rules() | lrp.override(GeluBackward0=Doubling())
    books = lrp.propagate(y, x, rules=wrong, ledger=True).ledger
    assert books is not None and not books.closed
    assert abs(books.residue) > 1e3 * books.tolerance
    assert books.worst(1)[0][0].startswith("GeluBackward0")
    assert "NOT EXPLAINED" in str(books) and "GeluBackward0" in str(books)


def test_bias_is_booked_entry_by_entry() -> None:
    """sum of bias times coefficient, by hand for the last layer: its coefficient is the seed's."""
    layer = nn.Linear(3, 2, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    books = lrp.propagate(layer(x), x, ledger=True).ledger
    assert books is not None
    expected = 4 * sum(float(b) for b in layer.bias.detach())  # 4 samples, coefficient 1 each
    assert books.by_cause == {"bias": pytest.approx(expected)}
    assert books.by_op == {"AddmmBackward0": pytest.approx(expected)}
    assert [(n, cause) for n, _, cause, _ in books.by_node] == [("AddmmBackward0", "bias")]
    assert books.seed == pytest.approx(books.inputs + expected)
    assert books.closed


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"])
def test_everything_sums_to_the_seed(rules: str) -> None:
    model, x = net()
    books = lrp.propagate(model(x), x, rules=rules, ledger=True).ledger
    assert books is not None and books.closed, books
    total = books.inputs + sum(books.by_cause.values())
    assert total == pytest.approx(books.seed, abs=1e-9)
    assert sum(books.by_op.values()) == pytest.approx(books.absorbed)


def test_without_bias_nothing_is_absorbed() -> None:
    model, x = net(bias=False)
    books = lrp.propagate(model(x), x, ledger=True).ledger
    assert books is not None and books.closed
    assert books.by_cause == {}
    assert books.inputs == pytest.approx(books.seed)


def test_what_nobody_has_is_unattributed_never_zero() -> None:
    model, x = net()
    model.requires_grad_(False)
    books = lrp.propagate(model(x), x, ledger=True).ledger
    assert books is not None and not books.closed
    assert ("AddmmBackward0", "bias") in books.unattributed
    assert "unattributed: bias at AddmmBackward0" in str(books)
    with lrp.record():
        y = model(x)
    kept = lrp.propagate(y, x, ledger=True).ledger
    assert kept is not None and kept.closed


def test_amplification_names_the_op_where_it_rises() -> None:
    """a - b with a = b + 1e-6: the ratio rule gives each a million times the difference."""
    a = torch.tensor([1.0 + 1e-6], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    books = lrp.propagate(a - b, (a, b), ledger=True).ledger
    assert books is not None
    assert books.amplification == pytest.approx(2e6, rel=1e-4)
    assert books.amplified_at is not None and books.amplified_at.startswith("SubBackward0")
    assert "rises past 1000 at SubBackward0" in str(books)


def test_a_stopped_branch_is_booked_by_its_missing_rule() -> None:
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    known = lrp.load_rules()
    rules = lrp.Rules(rows={node: row for node, row in known.items() if node != "I0Backward0"})
    books = lrp.propagate(torch.special.i0(x) + x, x, rules=rules, on_missing="stop", ledger=True).ledger
    assert books is not None and not books.closed
    assert ("I0Backward0", "missing rule (stop)") in books.unattributed


def test_a_mask_under_exp_absorbs_nothing() -> None:
    """exp(-inf) = 0: the entry takes none of the relevance, so f(0) = 1 must not be booked for it either."""
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    hidden = torch.tensor([[False, True, False], [True, False, False]])
    with lrp.record():
        y = x.masked_fill(hidden, -torch.inf).exp() * torch.arange(1.0, 4.0)
    books = lrp.propagate(y, x, ledger=True).ledger
    assert books is not None and books.closed


def test_a_buffer_that_is_written_over_holds_nothing_that_counts() -> None:
    """What stood in it before is not known, and need not be."""
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    y = torch.zeros(3, dtype=torch.float64)
    for t in range(3):
        y[t] = 2 * x[t]
    books = lrp.propagate(y, x, ledger=True).ledger
    assert books is not None and books.closed


@pytest.mark.parametrize("rules", ["default", "dynamiclrp"])
@pytest.mark.parametrize("of", [lambda b: b * 3, lambda b: b.exp() + 1, lambda b: b.softmax(0) @ b])
def test_a_read_out_changes_no_book(of: Callable[[Tensor], Tensor], rules: str) -> None:
    """On the way to a tensor of ``at`` entries take no share: nothing of theirs can end anywhere."""
    torch.manual_seed(1)
    x, b = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    with lrp.record():
        y = x.exp() * of(b)
    alone, beside = (lrp.propagate(y, x, rules=rules, at=at, ledger=True).ledger for at in ([], [b]))
    assert alone is not None and beside is not None and beside.closed
    assert beside.by_node == alone.by_node


def test_an_output_that_depends_on_no_input_is_a_constant() -> None:
    """Its relevance starts and ends there, whether it is a coefficient or a value."""
    x, b = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    outputs = (x * 2, b * 3, b)
    for seeds in (None, tuple(y.detach() for y in outputs)):
        books = lrp.propagate(outputs, x, seeds, ledger=True).ledger
        assert books is not None and books.closed
        assert books.by_cause["constants"] == pytest.approx(4 * float(b.detach().sum()))


def test_the_books_never_make_a_run_fail() -> None:
    """A live bias of which only its share is to be booked, and whose value is lost: named, and no error."""
    x = leaf_of(2, 2)
    bias = (x * 1.0).ge_(0.0).sum()  # what stood there before ge_ wrote over it is lost
    y = torch.addmm(bias, x, torch.eye(2, dtype=x.dtype))
    run = lrp.propagate(y, x, ledger=True)
    assert torch.equal(run.relevance[0], lrp.relevance(y, x)[0])
    assert run.ledger is not None and ("AddmmBackward0", "bias") in run.ledger.unattributed
