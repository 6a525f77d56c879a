"""Nodes that pass several tensors through, each on its own: every output is live by its own operands."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn

Two = Callable[[Tensor, Tensor], Tensor]


class Apply(nn.Module):
    """A module of any function."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *xs: Tensor) -> object:
        return self.function(*xs)


def hooked(function: Callable[..., object]) -> Callable[..., object]:
    """``function`` as a module with a full backward hook and pre-hook, neither of which may run."""
    module = Apply(function)

    def fails(*_: object) -> None:
        raise AssertionError("a hook was run")

    module.register_full_backward_hook(fails)
    module.register_full_backward_pre_hook(fails)
    return module


def attention(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ k


def both(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return a.exp(), b * 3


def of_both(f: Callable[..., tuple[Tensor, Tensor]]) -> Two:
    def product(a: Tensor, b: Tensor) -> Tensor:
        u, v = f(a, b)
        return u * v + (v / u).tanh()

    return product


def listed(f: Callable[..., list[Tensor]]) -> Two:
    return lambda a, b: torch.mul(*f([a, b])) - 2 * f([b, a])[0]


SPELLINGS: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
    "product": (lambda a, b: a * b, hooked(lambda a, b: a * b)),
    "attention": (attention, hooked(attention)),
    "two outputs": (of_both(both), of_both(hooked(both))),  # type: ignore[arg-type]
    "hook in hook": (of_both(both), of_both(hooked(hooked(both)))),  # type: ignore[arg-type]
    "gate": (lambda a, b: a * a.sigmoid() * b, lambda a, b: a * hooked(torch.sigmoid)(a) * b),  # type: ignore[operator]
    "exp of a list": (listed(lambda t: [x.exp() for x in t]), listed(torch._foreach_exp)),
    "product of lists": (
        listed(lambda t: [x * y for x, y in zip(t, t[::-1])]),
        listed(lambda t: list(torch._foreach_mul(t, t[::-1]))),
    ),
    "norm of a list": (
        listed(lambda t: [torch.linalg.vector_norm(x) for x in t]),
        listed(torch._foreach_norm),
    ),
}


@pytest.mark.parametrize("constant", ["frozen", "trainable", "read out", "live"])
@pytest.mark.parametrize("swap", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("rules", ["default", "epsilon"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_tensor_that_passes_beside_another_keeps_its_own_liveness(
    name: str, rules: str, swap: bool, constant: str
) -> None:
    """Whether the other tensor is frozen, trainable or read out changes nothing; only naming it does."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=constant != "frozen")
    maps = []
    for call in SPELLINGS[name]:
        with lrp.record():
            y = call(other, x) if swap else call(x, other)
        inputs = [x, other] if constant == "live" else [x]
        at = [other] if constant == "read out" else []
        run = lrp.propagate(y, inputs, rules=rules, at=at, ledger=True)
        assert run.ledger is not None and run.ledger.closed, run.ledger
        maps.append(run.relevance + run.at)
    for plain, passed in zip(*maps):
        torch.testing.assert_close(passed, plain, rtol=1e-9, atol=1e-9)


def test_an_output_of_a_hook_is_an_input() -> None:
    """A named output is live by itself: the tensor that passes beside it stays constant."""
    a, b = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    u, v = hooked(lambda a, b: (a.view_as(a), b.view_as(b)))(a, b)  # type: ignore[misc]
    (r,) = lrp.relevance(u * v, u)
    torch.testing.assert_close(r, (a * b).detach())
