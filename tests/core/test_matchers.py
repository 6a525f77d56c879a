"""Matchers by name: what is a softmax, a gate, a statistic, and what only looks like one."""

from __future__ import annotations

import math

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.node import address
from dynamiclrp_core.op import Op
from dynamiclrp_core.regions import Peel
from dynamiclrp_core.rule import Entries
from dynamiclrp_core.scalar_function import ScalarFunction
from torch import Tensor


def x_of(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()


def relevance(f, *xs: Tensor, rules="default") -> list[Tensor]:
    """Relevance of a random linear readout of f, so that wrong routing cannot cancel out."""
    with lrp.record():
        y = f(*xs)
    g = torch.Generator().manual_seed(7)
    weights = torch.randn(y.shape, generator=g, dtype=torch.float64)
    return list(lrp.relevance((y * weights).sum(), xs, rules=rules))


def same(f, g, *xs: Tensor) -> None:
    for a, b in zip(relevance(f, *xs), relevance(g, *xs)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def rules_used(f, *xs: Tensor) -> dict[str, int]:
    with lrp.record():
        y = f(*xs)
    return lrp.propagate(y, xs).rules_used


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
    x = x_of(3, 4)
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
    x = x_of(2, 3)

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
    x = x_of(2, 3)
    with lrp.record():
        y = (1 + x.tanh()) * x.sigmoid()
    (r,) = lrp.relevance((y, y), x, (None, y.detach()))
    for i in range(2):
        for j in range(3):
            assert float(r[i, j]) == pytest.approx(2 * (float(y.detach()[i, j]) - 0.5), abs=1e-12)


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
    x = x_of(3, 4)
    used = rules_used(f, x)
    assert used.get("Product()", 0) >= 1, used
    assert "Held()" not in used and "ScalarFunction()" not in used, used


def test_two_different_tensors_share_in_halves() -> None:
    a, b = x_of(3, seed=1), x_of(3, seed=2)
    ra, rb = lrp.relevance(a * b, (a, b))
    for k in range(3):
        assert float(ra[k]) == pytest.approx(float((a * b).detach()[k]) / 2)
        assert float(rb[k]) == pytest.approx(float((a * b).detach()[k]) / 2)


def test_one_live_factor_takes_all() -> None:
    a, b = x_of(3, seed=1), x_of(3, seed=2)
    (ra,) = lrp.relevance(a * b, a)
    torch.testing.assert_close(ra, (a * b).detach())


def test_a_named_input_inside_the_region_is_not_passed_by() -> None:
    x = x_of(3)
    s = x.sigmoid()
    run = lrp.propagate(x * s, (x, s))
    assert run.rules_used.get("Product()") == 1
    torch.testing.assert_close(run.relevance[1], (x * s).detach() / 2)


# -- statistic: positive ----------------------------------------------------------------------------


def rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def layer_norm_by_hand(x: Tensor, eps: float = 1e-5) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    var = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


def rms_hf(x: Tensor) -> Tensor:
    """The Hugging Face spelling, with its round trip through another dtype."""
    h = x.to(torch.float32).to(torch.float64)
    return GAIN * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))


GAIN = torch.tensor([1.0, 2.0, 0.5, -1.0], dtype=torch.float64, requires_grad=True)


