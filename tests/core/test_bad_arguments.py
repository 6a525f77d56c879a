"""Bad inputs and seeds, drawn (see ``mistakes``)."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch

from tests.core.mistakes import Case, Mistakes, wide

mistake = Mistakes()

# -- inputs -----------------------------------------------------------------------------------------


@mistake(lrp.InvalidInput)
def detached_input(case: Case) -> None:
    case.call["inputs"] = case.x.detach()


@mistake(lrp.UnreachableInput)
def copied_input(case: Case) -> None:
    case.call["inputs"] = case.x.clone()


@mistake(lrp.UnreachableInput)
def input_of_another_graph(case: Case) -> None:
    case.call["inputs"] = (case.x, torch.ones(3, requires_grad=True))


@mistake(lrp.InvalidInput)
def parameter_input(case: Case) -> None:
    case.call["inputs"] = (case.x, case.net.first.weight)


@mistake(lrp.InvalidInput)
def integer_input(case: Case) -> None:
    case.call["inputs"] = torch.arange(4)


@mistake(lrp.InvalidInput)
def input_that_is_no_tensor(case: Case) -> None:
    case.call["inputs"] = (case.x, case.x.detach().numpy())


@mistake(lrp.InvalidInput)
def number_for_inputs(case: Case) -> None:
    case.call["inputs"] = 3.0


@mistake(lrp.InvalidInput)
def no_inputs(case: Case) -> None:
    case.call["inputs"] = []


@mistake(lrp.UnreachableInput, lrp.InvalidInput)
def sparse_input(case: Case) -> None:
    case.call["inputs"] = torch.eye(2, **wide).to_sparse().requires_grad_()


@mistake(lrp.UnreachableInput)
def complex_input(case: Case) -> None:
    case.call["inputs"] = torch.ones(2, dtype=torch.complex128, requires_grad=True)


@mistake(lrp.UnreachableInput)
def input_on_meta(case: Case) -> None:
    case.call["inputs"] = torch.ones(2, 4, device="meta", requires_grad=True)


@mistake(lrp.InvalidInput, lrp.UnreachableInput)
def output_for_input(case: Case) -> None:
    case.call.update(outputs=case.net.hidden, inputs=case.y)


@mistake(lrp.InvalidInput)
def at_that_is_no_tensor(case: Case) -> None:
    case.call["at"] = ("hidden",)


@mistake(lrp.InvalidInput)
def number_for_at(case: Case) -> None:
    case.call["at"] = 3


def seed_of(case: Case, seed: object) -> None:
    case.call["output_relevance"] = seed


# -- seeds ------------------------------------------------------------------------------------------


@mistake(lrp.InvalidSeed)
def seed_of_another_shape(case: Case) -> None:
    seed_of(case, torch.ones(3, 2, **wide))


@mistake(lrp.InvalidSeed)
def seed_to_broadcast(case: Case) -> None:
    seed_of(case, torch.ones((), **wide))


@mistake(lrp.InvalidSeed)
def integer_seed(case: Case) -> None:
    seed_of(case, torch.ones(2, 3, dtype=torch.long))


@mistake(lrp.InvalidSeed)
def complex_seed(case: Case) -> None:
    seed_of(case, torch.ones(2, 3, dtype=torch.complex128))


@mistake(lrp.InvalidSeed)
def seed_on_meta(case: Case) -> None:
    seed_of(case, torch.ones(2, 3, device="meta", **wide))


@mistake(lrp.InvalidSeed)
def sparse_seed(case: Case) -> None:
    seed_of(case, torch.ones(2, 3, **wide).to_sparse())


@mistake(lrp.InvalidSeed)
def two_seeds(case: Case) -> None:
    seed_of(case, (case.y.detach(), case.y.detach()))


@mistake(lrp.InvalidSeed)
def seed_that_is_no_tensor(case: Case) -> None:
    seed_of(case, case.y.tolist())


@mistake(lrp.InvalidSeed)
def class_for_a_seed(case: Case) -> None:
    seed_of(case, 1)


@mistake(lrp.NonFinite)
def seed_of_nan(case: Case) -> None:
    seed_of(case, torch.full((2, 3), float("nan"), **wide))


@mistake(lrp.NonFinite)
def seed_of_inf(case: Case) -> None:
    seed_of(case, torch.full((2, 3), float("inf"), **wide))


@mistake(lrp.NonFinite)
def huge_seed(case: Case) -> None:
    seed_of(case, torch.full((2, 3), 1e308, **wide))


@pytest.mark.parametrize("name", sorted(mistake))
def test_a_mistake_gives_an_error_with_its_cure_or_the_right_numbers(name: str) -> None:
    mistake.check(name)
