"""Matcher *gate*: what is x times a function of x, and what only looks like it."""

from __future__ import annotations

import math

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.matching.regions import Peel
from dynamiclrp_core.node import address
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries
from dynamiclrp_core.rules.scalar_function import ScalarFunction
from torch import Tensor

from tests.core.readout import relevance, rules_used, same
from tests.tensors import leaf_of

# -- gate: positive ---------------------------------------------------------------------------------

GATES = {
    "silu": (lambda x: x * x.sigmoid(), F.silu),
    "silu with a view and a clone": (
        lambda x: (x.view(-1).clone() * x.view(-1).sigmoid()).view(x.shape),
        F.silu,
    ),
    "silu with a cast": (lambda x: x * x.sigmoid().float().double(), None),
    "silu as a quotient": (lambda x: x / (1 + (-x).exp()), F.silu),
    "gelu by erf": (lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), F.gelu),
    "gelu by tanh (GPT-2)": (
        lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "quick gelu": (lambda x: x * (1.702 * x).sigmoid(), None),
    "mish": (lambda x: x * F.softplus(x).tanh(), F.mish),
    "hard-swish": (lambda x: x * F.relu6(x + 3) / 6, F.hardswish),
    "x * x": (lambda x: x * x, lambda x: x**2),
    "swish with a learned beta": (lambda x: x * (x * BETA).sigmoid(), None),
    "transposed both ways": (lambda x: (x.t() * x.t().sigmoid()).t(), F.silu),
}
BETA = torch.tensor([0.5, 1.0, 2.0, -1.0], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", GATES)
def test_gate_sends_f_of_x_over_x(name: str) -> None:
    by_hand, fused = GATES[name]
    x = leaf_of(3, 4)
    (r,) = relevance(by_hand, x)
    g = torch.Generator().manual_seed(7)
    weights = torch.randn(3, 4, generator=g, dtype=torch.float64)
    # f(0) = 0 for all of these, so each entry must get exactly its own output back.
    expected = (by_hand(x) * weights).detach()
    torch.testing.assert_close(r, expected, rtol=1e-6 if "cast" in name else 1e-9, atol=1e-9)
    if fused is not None:
        same(by_hand, fused, x)


def test_gate_of_x_at_zero_has_its_limit() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    run = lrp.propagate(x * x.sigmoid(), x)
    torch.testing.assert_close(run.coefficients[0], torch.full((3,), 0.5, dtype=torch.float64))


def test_gate_without_a_plain_factor_takes_the_secant() -> None:
    """(1 + tanh x) * sigmoid(x): f(0) = 1/2 is absorbed, the rest is f(x) - f(0)."""
    x = leaf_of(2, 3)

    def f(x: Tensor) -> Tensor:
        return (1 + x.tanh()) * x.sigmoid()

    with lrp.record():
        y = f(x)
    run = lrp.propagate(y, x, ledger=True)
    for i in range(2):
        for j in range(3):
            expected = float(f(x.detach()[i, j]) - 0.5)
            assert float(run.relevance[0][i, j]) == pytest.approx(expected, abs=1e-12)
    assert run.ledger.closed
    assert run.ledger.by_cause["constants"] == pytest.approx(3.0)


def test_gate_secant_at_zero_is_the_derivative() -> None:
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with lrp.record():
        y = (1 + x.tanh()) * x.sigmoid()
    run = lrp.propagate(y, x)
    torch.testing.assert_close(run.coefficients[0], torch.full((2,), 0.75, dtype=torch.float64))


def test_gate_secant_takes_both_forms_at_once() -> None:
    """One product, two seeds: R = y as a coefficient and the same as a value must add up."""
    x = leaf_of(2, 3)
    with lrp.record():
        y = (1 + x.tanh()) * x.sigmoid()
    (r,) = lrp.relevance((y, y), x, (None, y.detach()))
    for i in range(2):
        for j in range(3):
            assert float(r[i, j]) == pytest.approx(2 * (float(y.detach()[i, j]) - 0.5), abs=1e-12)


def test_gate_secant_takes_both_forms_where_it_is_zero() -> None:
    """A coefficient counts at an output of 0, where no value can: f(x) - f(0) = -1/2. The books know it."""
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    with lrp.record():
        y = (1 - x).relu() * x.sigmoid()
    assert not y.any()
    run = lrp.propagate((y, y), x, (None, y.detach()), ledger=True)
    assert run.relevance[0].tolist() == [-0.5, -0.5]
    assert run.ledger is not None and run.ledger.closed


# -- gate: negative ---------------------------------------------------------------------------------

PRODUCTS = {
    "halves of one tensor": lambda x: x[:, :2] * x[:, 2:].sigmoid(),
    "halves of a split": lambda x: x.split(2, 1)[0] * x.split(2, 1)[1].sigmoid(),
    "chunks (fused gate-up)": lambda x: (lambda a, b: F.silu(a) * b)(*x.chunk(2, 1)),
    "flipped": lambda x: x * x.flip(-1),
    "outer": lambda x: x.unsqueeze(2) * x.unsqueeze(1),
    "transposed one way": lambda x: x[:, :3] * x[:, :3].t(),
    "mean as a factor": lambda x: x * x.mean(1, keepdim=True),
    "squeeze-excite": lambda x: x * (x.mean(1, keepdim=True) @ torch.ones(1, 4, dtype=x.dtype)).sigmoid(),
    "roll": lambda x: x * x.roll(1, 1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_true_products_are_shared_in_halves(name: str) -> None:
    f = PRODUCTS[name]
    x = leaf_of(3, 4)
    used = rules_used(f, x)
    assert used.get("Product()", 0) >= 1, used
    assert "Held()" not in used and "ScalarFunction()" not in used, used


def test_two_different_tensors_share_in_halves() -> None:
    a, b = leaf_of(3, seed=1), leaf_of(3, seed=2)
    ra, rb = lrp.relevance(a * b, (a, b))
    for k in range(3):
        assert float(ra[k]) == pytest.approx(float((a * b).detach()[k]) / 2)
        assert float(rb[k]) == pytest.approx(float((a * b).detach()[k]) / 2)


def test_one_live_factor_takes_all() -> None:
    a, b = leaf_of(3, seed=1), leaf_of(3, seed=2)
    (ra,) = lrp.relevance(a * b, a)
    torch.testing.assert_close(ra, (a * b).detach())


def test_a_named_input_inside_the_region_is_not_passed_by() -> None:
    x = leaf_of(3)
    s = x.sigmoid()
    run = lrp.propagate(x * s, (x, s))
    assert run.rules_used.get("Product()") == 1
    torch.testing.assert_close(run.relevance[1], (x * s).detach() / 2)


def test_a_scan_is_not_peeled_at_each_of_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product of a scan comes from one tensor entry by entry: that is found in one pass, not by walks."""
    taken = 0
    step = Peel.step

    def counted(walk: Peel) -> object:
        nonlocal taken
        taken += 1
        return step(walk)

    monkeypatch.setattr(Peel, "step", counted)
    x = torch.randn(64, 3, requires_grad=True)
    keep, add, h = (x @ torch.randn(3, 3)).sigmoid(), x @ torch.randn(3, 3), torch.zeros(3)
    for t in range(64):
        h = keep[t] * h + add[t]
    lrp.relevance(h.sum(), x)
    assert taken <= 64


def test_a_move_beside_a_constant_inside_a_gate() -> None:
    """Nothing, where it is written over; else the gate is no function of x alone."""
    k = leaf_of(3, 4).detach()
    over = lambda x: x * torch.zeros(3, 4, dtype=x.dtype).copy_(x).sigmoid()  # noqa: E731
    x = leaf_of(3, 4)
    torch.testing.assert_close(lrp.relevance(over(x), x), lrp.relevance(F.silu(x), x))
    with lrp.record():
        y = x * torch.where(k > 0, x, k)
    assert any(rule.startswith("Product") for rule in lrp.propagate(y, x).rules_used)


def test_a_rule_that_looks_past_its_operands_leaves_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger may have to compute the output again from them (found by the fuzzer, seed 530072)."""
    met: list[Op] = []
    plain = ScalarFunction.coefficient

    def seen(self: ScalarFunction, op: Op, *c: Tensor | None) -> Entries:
        met.append(op)
        return plain(self, op, *c)

    monkeypatch.setattr(ScalarFunction, "coefficient", seen)
    x = leaf_of(3, 4)
    lrp.relevance(x.exp() * x.sigmoid(), x)
    (op,) = met
    assert op.receivers.edges == (address(x),)
    assert [tuple(edge) for edge in op.edges] == list(op.node.next_functions) and len(op.live) == 2


def test_the_ledger_asks_for_the_output_of_a_function_by_hand() -> None:
    x = leaf_of(3, 4)
    lost = x.detach() + 1  # not recorded: the sum's own books cannot be balanced, and keep no value
    run = lrp.propagate((lost + x.exp() * x.sigmoid()) * 2, x, ledger=True)
    torch.testing.assert_close(run.relevance[0], 2 * (x.exp() * x.sigmoid() - 0.5).detach())


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.5, 7.0])
def test_what_is_filled_in_inside_a_function_is_an_entry_of_nothing(value: float) -> None:
    """exp(pad(sigmoid(x))): what is filled in was taken for the number of an entry (fuzzer, seed 1030005)."""
    x = torch.tensor([[0.0, 2.0, 0.0, 0.5], [0.0, -1.0, 2.0, -0.5]], dtype=torch.float64, requires_grad=True)
    with lrp.record():
        y = F.pad(x.sigmoid(), (-1, 2), value=value)[:, 1:].exp()  # of x[:, 2:] and two times the value
    run = lrp.propagate(y, x, ledger=True)
    at_zero = math.exp(0.5)
    for row, coefficients in zip(x.detach().tolist(), run.coefficients[0].tolist()):
        assert coefficients[:2] == [0.0, 0.0]
        for v, c in zip(row[2:], coefficients[2:]):
            f = math.exp(1 / (1 + math.exp(-v)))
            assert c == pytest.approx((f - at_zero) / v if v else at_zero / 4, rel=1e-12)
    assert run.ledger.closed


@pytest.mark.parametrize("padding", [0, 1])
def test_gate_whose_factors_were_cut_into_patches(padding: int) -> None:
    """x * sigmoid(x), in patches: cut before or after, it is the same function of x."""
    x = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def patches(t: Tensor) -> Tensor:
        return F.unfold(t, 2, padding=padding)

    (expected,) = lrp.relevance(patches(x * x.sigmoid()), x)
    for y in (patches(x) * patches(x.sigmoid()), patches(x.sigmoid()) * patches(x)):
        torch.testing.assert_close(lrp.relevance(y, x)[0], expected)
