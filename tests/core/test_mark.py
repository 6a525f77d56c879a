"""stop_relevance: constant for relevance, the identity for everything else."""

from __future__ import annotations

import warnings

import dynamiclrp_core as lrp
import pytest
import torch


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, dtype=torch.float64, requires_grad=True)


def test_the_other_factor_takes_everything(x: torch.Tensor) -> None:
    y = lrp.stop_relevance(x.exp()) * x
    (r,) = lrp.relevance(y, x)
    torch.testing.assert_close(r, y.detach())


def test_a_stopped_term_of_a_sum_is_a_constant(x: torch.Tensor) -> None:
    run = lrp.propagate(lrp.stop_relevance(2 * x) + x, x, ledger=True)
    torch.testing.assert_close(run.relevance[0], x.detach())
    assert run.ledger is not None and run.ledger.closed


def test_values_are_found_through_it(x: torch.Tensor) -> None:
    with lrp.record():
        y = (lrp.stop_relevance(x + 1) + x * 2).relu()
    run = lrp.propagate(y, x, rules="dynamiclrp", ledger=True)
    assert run.ledger is not None and run.ledger.closed


def test_every_path_stopped_gives_none(x: torch.Tensor) -> None:
    (r,) = lrp.relevance(lrp.stop_relevance(x) * 3, x)
    assert not r.any()


def test_nobody_else_notices(x: torch.Tensor) -> None:
    def f(t: torch.Tensor) -> torch.Tensor:
        return lrp.stop_relevance(t) ** 3

    assert torch.equal(f(x), x**3)
    assert torch.autograd.gradcheck(f, (x,)) and torch.autograd.gradgradcheck(f, (x,))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(f))(x.detach()), 3 * x.detach() ** 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of its jit
        _, tangent = torch.func.jvp(f, (x.detach(),), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, 3 * x.detach() ** 2)


def test_only_tensors_can_be_marked() -> None:
    with pytest.raises(lrp.InvalidInput, match="takes a tensor, not float"):
        lrp.stop_relevance(1.0)  # type: ignore[arg-type]
