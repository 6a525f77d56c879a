"""Which of many overrides decides, and what a table of many costs."""

from __future__ import annotations

import copy
import pickle

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.table import Override
from hypothesis import given, settings
from hypothesis import strategies as st


class Marked(lrp.Rule):
    by: float


WHERE = [None, "left", "right"]  # scopes: everywhere, or where the op has that mark


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None, "*"]), st.sampled_from(WHERE)), max_size=6),
    st.sets(st.sampled_from(["a", "b", "left", "right"])),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_last_override_that_fits_decides(
    given_: list[tuple[str | None, str | None]], marks: set[str]
) -> None:
    """The row says which case an op is; the last override of it whose scope holds says by which rule."""

    def matcher(mark: str | None):
        def holds(op: object) -> bool:
            return mark in marks

        holds.__name__ = str(mark)
        return None if mark is None else holds

    row = lrp.Row(
        node="N", family="f", cases=((matcher("a"), Marked(by=0)), (matcher("b"), Marked(by=1)),
        (None, Marked(by=2)))
    )  # fmt: skip
    overrides = [
        Override("f", case, Marked(by=10 + i), matcher(where)) for i, (case, where) in enumerate(given_)
    ]
    rules = lrp.Rules(rows={"N": row}, overrides=tuple(overrides))
    case = next((c for c in ("a", "b") if c in marks), None)
    expected = {"a": 0.0, "b": 1.0, None: 2.0}[case]
    for i, (of, where) in enumerate(given_):
        if of in ("*", case) and (where is None or where in marks):
            expected = 10.0 + i
    found = next(rule for m, rule in rules.cases(row) if m is None or m(None))
    assert found.by == expected


def test_many_scopes_are_many_cases_and_no_more() -> None:
    """A gamma for each of a hundred layers: the table must not double with each."""
    rules = lrp.preset("epsilon")
    for i in range(100):
        rules = rules.where(lambda op, i=i: op.shape[-1] == i, lrp.override(affine=lrp.Gamma(gamma=i)))
    row = rules["AddmmBackward0"]
    assert len(rules.cases(row)) == 100 + len(row.cases)


def test_parameters_go_by_name() -> None:
    with pytest.raises(TypeError, match=r"Gamma takes its parameters by name: .*gamma=\.\.\."):
        lrp.Gamma(0.25)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"ZBox takes its parameters by name: .*low=\.\.\., high=\.\.\."):
        lrp.ZBox(-1.0, 1.0)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"Pass takes .* by name: it has none"):
        lrp.Pass(1)  # type: ignore[misc]
    rule = lrp.Gamma(gamma=0.7)
    assert copy.deepcopy(rule) == rule == pickle.loads(pickle.dumps(rule)) and rule.gamma == 0.7


def test_a_preset_names_the_parameters_it_has() -> None:
    with pytest.raises(TypeError, match=r"'epsilon-plus' has no eps; it has: epsilon, stabilizer, bias"):
        lrp.preset("epsilon-plus", eps=1e-3)


def test_overrides_alone_are_no_rules() -> None:
    x = torch.randn(2, requires_grad=True)
    with pytest.raises(
        TypeError, match=r"overrides, and nothing that they override.*\n.*load_rules\(\) \| these"
    ):
        lrp.relevance(x * 2, x, rules=lrp.override(affine=lrp.Gamma()))


def test_a_class_of_modules_is_no_key() -> None:
    with pytest.raises(lrp.BadRule, match=r"(?s)Conv2d=.*where\(nn\.Conv2d, override"):
        lrp.load_rules() | lrp.override(Conv2d=lrp.Gamma())
