"""Which of many overrides decides, and what a table of many costs."""

from __future__ import annotations

import dynamiclrp_core as lrp
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
