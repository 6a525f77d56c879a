"""Errors about rules and values: they name the node, the path, the cause and the cure."""

from __future__ import annotations

from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.families import elementwise
from pydantic import ValidationError

from tests.core.messages import contains
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


class Unknown(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return x * 2

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        raise AssertionError("never run unasked")


def test_a_missing_rule() -> None:
    x = leaf_of(3, 4)
    y = (Unknown.apply(x.tanh()) * 2).sum()
    with pytest.raises(lrp.MissingRule) as info:
        lrp.relevance(y, x)
    contains(
        info, f"{__name__}.Unknown: no rule", "(3, 4)", "SumBackward0 -> MulBackward0 ->",
        "packs loaded", "rows)", "elementwise(", "forward=", 'on_missing="pass"',
    )  # fmt: skip


def test_no_matcher_of_the_row_holds() -> None:
    from dynamiclrp_core.rule import Row

    x = leaf_of(3)
    row = Row(node="NegBackward0", family="mine", cases=((lambda op: None, lrp.Epsilon()),))
    with pytest.raises(lrp.MissingRule) as info:
        lrp.relevance(-x, x, rules=lrp.Rules.of(row))
    contains(info, "NegBackward0", "none of the matchers")


def test_an_unrecoverable_value() -> None:
    x = leaf_of(3)
    y = -(x.tanh() + 2.0)
    with pytest.raises(lrp.Unrecoverable) as info:
        lrp.relevance(y, x, rules="dynamiclrp")
    contains(info, "AddBackward0", "'other'", "does not keep", "NegBackward0 -> AddBackward0", "record()")


def test_a_node_without_forward_names_the_row_to_complete() -> None:
    x = leaf_of(3)
    y = -(Unknown.apply(x) + x)
    rules = lrp.preset("dynamiclrp") | lrp.Rules.of(elementwise(f"{__name__}.Unknown"))
    with pytest.raises(lrp.Unrecoverable) as info:
        lrp.relevance(y, x, rules=rules)
    contains(info, "AddBackward0 needs the output of", "Unknown", "cure", "`forward`")


def test_nan_or_inf_names_the_first_node() -> None:
    x = leaf_of(3)
    y = ((x * float("inf")) * 2.0).tanh().sum()
    y = (x * 3.0 * float("inf")).sum() + x.sum()
    with pytest.raises(lrp.NonFinite) as info:
        lrp.relevance(y, x)
    contains(info, "MulBackward0 is the first node", "operand 0 (self)", "reached through", "cure")


def test_a_division_by_zero_is_named() -> None:
    x = leaf_of(3)
    y = (x.tanh() / torch.zeros(3, dtype=torch.float64)).sum()
    with pytest.raises(lrp.NonFinite) as info:
        lrp.relevance(y, x)
    contains(info, "DivBackward0")


def test_a_seed_that_is_not_finite() -> None:
    x = leaf_of(3)
    with pytest.raises(lrp.NonFinite) as info:
        lrp.relevance(x, x, torch.full((3,), float("nan"), dtype=torch.float64))
    contains(info, "the seed or the forward value")


class Short(lrp.Rule):
    def coefficient(self, op: Any, *c: Any) -> Any:
        return [c[0]]


class Raises(lrp.Rule):
    def coefficient(self, op: Any, *c: Any) -> Any:
        raise RuntimeError("mine")


class Misshapen(lrp.Rule):
    def coefficient(self, op: Any, *c: Any) -> Any:
        return [torch.ones(5, 7, dtype=torch.float64), None]


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (Short(), ("Short", "returned 1 entries", "AddBackward0", "2 operands")),
        (Raises(), ("AddBackward0", "failed: mine", "reached through")),
        (Misshapen(), ("AddBackward0",)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_bad_rule(rule: lrp.Rule, parts: tuple[str, ...]) -> None:
    x = leaf_of(3)
    with pytest.raises(lrp.BadRule) as info:
        lrp.relevance(x + x.tanh(), x, rules=lrp.load_rules() | lrp.override(AddBackward0=rule))
    contains(info, *parts)


def test_an_override_that_is_no_rule_and_a_row_with_unknown_facts() -> None:
    with pytest.raises(lrp.BadRule) as info:
        lrp.override(affine=3)  # type: ignore[arg-type]
    contains(info, "affine", "int")
    with pytest.raises(lrp.BadRule) as info:
        elementwise("XBackward0", slop=1)
    contains(info, "XBackward0", "slop")


@pytest.mark.parametrize("value", [[1], [[1]], {"a": 1}, {1}])
def test_a_parameter_of_a_preset_that_does_not_fit_is_named(value: object) -> None:
    """Lists and dicts cannot be kept in a cache; the error is still the rule's own."""
    with pytest.raises(ValidationError, match="gamma"):
        lrp.preset("gamma", gamma=value)


def test_bounds_of_a_preset_in_a_list() -> None:
    made = [lrp.preset("epsilon-gamma-box", low=low, high=[1.0, 2.0]) for low in ([0.0, 0.0], (0.0, 0.0))]
    assert made[0].overrides[-1].rule == made[1].overrides[-1].rule == lrp.ZBox(low=(0, 0), high=(1, 2))


def test_a_preset_that_needs_parameters_names_them() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(lrp.DynamicLRPError, match=r"without high: lrp.preset.*high=\.\.\."):
        lrp.preset("epsilon-gamma-box", low=0.0)
    with pytest.raises(lrp.DynamicLRPError, match="cannot do without low, high"):
        lrp.relevance(x * 2, x, rules="epsilon-gamma-box")


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(lrp.DynamicLRPError) as info:
        lrp.relevance(leaf_of(2) * 2, rules="epsilom")
    contains(info, "epsilom", "epsilon", "dynamiclrp", "default")
