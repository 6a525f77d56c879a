"""The value of a term as its sum less the others, and where that would cost digits."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.node import address
from torch import Tensor, nn

from tests.core.graphs import sweep_of
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


def test_source_difference() -> None:
    x = leaf_of(4)
    y = x * 1.0 + 2.0
    run = lrp.propagate(y, x, rules=lrp.preset("dynamiclrp", epsilon=0.0))
    assert run.promises.sources["difference"] == 1
    expected = [(v + 2) * abs(v) / (abs(v) + 2) for v in x.detach().tolist()]
    torch.testing.assert_close(run.relevance[0], torch.tensor(expected, dtype=torch.float64))


class Branch(nn.Module):
    """``LayerNorm(x + views of W x)``: the norm saves the sum, nobody the branch."""

    def __init__(self, scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 6).to(dtype)
        self.norm = nn.LayerNorm(6).to(dtype)
        self.layer.weight.data *= scale
        self.made: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x.flatten(0, 1)).view(3, 2, 6).transpose(0, 1)
        self.made.append(h)
        y: Tensor = self.norm(x + h)
        return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_residual_branch_is_the_sum_less_the_stream(dtype: torch.dtype) -> None:
    model, x = Branch(3.0, dtype), leaf_of(2, 3, 6).detach().to(dtype).requires_grad_()
    sweep = sweep_of(model(x), x)
    (h,) = model.made
    assert h.grad_fn is not None
    layer = h.grad_fn.next_functions[0][0].next_functions[0][0]  # below transpose and view
    for node, expected in ((h.grad_fn, h), (layer, h.transpose(0, 1).flatten(0, 1))):
        found = sweep.values.output(sweep.op(node), 0)
        torch.testing.assert_close(found, expected, rtol=0, atol=20 * torch.finfo(dtype).eps)
        sweep.values.memo.clear()
    assert sweep.values.stats.sources["difference"] == 2
    assert sweep.values.stats.sources["recomputed"] == 0


@pytest.mark.parametrize(
    ("scale", "dtype"), [(0.01, torch.float32), (3.0, torch.bfloat16)], ids=["lost digits", "half precision"]
)
def test_a_branch_that_the_sum_rounds_away_is_computed_again(scale: float, dtype: torch.dtype) -> None:
    model, x = Branch(scale, dtype), leaf_of(2, 3, 6).detach().to(dtype).requires_grad_()
    model.layer.bias.data.zero_()
    sweep = sweep_of(model(x), x)
    (h,) = model.made
    assert h.grad_fn is not None
    torch.testing.assert_close(sweep.values.output(sweep.op(h.grad_fn), 0), h, rtol=0, atol=0)
    assert sweep.values.stats.sources["difference"] == 0


def test_a_branch_of_a_masked_sum_is_computed_again() -> None:
    """-inf less -inf is no value."""
    x, w, mask = leaf_of(3, 4), leaf_of(4, 4, seed=1), torch.zeros(3, 4, dtype=torch.float64)
    mask[0, 1] = -torch.inf
    h, masked = x @ w, x + mask
    total = masked + h
    sweep = sweep_of(total, x)
    sweep.values.existing.known |= {address(t): t.detach() for t in (masked, total)}
    torch.testing.assert_close(sweep.values.output(sweep.op(h.grad_fn), 0), h)
    mask[0, 1] = 0
    masked.data.copy_(x + mask)
    total.data.copy_(masked + h)
    assert sweep.values.stats.sources["difference"] == 0
    sweep.values.memo.clear()
    torch.testing.assert_close(sweep.values.output(sweep.op(h.grad_fn), 0), h)
    assert sweep.values.stats.sources["difference"] == 1


def test_the_difference_is_refused_where_cancellation_eats_it() -> None:
    # float32: 1e6 + 0.01 has no digit of the constant left.
    x = (torch.rand(4) * 1e6 + 1e6).requires_grad_()
    y = x * 1.0 + 0.01
    with pytest.raises(lrp.Unrecoverable):
        lrp.relevance(y, x, rules="dynamiclrp")


def test_the_difference_is_refused_entry_by_entry() -> None:
    # One entry has all digits, the other none: the whole is not to be trusted.
    x = torch.tensor([1e8, 1.0]).requires_grad_()
    c = torch.tensor([1.0, 1e6])
    y = x * 1.0 + c
    try:
        sweep = sweep_of(y, x)
        sweep.values.existing.known[address(y)] = y.detach()
        found = sweep.values.existing.difference(sweep.op(y.grad_fn), 1)
    except lrp.Unrecoverable:
        return
    assert found is None or torch.allclose(found, c, rtol=1e-3)


def test_the_difference_is_refused_in_half_precision() -> None:
    x = torch.randn(4, dtype=torch.bfloat16).requires_grad_()
    with pytest.raises(lrp.Unrecoverable):
        lrp.relevance(x * 1.0 + 2.0, x, rules="dynamiclrp")
