"""Activation checkpoints: the same map, one re-run per region, the user's backward still works."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

REENTRANT = pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
PRESETS = ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"]


class Block(nn.Module):
    """A region that counts its runs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.a = nn.Linear(4, 8, dtype=torch.float64)
        self.b = nn.Linear(8, 4, dtype=torch.float64)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x + self.b(F.gelu(self.a(x)) * self.a(x).tanh())


class PlainBlock(Block):
    """A region of which default asks for no value that is not saved where it is wanted."""

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return x + self.b(F.gelu(self.a(x)))


def setting(frozen: bool = False) -> tuple[list[Block], Tensor]:
    blocks = [Block(1), Block(2)]
    for block in blocks:
        block.requires_grad_(not frozen)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return blocks, x.requires_grad_()


def explained(blocks: list[Block], x: Tensor, reentrant: bool | None) -> Tensor:
    h = x
    for block in blocks:
        h = block(h) if reentrant is None else checkpoint(block, h, use_reentrant=reentrant)
    return h[:, 1].sum()


@REENTRANT
@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_the_map_is_that_of_the_model_without_checkpoints(reentrant: bool, rules: str, frozen: bool) -> None:
    blocks, x = setting(frozen)
    with lrp.record():
        plain = explained(blocks, x, None)
        y = explained(blocks, x, reentrant)
    torch.testing.assert_close(
        lrp.relevance(y, x, rules=rules)[0],
        lrp.relevance(plain, x, rules=rules)[0],
        rtol=1e-9,
        atol=1e-12,
    )


@REENTRANT
def test_each_region_is_run_again_exactly_once_per_run(reentrant: bool) -> None:
    blocks, x = [PlainBlock(1), PlainBlock(2)], setting()[1]
    y = explained(blocks, x, reentrant)
    for run in range(1, 4):
        lrp.relevance(y, x)
        assert [b.runs for b in blocks] == [1 + run, 1 + run]


@pytest.mark.parametrize("rules", ["epsilon", "gamma", "dynamiclrp"])
def test_promised_values_cost_one_more_re_run_and_not_one_per_field(rules: str) -> None:
    blocks, x = setting()
    y = explained(blocks, x, False)
    lrp.relevance(y, x, rules=rules)
    assert all(b.runs <= 3 for b in blocks)  # the forward, one for the sweep, one for the scan


@REENTRANT
def test_the_users_backward_works_before_and_after(reentrant: bool) -> None:
    blocks, x = setting()
    plain = explained(blocks, x, None)
    (expected,) = torch.autograd.grad(plain, x)
    y = explained(blocks, x, reentrant)
    first = lrp.relevance(y, x)[0]
    y.backward(retain_graph=True)
    torch.testing.assert_close(x.grad, expected)
    assert torch.equal(lrp.relevance(y, x)[0], first)
    x.grad = None
    y.backward()
    torch.testing.assert_close(x.grad, expected)


