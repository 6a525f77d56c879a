"""Samples of losses, and the same losses written by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

TWO = ("n 4", "n 4")
WIDE = (torch.float64, torch.float32)
EACH: dict[str, Any] = {"reduction": "none"}


def classes(a: Tensor) -> Tensor:
    """The class of each row: 1."""
    return torch.ones(len(a), dtype=torch.int64, device=a.device)


def pixels(a: Tensor) -> Tensor:
    """The classes of the two pixels of each row: 0 and 3."""
    return torch.tensor([[[0, 3]]], device=a.device).expand(len(a), 1, 2)


def some(a: Tensor) -> Tensor:
    """The classes of three rows, the last to be ignored."""
    return torch.tensor([0, 2, 3], device=a.device)


def per_class(a: Tensor) -> Tensor:
    """A weight for each of four classes."""
    return torch.tensor([0.5, 2.0, 1.0, 1.5], dtype=a.dtype, device=a.device)


def log_likelihood(a: Tensor) -> Tensor:
    """Minus the log-probability of each row's class, by hand."""
    return -a.gather(1, classes(a)[:, None])[:, 0]


def times_itself(a: Tensor) -> Tensor:
    """The square as a product."""
    return a * a


def huber(a: Tensor, b: Tensor, delta: float) -> Tensor:
    """The quadratic and the linear part apart."""
    size = (a - b).abs()
    quadratic = size.clamp(max=delta)
    return quadratic.square() / 2 + delta * (size - quadratic)


def log_odds(a: Tensor) -> Tensor:
    """The logarithm of the sigmoid, by hand."""
    return -((-a).exp() + 1).log()


def signs(a: Tensor) -> Tensor:
    """Labels 1 and -1 in turn."""
    return 1 - 2.0 * (torch.arange(a.numel(), device=a.device) % 2).view(a.shape).to(a)


def margins(a: Tensor) -> Tensor:
    """What each class misses of the margin 1 to the row's own class, by hand."""
    each = []
    for x, k in zip(a, classes(a).tolist()):
        others = [(x[j] - x[k] + 1).clamp(min=0) for j in range(len(x)) if j != k]
        each.append(torch.stack(others).sum() / len(x))
    return torch.stack(each) if each else a.sum(1)


def labels(a: Tensor) -> Tensor:
    """Classes 0 and 2 of four, and what stands behind the end of the list."""
    return torch.tensor([2, 0, -1, 3], device=a.device).expand(len(a), 4)


def label_margins(a: Tensor) -> Tensor:
    """What classes 1 and 3 miss of the margin to classes 0 and 2, by hand."""
    return sum((1 - (a[:, j] - a[:, i])).clamp(min=0) for j, i in product((0, 2), (1, 3))) / 4  # type: ignore[return-value]


def symbols(a: Tensor) -> Tensor:
    """The sequence 1, 2 for every sample of a batch."""
    return torch.tensor([1, 2], device=a.device).expand(a.shape[1], 2)


def ctc(a: Tensor, tensors: bool = False) -> Tensor:
    """Minus the log of the probability of the sequence 1, 2; of the second sample by its first 3 steps."""
    lengths: list[Any] = [[4, 3, 4][: a.shape[1]], [2] * a.shape[1]]
    if tensors:
        lengths = [torch.tensor(each).long() for each in lengths]
    made: Tensor = torch._ctc_loss(a, symbols(a), *lengths)[0]
    return made


def paths(a: Tensor) -> Tensor:
    """The same by all paths that read 1, 2 without their repetitions and blanks (0)."""
    each = []
    for k in range(a.shape[1]):
        steps, sums = (4, 3, 4)[k], []
        for path in product(range(a.shape[2]), repeat=steps):
            read = [s for t, s in enumerate(path) if s and (t == 0 or path[t - 1] != s)]
            if read == [1, 2]:
                sums.append(torch.stack([a[t, k, s] for t, s in enumerate(path)]).sum())
        each.append(-torch.stack(sums).logsumexp(0))
    return torch.stack(each)


