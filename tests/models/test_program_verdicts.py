"""Answers are told from findings: refusals by name, what rounding decides, and what hides behind them."""

from __future__ import annotations

import itertools

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries
from dynamiclrp_core.rules.defaults import Linear
from torch import Tensor

from .planted import Doubled
from .program_checks import Recorded, residue
from .program_verdicts import ANSWERS, noise, trouble, without_node
from .random_programs import Program, Step

RULES = lrp.load_rules()
SOLVE = Step("LinalgSolveTriangularBackward0-ones", (0, -1), 3150311930)
REFUSED = {
    "an implied diagonal": (
        Program(900148, (SOLVE,)),
        "LinalgSolveTriangularBackward0: relevance of a matrix with",
    ),
    "a lost output": (
        Program(900232, (Step("CopySlices-relu", (0,), 4), Step("SignBackward0", (1,), 5))),
        "CopySlices: the value after this in-place write into a view",
    ),
}
"""Programs that no rule explains, and what is said of them."""

ROUNDED = Program(5670, (
    Step("LinalgInvExBackward0", (0,), 3774420368), Step("TransposeBackward1", (2,), 3292586313),
    Step("NativeBatchNormBackward0-eval-plain", (3,), 3615398973),
    Step("LogitBackward0", (4,), 1661715150)), inputs=2)  # fmt: skip
"""Found with seed 5670: the mean of a normalised group is 1e-17 of rounding, and a logit of it is all of the
output. The last digit of an input changes the map by more than what two ways to it differ by."""


@pytest.mark.parametrize("rules", ["default", "epsilon", "dynamiclrp"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_by_name_is_an_answer(name: str, rules: str) -> None:
    program, said = REFUSED[name]
    assert trouble(program, lrp.preset(rules)).startswith(f"refused\n{said}")


def test_a_refusal_hides_nothing_beside_it() -> None:
    wrong = RULES | lrp.override(FlipBackward0=Doubled())
    flip = Step("FlipBackward0", (0,), 5)
    for steps in ((flip, SOLVE), (SOLVE, flip._replace(reads=(1,))), (flip, SOLVE._replace(reads=(1, -1)))):
        program = Program(3, steps, outputs=2)
        assert trouble(program, RULES).startswith("refused\n")
        assert trouble(program, wrong).startswith("beside a refusal: ledger\n")


def test_the_steps_that_build_a_node_are_taken_out() -> None:
    solve = Step("LinalgLuSolveBackward0", (0, -1), 1774482568)
    program = Program(900232, (Step("FlipBackward0", (0,), 5), solve))
    assert without_node(program, "LinalgLuFactorExBackward0").steps == program.steps[:1]


class Moody(Linear):
    """Refuses where somebody keeps the books, or with a message that tells no cure."""

    text: str

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if op.ledger is not None or "cure" not in self.text:
            raise lrp.MissingRule(f"{op.row.node}: {self.text}")
        return super().coefficient(op, *c)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("not today.\n  cure: tomorrow", "refuses in some ways only"),
        ("not today.", "MissingRule FlipBackward0"),
        ("no rule for it\n  packs loaded: none\n  cure: write one", "MissingRule FlipBackward0"),
    ],
    ids=["moody", "without a cure", "without a rule"],
)
def test_what_is_no_refusal_by_name_is_found(text: str, found: str) -> None:
    rules = RULES | lrp.override(FlipBackward0=Moody(text=text))
    assert trouble(Program(8, (Step("FlipBackward0", (0,), 5),)), rules).splitlines()[0] == found


DIVIDED = Program(1050476, (
    Step("TopkBackward0-smallest", (0,), 3547401279), Step("LinalgPinvBackward0-wide", (1,), 786380417),
    Step("ForeachErfBackward0", (-1, 2), 2245042617),
    Step("ThresholdBackward1", (3,), 2377825397)))  # fmt: skip
"""Found with seed 1050476. An entry of the pseudo-inverse, 0 in exact arithmetic, is -1.4e-17 of rounding;
its erf is raised to a threshold of 2, and activations pass relevance on as it is: 2 is divided by -1.4e-17.
In the program found no input had any of it in its map; the books had."""


def test_what_rounding_decides_is_told_from_what_is_wrong() -> None:
    rules = lrp.preset("epsilon")
    assert trouble(ROUNDED, rules).startswith("rounding decides\n")
    tame = Program(5670, ROUNDED.steps[:2], inputs=2)
    assert noise(ROUNDED, rules) > 1 > 1e10 * noise(tame, rules)


def test_relevance_divided_by_rounding_is_told_by_the_books() -> None:
    rules = lrp.preset("excitation-backprop")
    assert trouble(DIVIDED, rules) == "rounding decides\nledger"
    tame = Program(1050476, DIVIDED.steps[:2])
    assert noise(DIVIDED, rules, residue) > 1 > 1e10 * noise(tame, rules, residue)


@pytest.mark.parametrize(
    ("program", "rules", "node"),
    [(ROUNDED, "epsilon", f"{node}Backward0") for node in ("LinalgInvEx", "Logit", "NativeBatchNorm")]
    + [(ROUNDED, "epsilon", "TransposeBackward1"), (DIVIDED, "excitation-backprop", "ThresholdBackward1")]
    + [(DIVIDED, "excitation-backprop", f"{node}Backward0") for node in ("LinalgPinv", "Topk", "ForeachErf")],
)
def test_rounding_excuses_no_wrong_rule(program: Program, rules: str, node: str) -> None:
    """Wherever in the program it stands: some part of it is not decided by rounding, and shows it."""
    found = trouble(program, lrp.preset(rules) | lrp.override(**{node: Doubled()}))
    assert found and not found.startswith(ANSWERS)


@pytest.mark.parametrize(("by", "said"), [(2.0**-52, "rounding decides\n"), (1e-6, "backward afterwards\n")])
def test_torchs_own_gradients_may_differ_in_a_last_digit(
    by: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two forwards of one program, by where their memory begins. A changed gradient is more than that."""
    grads, calls = Recorded.grads, itertools.count()

    def unlike(self: Recorded) -> list[Tensor | None]:
        factor = 1 + by * (next(calls) % 2)
        return [None if g is None else g * factor for g in grads(self)]

    monkeypatch.setattr(Recorded, "grads", unlike)
    program = Program(8, (Step("SinBackward0", (0,), 5), Step("FlipBackward0", (1,), 5)))
    assert trouble(program, RULES).startswith(said)