@REENTRANT
def test_dropout_inside_a_region_keeps_its_mask_and_the_generator_its_state(
    reentrant: bool,
) -> None:
    x = torch.randn(4, 50, requires_grad=True)
    kept: list[Tensor] = []

    def region(h: Tensor) -> Tensor:
        dropped = F.dropout(h * 1.0, 0.5)
        kept.append(dropped.detach() != 0)
        return dropped * 2

    with set_checkpoint_early_stop(False):
        y = checkpoint(region, x, use_reentrant=reentrant).sum()
    state = torch.get_rng_state()
    (r,) = lrp.relevance(y, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(kept) == 2 and torch.equal(kept[0], kept[1])
    torch.testing.assert_close(r, torch.where(kept[0], 4 * x.detach(), 0.0))


@REENTRANT
def test_arguments_that_are_no_tensors_or_have_no_gradient(reentrant: bool) -> None:
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    z = torch.randn(3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([2, 0, 1])
    mask = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    def region(factor: float, a: Tensor, i: Tensor, none: None, m: Tensor, b: Tensor) -> Tensor:
        assert none is None
        return a[i] * m * factor - b * 3

    y = checkpoint(region, 2.0, x * 1.0, ids, None, mask, z * 1.0, use_reentrant=reentrant)
    r_x, r_z = lrp.relevance(y.sum(), (x, z))
    torch.testing.assert_close(r_z, -3 * z.detach())
    by_hand = torch.zeros(3, dtype=torch.float64)
    for k in range(3):
        by_hand[ids[k]] += 2 * x.detach()[ids[k]] * mask[k]
    torch.testing.assert_close(r_x, by_hand)


def test_any_number_of_arguments_without_a_gradient() -> None:
    """The output is promised (sign saves nothing), so the region is run again on all of them."""
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    constants = [torch.full((3,), k / 300, dtype=torch.float64) for k in range(300)]

    def region(x: Tensor, *constants: Tensor) -> Tensor:
        return x * torch.stack(constants).sum(0)

    y = checkpoint(region, x, *constants, use_reentrant=True).sign() * x
    plain = region(x, *constants).sign() * x
    torch.testing.assert_close(lrp.relevance(y, x), lrp.relevance(plain, x))


@REENTRANT
def test_several_outputs_of_a_region_of_which_some_are_no_tensors(reentrant: bool) -> None:
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def region(h: Tensor) -> tuple[Tensor, None, Tensor, int]:
        return h * 2, None, h[:2].tanh() * 5, 3

    a, _, b, _ = checkpoint(region, x, use_reentrant=reentrant)
    (r,) = lrp.relevance((a.sum(), b.sum()), x)
    expected = 2 * x.detach()
    expected[:2] += 5 * x.detach()[:2].tanh()
    torch.testing.assert_close(r, expected)
    (r,) = lrp.relevance(b.sum(), x)
    torch.testing.assert_close(r[2:], torch.zeros(2, dtype=torch.float64))


@REENTRANT
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's, of the user
def test_nested_regions(reentrant: bool) -> None:
    blocks, x = setting()

    def outer(h: Tensor) -> Tensor:
        h = checkpoint(blocks[0], h, use_reentrant=reentrant)
        return checkpoint(blocks[1], h, use_reentrant=reentrant)

    y = checkpoint(outer, x, use_reentrant=reentrant)[:, 1].sum()
    expected = lrp.relevance(explained(blocks, x, None), x)[0]
    torch.testing.assert_close(lrp.relevance(y, x)[0], expected, rtol=1e-9, atol=1e-12)


@REENTRANT
def test_seeds_in_value_form_and_the_ledger_go_through(reentrant: bool) -> None:
    blocks, x = setting()
    y = explained(blocks, x, reentrant)
    run = lrp.propagate(y, x, torch.ones_like(y), ledger=True)
    plain = lrp.propagate(explained(blocks, x, None), x, torch.ones_like(y), ledger=True)
    torch.testing.assert_close(run.relevance[0], plain.relevance[0], rtol=1e-8, atol=1e-10)
    assert run.ledger.closed, str(run.ledger)
    assert run.ledger.by_cause == pytest.approx(plain.ledger.by_cause, rel=1e-6)


@REENTRANT
def test_an_intermediate_input_between_regions(reentrant: bool) -> None:
    blocks, x = setting()
    h = checkpoint(blocks[0], x, use_reentrant=reentrant)
    y = checkpoint(blocks[1], h, use_reentrant=reentrant)[:, 1].sum()
    r_x, r_h = lrp.relevance(y, (x, h))
    blocks2, _ = setting()
    g = blocks2[0](x)
    s_x, s_g = lrp.relevance(blocks2[1](g)[:, 1].sum(), (x, g))
    torch.testing.assert_close(r_x, s_x)
    torch.testing.assert_close(r_h, s_g)


def test_parameters_inside_a_plain_region_can_be_read_out() -> None:
    blocks, x = setting()
    y = explained(blocks, x, False)
    run = lrp.propagate(y, x, at=blocks[0].a.weight)
    plain = lrp.propagate(explained(blocks, x, None), x, at=blocks[0].a.weight)
    torch.testing.assert_close(run.at[0], plain.at[0], rtol=1e-9, atol=1e-12)


@REENTRANT
def test_a_region_under_autocast(reentrant: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    x = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = layer(x).sum()
        y = checkpoint(layer, x, use_reentrant=reentrant).sum()
    assert torch.equal(lrp.relevance(y, x)[0], lrp.relevance(plain, x)[0])


def test_gradients_of_parameters_are_not_touched_by_a_reentrant_re_run() -> None:
    blocks, x = setting()
    lrp.relevance(explained(blocks, x, True), x)
    assert all(p.grad is None for b in blocks for p in b.parameters())
    assert x.grad is None


def stale(blocks: list[Block], name: str) -> None:
    with torch.no_grad():
        blocks[0].get_parameter(name).mul_(1.5)


@REENTRANT
@pytest.mark.parametrize("name", ["a.weight", "b.bias"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("rules", ["default", "epsilon"])
def test_a_region_with_other_parameters_is_noticed(
    reentrant: bool, name: str, frozen: bool, rules: str
) -> None:
    """A region runs again on what its parameters are now: an error under record(), else a note."""
    blocks, x = setting(frozen)
    with lrp.record():
        y = explained(blocks, x, reentrant)
    before = lrp.propagate(y, x, rules=rules)
    assert not before.promises.notes
    stale(blocks, name)
    with pytest.raises(lrp.ModifiedInPlace, match="changed in place after the forward") as info:
        lrp.propagate(y, x, rules=rules)
    assert "cure: run the forward again" in str(info.value)
    with lrp.record():
        again = explained(blocks, x, reentrant)
    assert not torch.equal(lrp.relevance(again, x, rules=rules)[0], before.relevance[0])


@REENTRANT
def test_without_a_recording_the_parameters_of_a_region_are_taken_for_granted(reentrant: bool) -> None:
    blocks, x = setting()
    run = lrp.propagate(explained(blocks, x, reentrant), x)
    assert any("parameters that the region of a checkpoint reads" in note for note in run.promises.notes)
    assert not lrp.propagate(explained(blocks, x, None), x).promises.notes


@REENTRANT
def test_parameters_of_another_forward_may_change(reentrant: bool) -> None:
    blocks, x = setting()
    others, z = setting()
    with lrp.record():
        y = explained(blocks, x, reentrant)
    expected = lrp.relevance(y, x)[0]
    with lrp.record() as held:
        explained(others, z, reentrant)
    stale(others, "a.weight")
    assert torch.equal(lrp.relevance(y, x)[0], expected) and held is not None
