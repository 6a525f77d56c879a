"""What arrives at one tensor from many readers is summed in place, and never into somebody else's tensor."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor


def read_step_by_step(x: Tensor) -> Tensor:
    """x as a whole, its steps, overlapping and strided slices, and a step twice."""
    h = x.sum(0) + x[0] * 2
    for t in range(x.shape[0]):
        h = torch.tanh(h * 0.5) + x[t] + x[max(0, t - 1) : t + 1].sum(0) * 3
    return h + x[::2].sum(0) + x[1] + x.select(1, 1)[2] - x[:, 2:].sum()


@pytest.mark.parametrize("direct", [True, False], ids=["leaf", "inner"])
def test_steps_are_added_up_as_a_gradient_is(direct: bool) -> None:
    """Where all rules are linear, the coefficient is the gradient, whatever the order of arrival."""
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y = read_step_by_step(x if direct else x * 2)
    # tanh's coefficient is not its gradient, so compare with a run that may not add in place.
    (expected,) = lrp.relevance(y, x, create_graph=True)
    seed = y.detach()
    for _ in range(2):
        (r,) = lrp.relevance(y, x)
        torch.testing.assert_close(r, expected.detach(), rtol=1e-12, atol=1e-12)
    assert torch.equal(seed, y.detach())


def test_linear_reads_give_the_gradient() -> None:
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    parts = [x[i] * (i + 1.0) for i in range(6)] + [x[i : i + 3].sum(0) for i in range(4)] + [x[::2].sum(0)]
    y = torch.stack(parts).sum(0)
    (g,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.testing.assert_close(lrp.propagate(y, x).coefficients[0], g)


def test_a_coefficient_that_two_operands_share_is_not_written_to() -> None:
    """An add hands one tensor to both terms; a step of one of them must not show in the other."""
    a = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    y = (a + b).sum(0) + a[0] + a[1] * 2 + (a * 3).sum(0)
    run = lrp.propagate(y, (a, b))
    assert run.coefficients[1] is not None and torch.equal(run.coefficients[1], torch.ones(3, 2).double())
    expected = torch.tensor([[5.0, 5.0], [6.0, 6.0], [4.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(run.coefficients[0], expected)


def test_the_users_seed_is_not_written_to() -> None:
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    y = x * 1.0
    seed = torch.randn(3, 2, dtype=torch.float64)
    kept = seed.clone()
    z = y[0]
    lrp.relevance((y, z), x, (seed, None))
    lrp.relevance((y, z, y[1]), x)
    assert torch.equal(seed, kept)
