"""The suite can fail: with a wrong rule for one case, the group that rests on that case disagrees."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.rule import Rule
from dynamiclrp_core.rules.defaults import Affine, Elementwise, Product, Quotient, Stop

from .groups import GROUPS
from .table import difference, explain

WRONG: tuple[tuple[str, Rule, str, str], ...] = (
    ("product__gate", Product(), "silu", "x * sigmoid"),
    ("product__gate", Product(), "gelu", "erf"),
    ("quotient__gate", Quotient(), "sigmoid", "e / (1 + e)"),
    ("product__statistic", Product(), "l2 norm", "rsqrt"),
    ("product__divided", Product(), "quotient of two", "reciprocal"),
    ("product__divided", Product(), "layer norm", "folded"),
    ("elementwise__composed", Elementwise(), "sigmoid", "1 / (1 + exp(-x))"),
    ("elementwise__composed", Elementwise(), "softplus", "log(1 + exp)"),
    ("quotient__composed", Quotient(), "sigmoid", "constant over"),
    ("quotient__softmax_by_hand", Stop(), "softmax", "amax subtracted"),
    ("product__softmax_by_hand", Product(), "softmax", "reciprocal"),
    ("elementwise__softmax_by_hand", Elementwise(), "softmax", "exp of log-softmax"),
    ("LogBackward0__logsumexp_by_hand", Elementwise(), "logsumexp", "by hand"),
    ("affine__bilinear", Affine(), "attention", "eager"),
    ("attention", Stop(), "attention", "eager"),
    ("norm", Stop(), "layer norm", "by hand"),
    ("SubBackward0", Stop(), "difference", "a + (-b)"),
    ("AddBackward0", Stop(), "residual", "stack and sum"),
    ("softmax", Elementwise(), "attention", "eager"),
)


@pytest.mark.parametrize(
    ("case", "rule", "group", "spelling"), WRONG, ids=[f"{case}-{group}" for case, _, group, _ in WRONG]
)
def test_a_wrong_rule_is_seen(case: str, rule: Rule, group: str, spelling: str) -> None:
    found = next(g for g in GROUPS if g.name == group)
    live, constants = found.tensors()
    wrong = lrp.load_rules() | lrp.override(**{case: rule})
    maps = [
        explain(found.spellings[s], live, constants, rules)
        for rules in (lrp.preset("default"), wrong)
        for s in (spelling, found.first)
    ]
    assert difference(maps[0], maps[1]) < 1e-7
    assert difference(maps[2], maps[3]) > 1e-3


def test_each_case_of_the_matchers_is_planted() -> None:
    """A matcher that is added needs a group that rests on it."""
    named = {case.__name__ for row in lrp.load_rules().values() for case, _ in row.cases if case is not None}
    planted = {case.partition("__")[2] for case, *_ in WRONG}
    assert (
        named & {"gate", "composed", "statistic", "divided", "softmax_by_hand", "logsumexp_by_hand"}
        <= planted
    )
