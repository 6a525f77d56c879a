"""Every check of the conformance kit, and a deliberately wrong row or rule that this very check catches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.table import Rules
from dynamiclrp_core.testing import CHECKS, Case, check_rule, variants

from tests.core.wrong_rules import ABS, MUL, NEG, RELU, SILU, WRONG, Elsewhere, Wrong

EACH_WRONG = pytest.mark.parametrize(
    ("name", "wrong"),
    [pytest.param(name, wrong, id=f"{name}-{wrong}") for name, found in WRONG.items() for wrong in found],
)


def case_of(sample: Sample) -> Case:
    return Case(sample, list(sample.subsets())[-1], seed=1)


@pytest.fixture(autouse=True)
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if there were another device, which is the CPU again."""

    def devices() -> list[str]:
        Elsewhere.first.append(None)
        return ["cpu"]

    monkeypatch.setattr(variants, "devices", devices)
    yield
    Elsewhere.first.clear()


@EACH_WRONG
def test_the_check_catches(name: str, wrong: Wrong) -> None:
    with pytest.raises(AssertionError) as caught:
        CHECKS[name](case_of(wrong.sample), lrp.load_rules() | Rules.of(wrong.row))
    assert str(wrong.sample) in str(caught.value)


@EACH_WRONG
def test_no_other_check_catches(name: str, wrong: Wrong) -> None:
    """All of a wrong rule depends on that one check. (What no run can be made with, each run finds.)"""
    case, rules = case_of(wrong.sample), lrp.load_rules() | Rules.of(wrong.row)
    others = {other: check for other, check in CHECKS.items() if other != name}
    if wrong.runs:
        check_rule(case, rules, others)
    else:
        with pytest.raises((AssertionError, AttributeError)):
            check_rule(case, rules, others)
    with pytest.raises(AssertionError, match=f"^check '{name}': "):
        check_rule(case, rules, {name: CHECKS[name], **others} if wrong.runs else {name: CHECKS[name]})


@pytest.mark.parametrize("sample", [ABS, MUL, NEG, RELU, SILU], ids=str)
def test_the_right_rows_pass_all_checks(sample: Sample) -> None:
    check_rule(case_of(sample), lrp.load_rules())


def test_every_check_has_a_wrong_row() -> None:
    assert set(WRONG) == set(CHECKS)


def test_an_excused_sample_skips_that_check_only() -> None:
    wrong = WRONG["forward"][0]
    rules = lrp.load_rules() | Rules.of(wrong.row)
    forward = {"forward": CHECKS["forward"]}
    check_rule(case_of(replace(wrong.sample, excused={"forward": "known"})), rules, forward)
    with pytest.raises(AssertionError):
        check_rule(case_of(replace(wrong.sample, excused={"zero": "known"})), rules, forward)


def test_a_decomposition_of_something_else_is_an_error() -> None:
    sample = replace(SILU, decomposed=lambda x: x.tanh())
    with pytest.raises(AssertionError, match="another output"):
        CHECKS["decomposed"](case_of(sample), lrp.load_rules())


def test_the_page_lists_every_check_as_it_says_itself() -> None:
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(name, (check.__doc__ or "").split("\n")[0]) for name, check in CHECKS.items()]