def dropped(x: Tensor) -> Tensor:
    """Dropout with one mask."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return F.dropout(x, 0.3)


SCALES = {
    "rms norm": rms,
    "rms norm, Hugging Face": rms_hf,
    "rms norm by sqrt": lambda x: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(),
    "rms norm by x*x": lambda x: x * ((x * x).mean(-1, keepdim=True) + 1e-6) ** -0.5,
    "scaled before": lambda x: (GAIN * x) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
    "negated": lambda x: -x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
    "dropped": lambda x: dropped(x) / x.norm(dim=-1, keepdim=True),
    "l2 norm": lambda x: F.normalize(x, dim=-1),
    "l2 norm by hand": lambda x: x / x.norm(dim=-1, keepdim=True),
    "max norm": lambda x: x / x.abs().amax(-1, keepdim=True),
    "grouped": lambda x: rms(x.view(3, 2, 2)).view(3, 4),
}


@pytest.mark.parametrize("name", SCALES)
def test_statistic_is_held_constant(name: str) -> None:
    """With the scale constant and nothing else in the way every entry keeps its own output."""
    f = SCALES[name]
    x = x_of(3, 4)
    assert rules_used(f, x).get("Held()") == 1, rules_used(f, x)
    (r,) = relevance(f, x)
    g = torch.Generator().manual_seed(7)
    weights = torch.randn(3, 4, generator=g, dtype=torch.float64)
    torch.testing.assert_close(r, (f(x) * weights).detach(), rtol=1e-6, atol=1e-9)


LAYER_NORMS = {
    "by hand": layer_norm_by_hand,
    "with torch.var": lambda x: (
        (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
    ),
    "with rsqrt": lambda x: (
        (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
    ),
    "through views": lambda x: layer_norm_by_hand(x.view(1, 3, 4).clone()).view(3, 4),
}


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_norm_by_hand_is_layer_norm(name: str) -> None:
    x = x_of(3, 4)
    same(LAYER_NORMS[name], lambda x: F.layer_norm(x, (4,)), x)


def test_group_norm_by_hand_is_group_norm() -> None:
    x = x_of(2, 4, 3)

    def by_hand(x: Tensor) -> Tensor:
        return layer_norm_by_hand(x.view(2, 2, -1)).view(x.shape)

    same(by_hand, lambda x: F.group_norm(x, 2), x)


def test_batch_norm_by_hand_is_batch_norm() -> None:
    x = x_of(5, 3)

    def by_hand(x: Tensor) -> Tensor:
        mean = x.mean(0, keepdim=True)
        return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(0, keepdim=True) + 1e-5)

    same(by_hand, lambda x: F.batch_norm(x, None, None, training=True), x)


# -- statistic: negative ----------------------------------------------------------------------------

NOT_STATISTICS = {
    "degree 1": lambda x: x * x.mean(-1, keepdim=True),
    "absolute signal": lambda x: x.abs() * x.pow(2).mean(-1, keepdim=True).rsqrt(),
    "leaky signal": lambda x: F.leaky_relu(x) / x.norm(dim=-1, keepdim=True),
    "signal of relu": lambda x: x.relu() / x.norm(dim=-1, keepdim=True),
    "degree -2": lambda x: x / x.pow(2).mean(-1, keepdim=True),
    "not reduced": lambda x: (x + 1) * (x * x + 1).rsqrt() * x.flip(-1),
    "through a matmul": lambda x: x * (x @ torch.eye(4, dtype=x.dtype)).pow(2).mean(-1, True).rsqrt(),
    "of another tensor": lambda x: x[:, :2] * x[:, 2:].pow(2).mean(-1, True).rsqrt(),
    "one path not reduced": lambda x: x * (x.pow(2).mean(-1, keepdim=True) + x * x).rsqrt(),
}


@pytest.mark.parametrize("name", NOT_STATISTICS)
def test_not_a_statistic(name: str) -> None:
    x = x_of(3, 4)
    assert "Held()" not in rules_used(NOT_STATISTICS[name], x)


# -- softmax ----------------------------------------------------------------------------------------

SOFTMAXES = {
    "plain": lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
    "one exp": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(x.exp()),
    "max subtracted": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(
        (x - x.max(-1, keepdim=True).values).exp()
    ),
    "amax subtracted": lambda x: (lambda e: e / e.sum(-1, keepdim=True))(
        (x - x.amax(-1, keepdim=True)).exp()
    ),
    "sum expanded": lambda x: (lambda e: e / e.sum(-1).unsqueeze(-1).expand_as(e))(x.exp()),
}


@pytest.mark.parametrize("name", SOFTMAXES)
def test_softmax_by_hand_is_softmax(name: str) -> None:
    x = x_of(3, 4)
    same(SOFTMAXES[name], lambda x: x.softmax(-1), x)


LOGSUMEXPS = {
    "plain": lambda x: x.exp().sum(-1).log(),
    "max subtracted": lambda x: (x - x.amax(-1, keepdim=True)).exp().sum(-1).log() + x.amax(-1),
}


@pytest.mark.parametrize("name", LOGSUMEXPS)
def test_logsumexp_by_hand_is_logsumexp(name: str) -> None:
    same(LOGSUMEXPS[name], lambda x: x.logsumexp(-1), x_of(3, 4))


def test_log_softmax_by_hand_is_log_softmax() -> None:
    x = x_of(3, 4)
    same(lambda x: x - x.exp().sum(-1, keepdim=True).log(), lambda x: x.log_softmax(-1), x)


def test_exp_over_another_sum_is_no_softmax() -> None:
    a, b = x_of(3, 4, seed=1), x_of(3, 4, seed=2)
    used = rules_used(lambda a, b: a.exp() / b.exp().sum(-1, keepdim=True), a, b)
    assert used.get("Quotient()") == 1 and "Gradient()" not in used


# -- quotients --------------------------------------------------------------------------------------


def test_numerator_takes_all() -> None:
    a, b = x_of(3, seed=1), x_of(3, seed=2)
    ra, rb = lrp.relevance(a / b, (a, b))
    torch.testing.assert_close(ra, (a / b).detach())
    assert not rb.any()


def test_constant_over_x_is_elementwise() -> None:
    x = x_of(4)
    c = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    for f in (lambda x: c / x, lambda x: x**-1, lambda x: x.reciprocal()):
        (r,) = lrp.relevance(f(x), x)
        torch.testing.assert_close(r, f(x).detach())


# -- matchers as scopes ------------------------------------------------------------------------------


SCALINGS = {"number": lambda g: 3 * g, "sign": torch.neg, "dropout": dropped, "weight": lambda g: g * GAIN}
POSITIVE_ONLY = {"abs": torch.abs, "leaky relu": F.leaky_relu, "rrelu": lambda g: F.rrelu(g, training=True)}


@pytest.mark.parametrize("name", [*SCALINGS, *POSITIVE_ONLY])
def test_a_divisor_is_seen_through_what_multiplies_by_constants_alone(name: str) -> None:
    """a * (k / s) is a quotient: all to a. A function that is k x on each side of 0 is no constant k: of
    a * |1 / s| both take half, as of any function of s that is not a divisor."""
    a, s = x_of(3, 4), x_of(3, 4, seed=1)
    f = {**SCALINGS, **POSITIVE_ONLY}[name]
    torch.manual_seed(5)
    y = a * f(1 / s)
    r, of_s = lrp.relevance(y, (a, s))
    share = 1.0 if name in SCALINGS else 0.5
    torch.testing.assert_close(r, share * y.detach())
    assert (name in SCALINGS) == (not of_s.any())


def test_a_scope_may_answer_with_operand_0() -> None:
    """What a matcher finds may be operand number 0: still a match, so the row's own matchers are asked."""

    def first(op: lrp.Op) -> int:
        return 0

    def second(op: lrp.Op) -> int:
        return 1

    x = x_of(5)
    for scope in (first, second):
        rules = lrp.load_rules().where(scope, lrp.override(product__statistic=lrp.ProductRatio()))
        run = lrp.propagate(x * x.pow(2).mean().rsqrt(), x, rules=rules)
        assert sum("ProductRatio" in rule for rule in run.rules_used) == 1
        rules = lrp.load_rules().where(scope, lrp.override(product__gate=lrp.ProductRatio()))
        run = lrp.propagate(x * x.pow(2).mean().rsqrt(), x, rules=rules)
        assert not any("ProductRatio" in rule for rule in run.rules_used)  # it is no gate


