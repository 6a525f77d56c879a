"""Matchers by name: softmaxes, quotients, scopes and read-outs inside what a matcher found."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F

from tests.core.readout import GAIN, dropped, rules_used, same
from tests.tensors import leaf_of

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
    x = leaf_of(3, 4)
    same(SOFTMAXES[name], lambda x: x.softmax(-1), x)


LOGSUMEXPS = {
    "plain": lambda x: x.exp().sum(-1).log(),
    "max subtracted": lambda x: (x - x.amax(-1, keepdim=True)).exp().sum(-1).log() + x.amax(-1),
}


@pytest.mark.parametrize("name", LOGSUMEXPS)
def test_logsumexp_by_hand_is_logsumexp(name: str) -> None:
    same(LOGSUMEXPS[name], lambda x: x.logsumexp(-1), leaf_of(3, 4))


def test_log_softmax_by_hand_is_log_softmax() -> None:
    x = leaf_of(3, 4)
    same(lambda x: x - x.exp().sum(-1, keepdim=True).log(), lambda x: x.log_softmax(-1), x)


def test_exp_over_another_sum_is_no_softmax() -> None:
    a, b = leaf_of(3, 4, seed=1), leaf_of(3, 4, seed=2)
    used = rules_used(lambda a, b: a.exp() / b.exp().sum(-1, keepdim=True), a, b)
    assert used.get("Quotient()") == 1 and "Gradient()" not in used


# -- quotients --------------------------------------------------------------------------------------


def test_numerator_takes_all() -> None:
    a, b = leaf_of(3, seed=1), leaf_of(3, seed=2)
    ra, rb = lrp.relevance(a / b, (a, b))
    torch.testing.assert_close(ra, (a / b).detach())
    assert not rb.any()


def test_constant_over_x_is_elementwise() -> None:
    x = leaf_of(4)
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
    a, s = leaf_of(3, 4), leaf_of(3, 4, seed=1)
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

    x = leaf_of(5)
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
    x = leaf_of(3, 4)
    with lrp.record():
        inner, y = f(x)
    weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view(y.shape)
    total = (y * weights).sum()
    run = lrp.propagate(total, x, at=inner)
    torch.testing.assert_close(run.relevance[0], lrp.relevance(total, x)[0], rtol=0, atol=0)
    assert bool(run.at[0].any()) == reached


def test_an_exp_that_only_a_read_out_reaches() -> None:
    """Nothing live below it: it is no softmax, and the read-out gets its share (fuzzer, seed 1020105)."""
    x, k = leaf_of(3, 4), leaf_of(3, 4, seed=1)
    run = lrp.propagate(x + (-k).exp(), x, at=k)
    torch.testing.assert_close(run.relevance[0], x.detach())
    torch.testing.assert_close(run.at[0], ((-k).exp() - 1).detach())
