"""Wrong rows that the class check catches, family by family (right ones: tests/test_every_rule.py)."""

from __future__ import annotations

from dataclasses import replace

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.families import (
    adding,
    affine,
    composite,
    copying,
    elementwise,
    homogeneous,
    linear,
    moving,
    product,
    quotient,
    scaling,
    softmax,
)
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.testing import Case
from dynamiclrp_core.testing.derive import CLAIMS, check_class


def case_of(sample: Sample) -> Case:
    """The sample with as many live tensors as it may have."""
    return Case(sample, list(sample.subsets())[-1], dtype=sample.precision)


def weights(*given: float):
    return lambda op: given


TWO = ("n 4", "n 4")
WRONG = {
    # family: what is said of it, a call, its tensors, and a row that says too much of it
    "linear": ("its gradient differs", torch.exp, ("n 4",),
        linear("ExpBackward0", forward=lambda op, x: x.exp())),
    "linear of a product": ("its gradient differs", lambda a: a.cumprod(1), ("n 4",),
        linear("CumprodBackward0", forward=lambda op, x: x.cumprod(op.saved.dim))),
    "linear of a rounded value": ("J x is not its output", torch.round, ("n 4",),
        linear("RoundBackward0", forward=lambda op, x: x.round())),
    "moving": ("its gradient is not 0 or 1", torch.neg, ("n 4",),
        moving("NegBackward0", forward=lambda op, x: -x)),
    "moving what adds up": ("more than one goes to an entry", lambda a: a.sum(1), ("n 4",),
        moving("SumBackward1", forward=lambda op, x: x.sum(1))),
    "winner": ("selects by value", lambda a: a.max(1), ("n 4",), moving("MaxBackward0",
        forward=lambda op, x: x.gather(1, op.saved.indices[:, None])[:, 0])),
    "elementwise": ("another's operand", lambda a: a.cumsum(1), ("n 4",),
        elementwise("CumsumBackward0", forward=lambda op, x: x.cumsum(op.saved.dim))),
    "elementwise with fewer results": ("2 entries of 8", lambda a: a.sum(1), ("n 4",),
        elementwise("SumBackward1", forward=lambda op, x: x.sum(1))),
    "elementwise's degree": ("output 0 is not of degree 1", torch.tanh, ("n 4",),
        elementwise("TanhBackward0", forward=lambda op, x: x.tanh(), degree=1.0)),
    "scaling": ("not a scaling", torch.nn.functional.leaky_relu, ("n 4",), scaling("LeakyReluBackward0",
        forward=lambda op, x: torch.nn.functional.leaky_relu(x, op.saved.negative_slope))),
    "copy": ("not a copy", torch.neg, ("n 4",), copying("NegBackward0", forward=lambda op, x: -x)),
    "adding": ("is not its weight 1", lambda a, b: torch.add(a, b, alpha=2), TWO,
        adding("AddBackward0", weights=weights(1, 1), forward=lambda op, a, b: a + 2 * b)),
    "product": ("not linear in its factor self", torch.add, TWO,
        product("AddBackward0", forward=lambda op, a, b: a + b)),
    "quotient": ("not a quotient", torch.mul, TWO, quotient("MulBackward0", forward=lambda op, a, b: a * b)),
    "affine": ("not linear in its factor self", torch.hypot, TWO,
        affine("HypotBackward0", "self other", factors=(0, 1), forward=lambda op, a, b: torch.hypot(a, b))),
    "homogeneous": ("output 0 is not of degree 1", lambda a: a.var(1), ("n 4",),
        homogeneous("VarBackward0", degree=1.0, forward=lambda op, x: x.var(1))),
    "degree of one output": ("output 0 is not of degree 1", lambda a: torch.var_mean(a, 1), ("n 4",),
        homogeneous("VarMeanBackward0", degree=1.0, forward=lambda op, x: tuple(torch.var_mean(x, 1)))),
    "softmax": ("a shift of its operands", lambda a: a.norm(dim=1), ("n 4",),
        softmax("LinalgVectorNormBackward0", forward=lambda op, x: x.norm(dim=1))),
    # Right at the operands, wrong beside them.
    "forward": ("gradient of its forward differs", torch.sin, ("n 4",),
        composite("SinBackward0", forward=lambda op, x: op.saved.self.sin() + 0 * x)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_caught(name: str) -> None:
    says, call, shapes, row = WRONG[name]
    sample = Sample(row.node, call, shapes, "distinct" if name == "winner" else "real")
    with pytest.raises(AssertionError, match=f"{row.node}, a row of family {row.family}: .*{says}"):
        check_class(case_of(sample), lrp.load_rules() | lrp.Rules.of(row))


def test_every_claim_has_a_wrong_row() -> None:
    caught = {row.family for *_, row in WRONG.values()}
    same_claim = {"transform"}  # linear's
    assert set(CLAIMS) - same_claim <= caught


def test_the_row_that_is_right_passes_where_the_wrong_one_fails() -> None:
    _, call, shapes, row = WRONG["homogeneous"]
    rules = lrp.load_rules() | lrp.Rules.of(replace(row, degree=2.0))
    check_class(case_of(Sample(row.node, call, shapes)), rules)
