"""What is explained, in terms of what: outputs, inputs, read-outs."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import nn

from tests.tensors import close, leaf_of, randn

# -- outputs and inputs ----------------------------------------------------------------------------


def test_several_outputs_add_up_also_when_one_is_an_ancestor() -> None:
    x = leaf_of(4)
    w = randn(4, 4, seed=1)
    h = x @ w
    y = (h * 3).sum()
    both = lrp.relevance((y, h), x)[0]
    swapped = lrp.relevance((h, y), x)[0]
    one = lrp.relevance(y, x)[0]
    other = lrp.relevance(h, x)[0]
    close(both, one + other)
    close(swapped, both)
    # By hand: R_i = 4 * sum_j x_i w_ij
    a = x.detach()
    by_hand = [4 * sum(float(a[i] * w[i, j]) for j in range(4)) for i in range(4)]
    close(both, torch.tensor(by_hand, dtype=torch.float64))


def test_the_same_output_twice_counts_twice() -> None:
    x = leaf_of(4)
    y = x.tanh()
    close(lrp.relevance((y, y), x)[0], 2 * lrp.relevance(y, x)[0])


def test_an_intermediate_input_does_not_stop_the_flow() -> None:
    x = leaf_of(2, 4)
    h = x @ randn(4, 4, seed=1)
    y = (h.relu() @ randn(4, 2, seed=2)).sum()
    r_x, r_h = lrp.relevance(y, (x, h))
    close(r_x, lrp.relevance(y, x)[0])
    close(r_h, lrp.relevance(y, h)[0])
    close(r_x.sum(), r_h.sum())


def test_a_residual_stream_as_input_and_its_source() -> None:
    x = leaf_of(3)
    h = x * 2
    y = h + x * 5
    r_x, r_h = lrp.relevance(y.sum(), (x, h))
    close(r_h, 2 * x.detach())
    close(r_x, 7 * x.detach())


def test_several_inputs_and_the_order_they_are_named_in() -> None:
    x, z = leaf_of(3), leaf_of(3, seed=1)
    y = (2 * x - 3 * z).sum()
    for names in ((x, z), (z, x), [x, z, x]):
        for t, r in zip(names, lrp.relevance(y, names)):
            close(r, (2 if t is x else -3) * t.detach())


def test_an_input_that_is_also_an_output() -> None:
    x = leaf_of(3)
    close(lrp.relevance(x, x)[0], x.detach())
    h = x * 2
    close(lrp.relevance(h, h)[0], h.detach())
    r_h, r_x = lrp.relevance((h, h.sum()), (h, x))
    close(r_h, 2 * h.detach())
    close(r_x, 2 * h.detach())


def test_a_seed_on_an_input_that_is_an_output_arrives_unchanged() -> None:
    x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    seed = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    close(lrp.relevance(x, x, seed)[0], seed)


def test_unreached_inputs_raise_or_are_zero() -> None:
    x, z = leaf_of(3), leaf_of(2, 2, seed=1)
    y = x.sum()
    with pytest.raises(lrp.UnreachableInput, match=r"inputs\[1\].*\(2, 2\)"):
        lrp.relevance(y, (x, z))
    run = lrp.propagate(y, (x, z), allow_unused=True)
    close(run.relevance[0], x.detach())
    assert run.relevance[1].shape == z.shape and not run.relevance[1].any()


def test_an_unreached_output_of_a_node_that_is_reached_through_another() -> None:
    x = leaf_of(4)
    a, b = x.split(2)
    y = a.sum()
    with pytest.raises(lrp.UnreachableInput, match=r"inputs\[0\]"):
        lrp.relevance(y, b)
    run = lrp.propagate(y, (a, b), allow_unused=True)
    close(run.relevance[0], a.detach())
    assert not run.relevance[1].any()


def test_an_unreached_read_out_raises_too() -> None:
    x, z = leaf_of(3), leaf_of(2, 2, seed=1)
    with pytest.raises(lrp.UnreachableInput, match=r"at\[0\]"):
        lrp.propagate(x.sum(), x, at=z)
    run = lrp.propagate(x.sum(), x, at=z, allow_unused=True)
    assert run.at[0].shape == z.shape and not run.at[0].any()


def test_none_edges_take_nothing() -> None:
    x = leaf_of(3)
    c = randn(3, seed=1)
    y = (x * c + c).sum()
    run = lrp.propagate(y, x, ledger=True)
    close(run.relevance[0], x.detach() * c)


def test_one_output_of_a_multi_output_node_as_input() -> None:
    x = leaf_of(2, 6)
    a, b, c = x.chunk(3, dim=1)
    y = (a * 2 + b * 3 + c * 5).sum()
    (r_b,) = lrp.relevance(y, b)
    close(r_b, 3 * b.detach())
    r_x, r_b = lrp.relevance(y, (x, b))
    close(r_b, 3 * b.detach())
    close(r_x, x.detach() * torch.tensor([2.0, 2, 3, 3, 5, 5], dtype=torch.float64))


def test_only_the_named_output_of_a_multi_output_node_is_live() -> None:
    # a * b: with b named, a is a constant factor and b takes all; with x named, both are live.
    x = leaf_of(4)
    a, b = x.split(2)
    y = (a * b).sum()
    close(lrp.relevance(y, b)[0], (a * b).detach())
    halves = (a * b).detach() / 2
    close(lrp.relevance(y, x)[0], torch.cat([halves, halves]))


def test_inputs_none_finds_the_data_leaves_and_no_parameter() -> None:
    model = nn.Linear(4, 2, dtype=torch.float64)
    x, z = leaf_of(2, 4), leaf_of(2, 4, seed=1)
    run = lrp.propagate((model(x) + model(z)).sum())
    assert len(run.relevance) == 2
    expected = {id(t): lrp.relevance((model(x) + model(z)).sum(), (x, z)) for t in (x,)}[id(x)]
    found = sorted(float(r.sum()) for r in run.relevance)
    assert found == pytest.approx(sorted(float(r.sum()) for r in expected))


# -- at= -------------------------------------------------------------------------------------------


def test_at_changes_nothing_and_reads_latents_and_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x = leaf_of(3, 4)
    h = model[0](x)
    y = model[2](model[1](h))[:, 1].sum()
    plain = lrp.propagate(y, x)
    run = lrp.propagate(y, x, at=(h, model[0].weight, model[2].bias))
    assert torch.equal(plain.relevance[0], run.relevance[0])
    close(run.at[0], lrp.relevance(y, h)[0])
    # a * c of parameters, by loops: c of the first weight is sum_n x_ni * (h_nj > 0) * w2_1j.
    w1, w2, a = model[0].weight.detach(), model[2].weight.detach(), x.detach()
    for j in range(5):
        for i in range(4):
            c = sum(float(a[n, i]) * float(h[n, j] > 0) * float(w2[1, j]) for n in range(3))
            assert float(run.at[1][j, i]) == pytest.approx(float(w1[j, i]) * c, abs=1e-12)
    close(run.at[2], model[2].bias.detach() * torch.tensor([0.0, 3.0], dtype=torch.float64))


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"])
def test_at_changes_nothing_under_any_preset(rules: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))
    model = model.double().eval()
    x = leaf_of(2, 1, 4, 4)
    y = model(x)[:, 0]
    plain = lrp.propagate(y, x, rules=rules)
    run = lrp.propagate(y, x, rules=rules, at=tuple(model.parameters()))
    # But for rounding: a read-out of the weights asks for those merged with the norm's.
    torch.testing.assert_close(plain.relevance[0], run.relevance[0], rtol=1e-12, atol=0)
    assert all(r.shape == p.shape for r, p in zip(run.at, model.parameters()))


def test_at_on_a_product_leaves_the_shares_alone() -> None:
    x, z = leaf_of(3), leaf_of(3, seed=1)
    y = (x * z).sum()
    run = lrp.propagate(y, x, at=z)
    close(run.relevance[0], (x * z).detach())
    close(lrp.relevance(y, (x, z))[0], (x * z).detach() / 2)


def test_at_upstream_of_the_inputs() -> None:
    x = leaf_of(3)
    h = x * 2
    y = (h * 3).sum()
    run = lrp.propagate(y, h, at=x)
    close(run.relevance[0], 6 * x.detach())
    close(run.at[0], 6 * x.detach())