# -- read-outs ---------------------------------------------------------------------------------------

INSIDE = {
    # The tensor that is read and the output; what reaches it: nothing where it is passed by or held.
    "gate": (lambda x: (lambda s: (s, x * s))(x.sigmoid()), False),
    "secant of a gate": (lambda x: (lambda s: (s, (1 + x.tanh()) * s))(x.sigmoid()), False),
    "function of a function": (lambda x: (lambda e: (e, 1 / (1 + e)))((-x).exp()), False),
    "scale of a norm": (lambda x: (lambda s: (s, x * s))(torch.rsqrt(x.pow(2).mean(-1, True))), False),
    "centred": (lambda x: (lambda h: (h, h / h.norm(dim=-1, keepdim=True)))(x - x.mean(-1, True)), True),
    "exps of a softmax": (lambda x: (lambda e: (e, e / e.sum(-1, keepdim=True)))(x.exp()), True),
    "sum of a softmax": (lambda x: (lambda s: (s, x.exp() / s))(x.exp().sum(-1, keepdim=True)), True),
    "exps of a logsumexp": (lambda x: (lambda e: (e, e.sum(-1).log()))(x.exp()), True),
}


@pytest.mark.parametrize("name", INSIDE)
def test_a_read_out_changes_no_number(name: str) -> None:
    """Also inside what is seen as one function: there nothing is to be read."""
    f, reached = INSIDE[name]
    x = x_of(3, 4)
    with lrp.record():
        inner, y = f(x)
    weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view(y.shape)
    total = (y * weights).sum()
    run = lrp.propagate(total, x, at=inner)
    torch.testing.assert_close(run.relevance[0], lrp.relevance(total, x)[0], rtol=0, atol=0)
    assert bool(run.at[0].any()) == reached


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
    k = x_of(3, 4).detach()
    over = lambda x: x * torch.zeros(3, 4, dtype=x.dtype).copy_(x).sigmoid()  # noqa: E731
    x = x_of(3, 4)
    torch.testing.assert_close(lrp.relevance(over(x), x), lrp.relevance(F.silu(x), x))
    for beside in (torch.fmax, torch.maximum, lambda a, b: torch.where(b > 0, a, b)):
        with lrp.record():
            y = x * beside(x, k)
        assert any(rule.startswith("Product") for rule in lrp.propagate(y, x).rules_used)


def test_a_rule_that_looks_past_its_operands_leaves_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger may have to compute the output again from them (found by the fuzzer, seed 530072)."""
    met: list[Op] = []
    plain = ScalarFunction.coefficient

    def seen(self: ScalarFunction, op: Op, *c: Tensor | None) -> Entries:
        met.append(op)
        return plain(self, op, *c)

    monkeypatch.setattr(ScalarFunction, "coefficient", seen)
    x = x_of(3, 4)
    lrp.relevance(x.exp() * x.sigmoid(), x)
    (op,) = met
    assert op.receivers.edges == (address(x),)
    assert [tuple(edge) for edge in op.edges] == list(op.node.next_functions) and len(op.live) == 2


def test_the_ledger_asks_for_the_output_of_a_function_by_hand() -> None:
    x = x_of(3, 4)
    lost = x.detach() + 1  # not recorded: the sum's own books cannot be balanced, and keep no value
    run = lrp.propagate((lost + x.exp() * x.sigmoid()) * 2, x, ledger=True)
    torch.testing.assert_close(run.relevance[0], 2 * (x.exp() * x.sigmoid() - 0.5).detach())
