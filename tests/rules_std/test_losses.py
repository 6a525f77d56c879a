"""Losses of entries, rows and classes against their definitions, written as loops over single entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.rules_std.loss_tools import C, N, closed, random, value

Entry = Callable[[float, float], float]
LABELS = [[2, 0, -1, 3], [1, -1, 0, 0], [3, 3, 1, -1]]
"""Ends before the -1; the last names class 3 twice."""


def log_sigmoid(v: float) -> float:
    return -math.log1p(math.exp(-v))


# -- losses of one entry of the prediction and one of the target ----------------------------------------


def of_difference(f: Callable[[float], float]) -> tuple[Entry, Entry]:
    """f(x - t) with f(0) = 0: each term of the difference takes its part of f."""
    return (
        lambda x, t: x / (x - t) * f(x - t) if x != t else 0.0,
        lambda x, t: -t / (x - t) * f(x - t) if x != t else 0.0,
    )


def huber(d: float, delta: float) -> float:
    return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)


def bce_logits(x: float, t: float) -> float:
    """What the prediction adds to the loss of the logit 0."""
    return -t * log_sigmoid(x) - (1 - t) * log_sigmoid(-x) - math.log(2)


ENTRYWISE: dict[str, tuple[Callable[..., Tensor], tuple[Entry, Entry]]] = {
    # the loss; relevance of a prediction and of a target, the other one constant
    "mse": (F.mse_loss, of_difference(lambda d: d * d)),
    "l1": (F.l1_loss, of_difference(abs)),
    "huber": (
        lambda x, t, reduction: F.huber_loss(x, t, reduction, 0.6),
        of_difference(lambda d: huber(d, 0.6)),
    ),
    "smooth l1": (
        lambda x, t, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=0.6),
        of_difference(lambda d: huber(d, 0.6) / 0.6),
    ),
    "binary cross entropy": (
        F.binary_cross_entropy,
        # 0 and 1 of the target are what it would add at 0: -log(1 - x).
        (lambda x, t: -t * math.log(x) - (1 - t) * math.log(1 - x), lambda x, t: -t * math.log(x / (1 - x))),
    ),
    "binary cross entropy with logits": (
        F.binary_cross_entropy_with_logits,
        (bce_logits, lambda x, t: -t * (log_sigmoid(x) - log_sigmoid(-x))),
    ),
}


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", ENTRYWISE)
def test_entry_by_entry(name: str, which: int, reduction: str) -> None:
    loss, definitions = ENTRYWISE[name]
    operands = [random(N, C), random(N, C, seed=1)]
    if name.startswith("binary"):
        operands[1] = operands[1].sigmoid()
    if name == "binary cross entropy":
        operands[0] = operands[0].sigmoid()
    operands[which].requires_grad_()
    got = closed(loss(*operands, reduction=reduction), operands[which])
    share = 1 / (N * C) if reduction == "mean" else 1.0
    for i, j in product(range(N), range(C)):
        x, t = value(operands[0], i, j), value(operands[1], i, j)
        assert math.isclose(got[i, j], share * definitions[which](x, t), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("name", ["mse", "l1", "huber", "smooth l1"])
def test_a_live_target_takes_the_rest_of_the_difference(name: str) -> None:
    loss, definitions = ENTRYWISE[name]
    x, t = random(N, C).requires_grad_(), random(N, C, seed=1).requires_grad_()
    y = loss(x, t, reduction="none")
    both = lrp.relevance(y, (x, t))
    for definition, got in zip(definitions, both):
        for i, j in product(range(N), range(C)):
            assert math.isclose(got[i, j], definition(value(x, i, j), value(t, i, j)), abs_tol=1e-12)
    assert torch.allclose(sum(both), y.detach())


def test_of_a_product_with_a_live_target_each_takes_half() -> None:
    x, t = random(N, C).requires_grad_(), random(N, C, seed=1).sigmoid().requires_grad_()
    run = lrp.propagate(F.binary_cross_entropy_with_logits(x, t, reduction="sum"), (x, t), ledger=True)
    assert run.ledger is not None and run.ledger.closed
    for i, j in product(range(N), range(C)):
        a, p = value(x, i, j), value(t, i, j)
        assert math.isclose(run.relevance[0][i, j], bce_logits(a, p) / 2)
        assert math.isclose(run.relevance[1][i, j], -p * (log_sigmoid(a) - log_sigmoid(-a)) / 2)


def test_weights_of_binary_cross_entropies() -> None:
    x, t = random(N, C).requires_grad_(), random(N, C, seed=1).sigmoid()
    weight, positive = random(C, seed=2).exp(), random(C, seed=3).exp()
    got = closed(F.binary_cross_entropy_with_logits(x, t, weight, reduction="sum", pos_weight=positive), x)
    p = x.detach().sigmoid().requires_grad_()
    of_p = closed(F.binary_cross_entropy(p, t, weight.expand(N, C), reduction="sum"), p)
    for i, j in product(range(N), range(C)):
        a, b, w, v = value(x, i, j), value(t, i, j), value(weight, j), value(positive, j)
        yes, no = log_sigmoid(a) + math.log(2), log_sigmoid(-a) + math.log(2)
        assert math.isclose(got[i, j], -w * (v * b * yes + (1 - b) * no))
        assert math.isclose(of_p[i, j], -w * (b * log_sigmoid(a) + (1 - b) * log_sigmoid(-a)))


def test_certain_predictions_are_finite() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True)
    y = F.binary_cross_entropy(x, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]).double(), reduction="none")
    assert y.tolist() == [0, 100, 100, 0, math.log(2)]
    # Torch's 100 in place of -log(0) is a constant.
    assert closed(y, x).tolist() == [0, 0, 0, 0, math.log(2)]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_soft_margin(reduction: str) -> None:
    x, sign = random(N, C).requires_grad_(), random(N, C, seed=1).sign()
    got = closed(F.soft_margin_loss(x, sign, reduction=reduction), x)
    share = 1 / (N * C) if reduction == "mean" else 1.0
    for i, j in product(range(N), range(C)):
        added = math.log1p(math.exp(-value(x * sign, i, j))) - math.log(2)
        assert math.isclose(got[i, j], share * added, rel_tol=1e-9)


# -- losses of rows and classes ---------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("pixels", [(), (2, 3)])
def test_log_likelihood(pixels: tuple[int, ...], reduction: str) -> None:
    x, weight = random(N, C, *pixels).requires_grad_(), random(C, seed=1).exp()
    target = torch.randint(C, (N, *pixels), generator=torch.Generator().manual_seed(2))
    got = closed(F.nll_loss(x, target, weight, ignore_index=2, reduction=reduction), x)
    counted = [n for n in product(range(N), *map(range, pixels)) if target[n] != 2]
    whole = sum(value(weight, target[n]) for n in counted) if reduction == "mean" else 1.0
    expected = torch.zeros_like(x)
    for row, *place in counted:
        k = int(target[(row, *place)])
        at = (row, k, *place)
        expected[at] = -value(weight, k) * value(x, *at) / whole
    assert torch.allclose(got, expected)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("p", [1, 2])
def test_multi_margin(p: int, reduction: str) -> None:
    x, weight, target = random(N, C).requires_grad_(), random(C, seed=1).exp(), [2, 0, 3]
    y = F.multi_margin_loss(x, torch.tensor(target), p, 0.8, weight, reduction=reduction)
    share = 1 / N if reduction == "mean" else 1.0
    expected = torch.zeros(N, C, dtype=torch.float64)
    for n, j in product(range(N), range(C)):
        k = target[n]
        miss = 0.8 - value(x, n, k) + value(x, n, j)
        if j != k and miss > 0:  # relu and square keep 0 at 0: the terms of the sum share miss ** p
            part = share * value(weight, k) / C * miss ** (p - 1)
            expected[n, j] += part * value(x, n, j)
            expected[n, k] -= part * value(x, n, k)
    assert torch.allclose(closed(y, x), expected)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_multilabel_margin(reduction: str) -> None:
    x = random(N, C).requires_grad_()
    y = F.multilabel_margin_loss(x, torch.tensor(LABELS), reduction=reduction)
    share = 1 / N if reduction == "mean" else 1.0
    expected = torch.zeros(N, C, dtype=torch.float64)
    for n, labels in enumerate(LABELS):
        named = labels[: labels.index(-1)]
        for j, i in product(named, range(C)):
            if i not in named and 1 - value(x, n, j) + value(x, n, i) > 0:
                expected[n, i] += share * value(x, n, i) / C
                expected[n, j] -= share * value(x, n, j) / C
    assert torch.allclose(closed(y, x), expected)


def test_one_row_without_a_batch() -> None:
    x = random(C).requires_grad_()
    for loss, target in ((F.multi_margin_loss, torch.tensor(1)), (F.nll_loss, torch.tensor(1)),
                         (F.multilabel_margin_loss, torch.tensor(LABELS[1]))):  # fmt: skip
        one, rows = (loss(z, t) for z, t in ((x, target), (x[None], target[None])))
        assert torch.equal(lrp.relevance(one, x)[0], lrp.relevance(rows, x)[0])


def reads(path: tuple[int, ...]) -> list[int]:
    """The symbols of a path, without repetitions and blanks (0)."""
    return [s for t, s in enumerate(path) if s and (t == 0 or path[t - 1] != s)]


@pytest.mark.parametrize("tensors", [False, True])
def test_ctc(tensors: bool) -> None:
    """x times the gradient of minus the log of the sum over all paths (torch's own presumes a softmax)."""
    lengths, targets = [4, 3], [[1, 2], [2, 2]]
    x = random(4, 2, 3).log_softmax(-1).requires_grad_()
    given = [torch.tensor(v) if tensors else v for v in (lengths, [2, 2])]
    y = torch._ctc_loss(x, torch.tensor(targets), *given)[0]
    expected = torch.zeros_like(x)
    for n, (length, target) in enumerate(zip(lengths, targets)):
        paths = [path for path in product(range(3), repeat=length) if reads(path) == target]
        odds = [math.exp(sum(value(x, t, n, s) for t, s in enumerate(path))) for path in paths]
        assert math.isclose(-math.log(sum(odds)), value(y, n))
        for path, p in zip(paths, odds):
            for t, s in enumerate(path):
                expected[t, n, s] -= p / sum(odds) * value(x, t, n, s)
    assert torch.allclose(closed(y, x), expected)


def test_ctc_that_no_path_reads() -> None:
    x = random(2, 2, 3).log_softmax(-1).requires_grad_()
    targets = torch.tensor([[1, 1], [1, 2]])
    with lrp.record():
        y = F.ctc_loss(x, targets, (2, 2), (2, 2), reduction="none", zero_infinity=True)
    got = closed(y, x)
    assert y[0] == 0 and y[1] > 0
    assert not got[:, 0].any()
    assert torch.equal(got[:, 1].nonzero(), torch.tensor([[0, 1], [1, 2]]))
