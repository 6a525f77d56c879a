"""``record()``: what it keeps, what it must never confuse, and that it changes nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.core.shares import paper, share
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(12, 4), nn.GELU(), nn.Linear(4, 2),
    )  # fmt: skip


# -- what is kept ----------------------------------------------------------------------------------

LOST: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "x + 2": (lambda x: x + 2.0, lambda x: share(x, 2.0)),
    "2 + x": (lambda x: 2.0 + x, lambda x: share(x, 2.0)),
    "x - 2": (lambda x: x - 2.0, lambda x: share(x, -2.0)),
    "2 - x": (lambda x: 2.0 - x, lambda x: -share(x, -2.0)),
    "x + tensor": (lambda x: x + torch.full_like(x, 2.0), lambda x: share(x, 2.0)),
    "tensor + x": (lambda x: torch.full_like(x, 2.0) + x, lambda x: share(x, 2.0)),
    "add with alpha": (
        lambda x: torch.add(x, torch.full_like(x, 2.0), alpha=3),
        lambda x: share(x, 6.0),
    ),
    "into an accumulator": (
        lambda x: torch.full((4,), 2.0, dtype=torch.float64).add_(x),
        lambda x: share(x, 2.0),
    ),
    "a zero-dim constant": (lambda x: x + torch.tensor(2.0), lambda x: share(x, 2.0)),
}


@pytest.mark.parametrize("name", LOST)
def test_constants_of_sums_are_kept(name: str) -> None:
    f, expected = LOST[name]
    x = leaf_of(4)
    with lrp.record():
        y = f(x * 1.0)
    torch.testing.assert_close(paper(y, x), expected(x))


@pytest.mark.parametrize("name", LOST)
def test_without_it_they_are_unrecoverable_and_never_zero(name: str) -> None:
    x = leaf_of(4)
    y = -LOST[name][0](x * 1.0)  # nobody keeps the value of the sum
    with pytest.raises(lrp.Unrecoverable, match="record"):
        paper(y, x)


def test_a_frozen_bias_is_kept() -> None:
    layer = nn.Linear(3, 2, dtype=torch.float64).requires_grad_(False)
    x = leaf_of(2, 3)
    with lrp.record():
        y = layer(x)
    found = paper(y, x)
    w, b = layer.weight, layer.bias
    for n in range(2):
        by_hand = torch.zeros(3, dtype=torch.float64)
        for j in range(2):
            z = sum(float(x.detach()[n, i] * w[j, i]) for i in range(3))
            left = (z + float(b[j])) * abs(z) / (abs(z) + abs(float(b[j])))
            by_hand += torch.stack([x.detach()[n, i] * w[j, i] / z * left for i in range(3)])
        torch.testing.assert_close(found[n], by_hand)


def test_a_constant_changed_after_the_forward_is_noticed_or_harmless() -> None:
    # The recording holds the tensor itself: a write to it would change the explanation in silence.
    x = leaf_of(4)
    mask = torch.full((4,), 2.0, dtype=torch.float64)
    with lrp.record():
        y = x * 1.0 + mask
    mask.fill_(100.0)
    try:
        found = paper(y, x)
    except lrp.DynamicLRPError as error:
        assert "in place" in str(error)
    else:
        torch.testing.assert_close(found, share(x, 2.0))


def test_masks_and_fills_of_composites_are_kept() -> None:
    torch.manual_seed(0)
    q, k, v = (leaf_of(1, 2, 3, 4, seed=s) for s in range(3))
    mask = torch.zeros(3, 3, dtype=torch.float64).masked_fill(torch.ones(3, 3).triu(1) > 0, -1e9)
    with lrp.record() as kept:
        scores = q @ k.transpose(-2, -1) / 2 + mask
        y = F.softmax(scores, -1) @ v
    assert len(kept) >= 1
    run = lrp.propagate(y.sum(), (q, k, v), rules="dynamiclrp")
    assert all(bool(torch.isfinite(r).all()) for r in run.relevance)


# -- it changes nothing ----------------------------------------------------------------------------


def test_forward_backward_and_generator_are_the_same_bit_for_bit() -> None:
    results = []
    for recorded in (False, True):
        net = model()
        x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        torch.manual_seed(5)
        if recorded:
            with lrp.record() as kept:
                y = net(x)
            assert len(kept) > 0
        else:
            y = net(x)
        y.sum().backward()
        results.append(
            [y.detach(), x.grad, torch.get_rng_state(), *(p.grad for p in net.parameters()),
             *net.buffers()]
        )  # fmt: skip
    for plain, recorded_one in zip(*results):
        assert torch.equal(plain, recorded_one)


def test_coefficient_rules_give_the_same_with_and_without() -> None:
    net = model().eval()
    x = torch.randn(2, 1, 4, 4, requires_grad=True)
    plain = lrp.relevance(net(x)[:, 0], x)[0]
    with lrp.record():
        y = net(x)[:, 0]
    assert torch.equal(lrp.relevance(y, x)[0], plain)


def test_nothing_is_kept_without_grad_or_without_a_tracked_operand() -> None:
    x = leaf_of(3)
    with lrp.record() as kept:
        with torch.no_grad():
            _ = x + 1
        _ = x.detach() + 1
    assert len(kept) == 0


def test_an_error_in_the_forward_leaves_no_mode_behind() -> None:
    with pytest.raises(ValueError, match="mine"), lrp.record() as kept:
        raise ValueError("mine")
    _ = leaf_of(3) + 1
    assert len(kept) == 0


# -- which entry belongs to which node -------------------------------------------------------------


def test_nested_recordings_both_serve() -> None:
    x = leaf_of(4)
    with lrp.record() as outer:
        a = x * 1.0 + 2.0
        with lrp.record() as inner:
            b = x * 1.0 + 3.0
        c = x * 1.0 + 4.0
    assert len(inner) >= 1 and len(outer) >= 2
    for y, constant in ((a, 2.0), (b, 3.0), (c, 4.0)):
        torch.testing.assert_close(paper(y, x), share(x, constant))


def test_two_recordings_of_one_model_keep_apart() -> None:
    x = leaf_of(4)
    made = []
    for constant in range(1, 8):
        with lrp.record():
            made.append(x * 1.0 + float(constant))
    for constant, y in reversed(list(enumerate(made, 1))):
        torch.testing.assert_close(paper(y, x), share(x, float(constant)))


def test_only_the_last_eight_are_kept_unless_held() -> None:
    x = leaf_of(4)
    with lrp.record() as held:
        old = x * 1.0 + 2.0
    with lrp.record():
        lost = -(x * 1.0 + 3.0)
    for _ in range(8):
        with lrp.record():
            recent = x * 1.0 + 5.0
    torch.testing.assert_close(paper(old, x), share(x, 2.0))
    torch.testing.assert_close(paper(recent, x), share(x, 5.0))
    with pytest.raises(lrp.Unrecoverable):
        paper(lost, x)
    assert len(held) == 1


def test_clear_frees_at_once() -> None:
    x = leaf_of(4)
    mask = torch.full((4,), 2.0, dtype=torch.float64)
    gone = weakref.ref(mask)
    with lrp.record() as kept:
        y = -(x * 1.0 + mask)
    del mask
    assert gone() is not None
    kept.clear()
    assert gone() is None and len(kept) == 0
    with pytest.raises(lrp.Unrecoverable):
        paper(y, x)


def test_a_recording_does_not_keep_the_graph_alive() -> None:
    x = leaf_of(4)
    with lrp.record() as kept:
        h = x * 2.0
        y = h.sin() + 2.0
    gone = weakref.ref(h)
    del h, y
    gc.collect()
    assert gone() is None and len(kept) == 1


class AddsInside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return (x + 100.0) - 100.0

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g


def test_inner_calls_of_a_custom_function_match_no_other_node() -> None:
    from dynamiclrp_core.families import copying
    from dynamiclrp_core.node import kind

    x = leaf_of(4)
    with lrp.record():
        h = AddsInside.apply(x * 1.0)
        y = h + 2.0
    row = copying(kind(h.grad_fn), forward=lambda op, v: v)
    rules = lrp.preset("dynamiclrp", epsilon=0.0) | lrp.Rules.of(row)
    found = lrp.relevance(y, x, rules=rules)[0]
    torch.testing.assert_close(found, share(x, 2.0))


def test_inner_calls_of_a_reentrant_checkpoint_match_no_other_node() -> None:
    x = leaf_of(4)
    with lrp.record():
        a = x * 1.0 + 2.0
        h = checkpoint(lambda t: t + 50.0, a, use_reentrant=True)
        y = h + 3.0
    found = paper(y, x)
    # three sums by absolute ratio, from the end: by loops
    for v, r in zip(x.detach().tolist(), found.tolist()):
        end = v + 55.0
        r3 = (end) * abs(v + 52) / (abs(v + 52) + 3)
        r2 = r3 * abs(v + 2) / (abs(v + 2) + 50)
        assert r == pytest.approx(r2 * abs(v) / (abs(v) + 2))


def test_many_reentrant_checkpoints_do_not_push_out_the_users_recording() -> None:
    x = leaf_of(4)
    with lrp.record():
        h = x * 1.0 + 2.0
        for _ in range(12):
            h = checkpoint(lambda t: t * 1.0, h, use_reentrant=True)
    torch.testing.assert_close(paper(h, x), share(x, 2.0))
