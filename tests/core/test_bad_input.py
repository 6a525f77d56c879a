"""Bad input, drawn: an error with its cure or the right numbers, and nothing of the caller's changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PRESETS = ["default", "epsilon", "gamma", "alpha-beta", "dynamiclrp"]
relaxed = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # six examples need no shrinking
)
wide = dict(dtype=torch.float64)


class Net(nn.Module):
    """Layers, a slice write, an attention by hand or a checkpoint; ``hidden`` is a tensor in its middle."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Linear(4, 4, **wide), nn.Linear(4, 3, **wide)
        self.variant = seed % 4

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden = self.first(x).relu() if self.variant != 3 else self.first(x).tanh()
        if self.variant == 1:
            base = h * 2
            base[:, :2] = h[:, 2:]
            h = base
        elif self.variant == 2:
            h = h + (h @ h.mT).softmax(-1) @ h
        elif self.variant == 3:
            h = checkpoint(lambda t: (t * t).exp(), h, use_reentrant=False)
        return self.second(h)


@dataclass
class Case:
    """A model, its input and output, and what a mistake may change about the call."""

    seed: int
    rules: str
    net: Net = field(init=False)
    x: Tensor = field(init=False)
    y: Tensor = field(init=False)
    call: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.net = Net(self.seed)
        g = torch.Generator().manual_seed(self.seed)
        self.x = torch.randn(2, 4, generator=g, **wide).requires_grad_()
        with lrp.record():
            self.y = self.net(self.x)
        self.call = dict(outputs=self.y, inputs=self.x)

    def run(self) -> tuple[Tensor, ...]:
        return lrp.propagate(**self.call, rules=self.rules).relevance

    def state(self) -> list[Any]:
        """Whatever an error must leave alone. Versions tell writes that changed nothing."""
        tensors = [self.x, self.y, self.net.hidden, *self.net.parameters()]
        tensors += [t for t in self.call.values() if isinstance(t, Tensor) and t.layout == torch.strided]
        return [
            *[(t._version, t.requires_grad, t.grad_fn, t._backward_hooks) for t in tensors],
            *[t.grad for t in tensors if t.is_leaf],
            *[t.detach().numpy().tobytes() for t in tensors if t.device.type == "cpu"],
            torch.get_rng_state().numpy().tobytes(),
            (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        ]

    def backward(self) -> list[Any]:
        """Gradients by torch, or what it says where there are none to be had; the graph stays."""
        try:
            wanted = [self.x, *self.net.parameters()]
            grads = torch.autograd.grad(self.y.sum(), wanted, retain_graph=True)
        except RuntimeError as error:
            return [type(error)]
        return [g.numpy().tobytes() for g in grads]


class Unknown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        raise AssertionError("never run unasked")


MISTAKES: dict[str, tuple[Callable[[Case], Any], tuple[type[Exception], ...]]] = {}
"""How to go wrong, and the errors that may come of it. No error at all: the numbers must be right."""


def mistake(*errors: type[Exception]) -> Callable[[Callable[[Case], Any]], Callable[[Case], Any]]:
    def register(f: Callable[[Case], Any]) -> Callable[[Case], Any]:
        MISTAKES[f.__name__] = f, errors
        return f

    return register


def seed_of(case: Case, seed: object) -> None:
    case.call["output_relevance"] = seed


# -- graphs -----------------------------------------------------------------------------------------


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


def prove(name: str, seed: int, rules: str) -> None:
    make, errors = MISTAKES[name]
    expected = Case(seed, rules).run()
    case = Case(seed, rules)
    made = make(case)
    assert made is None
    before, state = case.backward(), case.state()
    try:
        found = case.run()
    except errors as error:
        assert "cure" in str(error), f"no cure in: {error}"
    else:
        for r, e in zip(found, expected):
            torch.testing.assert_close(r, e, rtol=1e-12, atol=1e-12)
    assert case.state() == state
    assert case.backward() == before


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_a_mistake_gives_an_error_with_its_cure_or_the_right_numbers(name: str) -> None:
    @relaxed
    @given(st.integers(0, 100), st.sampled_from(PRESETS))
    def holds(seed: int, rules: str) -> None:
        prove(name, seed, rules)

    holds()