SAMPLES = (
    Sample("NllLossBackward0", lambda a: F.nll_loss(a, classes(a), **EACH), decomposed=log_likelihood),
    Sample("NllLossBackward0", lambda a: F.nll_loss(a, classes(a)), batched=False, label="mean",
        decomposed=lambda a: log_likelihood(a).mean()),
    Sample("NllLossBackward0", lambda a: F.nll_loss(
        a, some(a), per_class(a), ignore_index=3), ("3 4",), batched=False, label="weight"),
    Sample("NllLoss2DBackward0", lambda a: F.nll_loss(
        a, pixels(a), per_class(a), **EACH), ("n 4 1 2",)),
    Sample("NllLoss2DBackward0", lambda a: F.nll_loss(
        a, pixels(a), reduction="sum"), ("n 4 1 2",),
        batched=False, label="sum"),
    Sample("MseLossBackward0", lambda a, b: F.mse_loss(a, b, **EACH), TWO,
        decomposed=lambda a, b: (a - b) ** 2),
    Sample("MseLossBackward0", F.mse_loss, TWO, batched=False, label="mean",
        decomposed=lambda a, b: times_itself(a - b).mean()),
    Sample("MseLossBackward0", lambda a, b: F.mse_loss(a, b, reduction="sum"), TWO, batched=False,
        label="sum", decomposed=lambda a, b: (a - b).square().sum()),
    Sample("HuberLossBackward0", lambda a, b: F.huber_loss(a, b, delta=0.7, **EACH), TWO,
        decomposed=lambda a, b: huber(a, b, 0.7)),
    Sample("SmoothL1LossBackward0", lambda a, b: F.smooth_l1_loss(a, b, beta=0.7, **EACH), TWO,
        decomposed=lambda a, b: huber(a, b, 0.7) / 0.7),
    Sample("SmoothL1LossBackward0", lambda a, b: torch.ops.aten.smooth_l1_loss(a, b, 1, 0.0), TWO,
        batched=False, label="l1", decomposed=F.l1_loss),
    Sample("BinaryCrossEntropyBackward0",
        lambda a, b: F.binary_cross_entropy(a / 2 + 0.5, b / 2 + 0.5, **EACH), TWO, "unit",
        decomposed=lambda a, b: -(
            (b / 2 + 0.5) * (a / 2 + 0.5).log() + (1 - (b / 2 + 0.5)) * (-(a / 2 + 0.5)).log1p())),
    Sample("BinaryCrossEntropyBackward0",
        lambda a: F.binary_cross_entropy(a / 2 + 0.5, (signs(a) + 1) / 2, per_class(a)), domain="unit",
        batched=False, label="weight"),
    Sample("BinaryCrossEntropyWithLogitsBackward0",
        lambda a, b: F.binary_cross_entropy_with_logits(a, b, **EACH), TWO,
        decomposed=lambda a, b: -(b * log_odds(a) + (1 - b) * log_odds(-a))),
    Sample("BinaryCrossEntropyWithLogitsBackward0",
        lambda a: F.binary_cross_entropy_with_logits(a, (signs(a) + 1) / 2, **EACH), label="labels",
        decomposed=lambda a: F.softplus(-a * signs(a))),
    Sample("BinaryCrossEntropyWithLogitsBackward0", lambda a, b: F.binary_cross_entropy_with_logits(
        a, b, per_class(a), pos_weight=per_class(a).flip(0)), TWO, batched=False, label="weight"),
    Sample("SoftMarginLossBackward0", lambda a: F.soft_margin_loss(a, signs(a), **EACH),
        decomposed=lambda a: (1 + (-a * signs(a)).exp()).log()),
    Sample("MultiMarginLossBackward0", lambda a: F.multi_margin_loss(a, classes(a), **EACH), dtypes=WIDE,
        decomposed=margins),
    Sample("MultiMarginLossBackward0", lambda a: F.multi_margin_loss(
        a, classes(a), p=2, margin=0.5, weight=per_class(a)), batched=False, dtypes=WIDE,
        label="squares"),
    Sample("MultilabelMarginLossBackward0", lambda a: F.multilabel_margin_loss(a, labels(a), **EACH),
        dtypes=WIDE, decomposed=label_margins),
    Sample("CtcLossBackward0", ctc, ("4 n 3",), batched=False, dtypes=WIDE, decomposed=paths),
    Sample("CtcLossBackward1", lambda a: ctc(a, tensors=True), ("4 n 3",), batched=False, dtypes=WIDE),
)  # fmt: skip
