"""A call that goes wrong in one way: an error with its cure or the right numbers, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dynamiclrp_core as lrp
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


Make = Callable[[Case], Any]


class Mistakes(dict[str, tuple[Make, tuple[type[Exception], ...]]]):
    """How to go wrong, and the errors that may come of it. No error at all: the numbers must be right."""

    def __call__(self, *errors: type[Exception]) -> Callable[[Make], Make]:
        def register(f: Make) -> Make:
            self[f.__name__] = f, errors
            return f

        return register

    def check(self, name: str) -> None:
        """Draw cases for one mistake: the error names its cure, or the numbers are right; nothing changed."""

        @relaxed
        @given(st.integers(0, 100), st.sampled_from(PRESETS))
        def holds(seed: int, rules: str) -> None:
            prove(*self[name], seed, rules)

        holds()


def prove(make: Make, errors: tuple[type[Exception], ...], seed: int, rules: str) -> None:
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
