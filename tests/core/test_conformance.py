"""Every check of the conformance kit, and a deliberately wrong row or rule that this very check catches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core import variants
from dynamiclrp_core.families import custom, elementwise, linear, moving, product
from dynamiclrp_core.rule import Row, Rule, Value
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.table import Rules
from dynamiclrp_core.testing import CHECKS, Case, check_rule
from torch import Tensor

REENTRANT = "torch.utils.checkpoint.CheckpointFunction"
SIN = Sample("SinBackward0", torch.sin)
EXP = Sample("ExpBackward0", torch.exp)
NEG = Sample("NegBackward0", torch.neg)
MUL = Sample("MulBackward0", torch.mul, ("n 4", "n 4"))
SILU = Sample("SiluBackward0", torch.nn.functional.silu, decomposed=lambda x: x * x.sigmoid())


def sin(op: Any, x: Tensor) -> Tensor:
    return x.sin()


class Own(Rule):
    """Sends on what its subclasses say."""

    conserves: ClassVar[Any] = "none"

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return [self.entry(op, self.only(c))]

    def entry(self, op: Any, c: Tensor) -> Any:
        raise NotImplementedError


class Whole(Own):
    """An entry that does not sum to the operand's shape."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c[:, :-1]


class Number(Own):
    """An entry in a dtype that relevance cannot have."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c.round().long()


class Twice(Rule):
    """An entry too many."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return [*c, *c]


class Doubled(Own):
    """Makes relevance out of nothing, and says that it does not."""

    conserves: ClassVar[Any] = "exact"

    def entry(self, op: Any, c: Tensor) -> Any:
        return 2 * c


class Squared(Own):
    """Not linear in relevance, and says that it is."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(self.only(r) ** 2)]


class Added(Own):
    """Relevance for nothing."""

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(self.only(r) + 1)]


class Divided(Own):
    """Infinite where the operand is 0."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * op.output() / op.input(0)


class Apart(Own):
    """The two forms disagree."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(-self.only(r))]


class Joined(Own):
    """Sees the forms added up, where it is one function of one of them and another of the sum."""

    joins: ClassVar[bool] = True

    def entry(self, op: Any, c: Tensor) -> Any:
        return c

    def value(self, op: Any, *r: Tensor | None) -> Any:
        return [Value(3 * self.only(r))]


class OverBatch(Own):
    """A share of the whole batch."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * op.input(0).abs().mean()


class Peeking(Own):
    """Takes what autograd happens to have saved for the operand, and something else where it has not."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c if op.kept(0) is not None else -c


class Counting(Own):
    """Another number every time."""

    calls: ClassVar[list[None]] = []

    def entry(self, op: Any, c: Tensor) -> Any:
        self.calls.append(None)
        return c * len(self.calls)


class ByStride(Own):
    """Looks at memory instead of values."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c if op.input(0).is_contiguous() else -c


class ByCopies(Own):
    """Gives every repetition of a broadcast operand the whole."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        own = self.only(c)
        factors = [own.numel() / op.operand_shape(i).numel() for i in range(2)]
        return [own * k for k in factors]


class NotEmpty(Own):
    """Cannot do without elements."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * op.input(0).abs().max()


class Narrow(Own):
    """Leaves the range of bfloat16 and float32, though not that of float64."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * 1e30 * 1e30 / 1e60


class SharedByWanted(Own):
    """Divides a product among all that want an entry, read-outs too."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        own = self.only(c) / sum(op.wanted)
        return [own * op.input(1), own * op.input(0)]


class Held(Own):
    """Knows a checkpoint by what reads the saved field, and takes it for something else."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c if isinstance(op.node._raw_saved_self.data, Tensor) else -c


class Wrong(NamedTuple):
    """A row, and the sample that shows what is wrong with it."""

    sample: Sample
    row: Row


def own(sample: Sample, rule: Rule, operands: str = "self", **facts: Any) -> Wrong:
    return Wrong(sample, custom(sample.node, rule, operands, **facts))


WRONG = {
    # MulBackward0 saves its factors under the names self and other: swapped, they are not what they say.
    "saved_names": [Wrong(MUL, product("MulBackward0", "other self", forward=lambda op, a, b: a * b))],
    "forward": [Wrong(SIN, elementwise("SinBackward0", "self", forward=lambda op, x: x.cos()))],
    "entries": [own(NEG, Whole()), own(NEG, Number()), own(NEG, Twice())],
    "conservation": [own(NEG, Doubled())],
    "linearity": [own(NEG, Squared())],
    "zero": [own(NEG, Added())],
    "finite": [own(EXP, Divided(), results="result")],
    "forms": [own(SIN, Apart())],
    "both_forms": [own(SIN, Joined())],
    "batch": [own(SIN, OverBatch())],
    "promised": [own(SIN, Peeking())],
    "again": [own(SIN, Counting())],
    "noncontiguous": [own(SIN, ByStride())],
    "broadcast": [own(MUL, ByCopies(), "self other")],
    "empty": [own(SIN, NotEmpty())],
    "precision": [own(SIN, Narrow())],
    "checkpointed": [own(SIN, Held()), Wrong(SIN, custom(REENTRANT, Doubled()))],
    "read_outs": [own(MUL, SharedByWanted(), "self other")],
    "decomposed": [own(SILU, Doubled())],
    "devices": [own(SIN, Counting())],
    "family": [Wrong(EXP, linear("ExpBackward0", "self", forward=lambda op, x: x.exp()))],
}
RUNS = [(name, wrong) for name, found in WRONG.items() for wrong in found]


def case_of(sample: Sample) -> Case:
    return Case(sample, list(sample.subsets())[-1], seed=1)


@pytest.mark.parametrize(
    ("name", "wrong"), RUNS, ids=[f"{n}-{type(w.row.cases[-1][1]).__name__}" for n, w in RUNS]
)
def test_the_check_catches(name: str, wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "devices", lambda: ["cpu"])  # a device, where there is no other
    case = case_of(wrong.sample)
    # A rule that cannot do without elements raises in torch, which the engine locates.
    with pytest.raises(lrp.BadRule if name == "empty" else AssertionError) as caught:
        CHECKS[name](case, lrp.load_rules() | Rules.of(wrong.row))
    assert str(wrong.sample) in str(caught.value) or wrong.sample.node in str(caught.value)


@pytest.mark.parametrize("sample", [SIN, EXP, NEG, MUL, SILU], ids=str)
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


def test_moving_is_a_family_of_the_kit() -> None:
    """NEG as a move: the family check sees that its gradient is -1."""
    rules = lrp.load_rules() | Rules.of(moving("NegBackward0", forward=lambda op, x: -x))
    with pytest.raises(AssertionError, match="does not move entries"):
        CHECKS["family"](case_of(NEG), rules)
