"""Bad graphs and values, drawn (see ``mistakes``)."""

from __future__ import annotations

import warnings
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor

from tests.core.mistakes import Case, Mistakes, wide

mistake = Mistakes()


class Unknown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        raise AssertionError("never run unasked")


@mistake(lrp.FreedGraph)
def freed(case: Case) -> None:
    torch.autograd.grad(case.y.sum(), case.x)


@mistake(lrp.FreedGraph)
def partly_freed(case: Case) -> None:
    torch.autograd.grad(case.net.hidden.sum(), case.x)


@mistake(lrp.ModifiedInPlace)
def weight_changed(case: Case) -> None:
    with torch.no_grad():
        case.net.second.weight.mul_(1.5)


@mistake(lrp.ModifiedInPlace)
def first_weight_changed(case: Case) -> None:
    with torch.no_grad():
        case.net.first.weight.zero_()


@mistake(lrp.ModifiedInPlace)
def hidden_changed(case: Case) -> None:
    with torch.no_grad():
        case.net.hidden.add_(1.0)


@mistake(lrp.ModifiedInPlace)
def input_changed(case: Case) -> None:
    with torch.no_grad():
        case.x.add_(1.0)


@mistake(lrp.MissingRule)
def unknown_node(case: Case) -> None:
    case.call["outputs"] = Unknown.apply(case.y)  # type: ignore[no-untyped-call]


@mistake(lrp.CompiledGraph)
def compiled(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        double = torch.compile(lambda t: (t * 2).relu(), backend="aot_eager")
        case.call["outputs"] = double(case.y)


@mistake(lrp.NoGraph)
def detached_output(case: Case) -> None:
    case.call["outputs"] = case.y.detach()


@mistake(lrp.NoGraph)
def output_without_grad(case: Case) -> None:
    with torch.no_grad():
        case.call["outputs"] = case.net(case.x)


@mistake(lrp.NoGraph)
def integer_output(case: Case) -> None:
    case.call["outputs"] = case.y.argmax(-1)


@mistake(lrp.NoGraph)
def no_outputs(case: Case) -> None:
    case.call["outputs"] = ()


@mistake(lrp.NoGraph)
def numbers_for_outputs(case: Case) -> None:
    case.call["outputs"] = case.y.tolist()


@mistake(lrp.NoGraph)
def nothing_for_outputs(case: Case) -> None:
    case.call["outputs"] = None


# -- values and settings ----------------------------------------------------------------------------


@mistake(lrp.NonFinite)
def factor_of_inf(case: Case) -> None:
    case.call["outputs"] = case.y * float("inf")


@mistake(lrp.NonFinite)
def divided_by_zero(case: Case) -> None:
    case.call["outputs"] = case.y / torch.zeros(3, **wide)


@mistake(lrp.DynamicLRPError)
def unknown_preset(case: Case) -> None:
    case.rules = "epsilom"


@mistake(TypeError)
def rules_that_are_none(case: Case) -> None:
    case.rules = None  # type: ignore[assignment]


@mistake(TypeError)
def integer_dtype(case: Case) -> None:
    case.call["dtype"] = torch.long


@mistake(TypeError)
def unknown_policy(case: Case) -> None:
    case.call["on_missing"] = "ignore"


@pytest.mark.parametrize("name", sorted(mistake))
def test_a_mistake_gives_an_error_with_its_cure_or_the_right_numbers(name: str) -> None:
    mistake.check(name)
