"""Losses, as the functions they are: spelled out by their definition, and each op in it gets its own rule.

A difference of prediction and target is a sum: a constant target absorbs its part of it, a live one takes it.
(The map of a loss tells what made it large. Why the model answered so is told by the map of its output.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.families import composite, custom, linear
from dynamiclrp_core.op import Op
from dynamiclrp_core.refusal import refused
from dynamiclrp_core.rule import Row
from dynamiclrp_core.rules.defaults import Gradient
from torch import Tensor

REDUCTIONS = ("none", "mean", "sum")


def _reduced(op: Op, each: Tensor) -> Tensor:
    match REDUCTIONS[op.saved.reduction]:
        case "mean":
            return each.mean()
        case "sum":
            return each.sum()
        case _:
            return each.reshape(op.shape)


def _weighed(op: Op, each: Tensor) -> Tensor:
    return each if op.saved.weight is None else each * op.saved.weight.to(each)


def _nll(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    weight = None if s.weight is None else s.weight.to(x)
    return F.nll_loss(x, s.target, weight, ignore_index=s.ignore_index, reduction=REDUCTIONS[s.reduction])


def _huber(d: Tensor, delta: float) -> Tensor:
    """``d^2 / 2``, and from ``delta`` on straight. A product of functions of d: one function, and 0 at 0."""
    bent = d.clamp(-delta, delta)
    return bent * (d - bent / 2)


def _smooth_l1(op: Op, x: Tensor, target: Tensor) -> Tensor:
    beta = op.saved.beta
    return _reduced(op, _huber(x - target, beta) / beta if beta else (x - target).abs())


def _or_least(log: Callable[[Tensor], Tensor], x: Tensor, pole: float) -> Tensor:
    """The logarithm, and the constant -100 where it is -inf, as torch has it."""
    at_pole = x == pole
    return log(x.masked_fill(at_pole, 0.5)).masked_fill(at_pole, -100.0)


def _binary_cross_entropy(op: Op, x: Tensor, target: Tensor) -> Tensor:
    # log1p, as torch computes it: log(1 - x) would have a constant, and a pole where the loss is largest.
    yes = target * _or_least(torch.log, x, 0.0)
    no = (1 - target) * _or_least(lambda p: torch.log1p(-p), x, 1.0)
    return _reduced(op, _weighed(op, -(yes + no)))


def _with_logits(op: Op, x: Tensor, target: Tensor) -> Tensor:
    yes = target * F.logsigmoid(x)
    if op.saved.pos_weight is not None:
        yes = yes * op.saved.pos_weight.to(yes)
    return _reduced(op, _weighed(op, -(yes + (1 - target) * F.logsigmoid(-x))))


def _multi_margin(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    rows = x.reshape(-1, x.shape[-1])
    target = s.target.reshape(-1, 1)
    miss = (rows - rows.gather(1, target) + s.margin).relu() ** s.p
    share = torch.ones_like(rows).scatter(1, target, 0.0) / x.shape[-1]
    if s.weight is not None:
        share = share * s.weight.to(x)[target]
    return _reduced(op, (miss * share).sum(1))


def _multilabel_margin(op: Op, x: Tensor) -> Tensor:
    """Each target against each class that is none; the targets end at the first -1."""
    s = op.saved
    rows = x.reshape(-1, x.shape[-1])
    target, is_target = s.target.reshape(rows.shape), s.is_target.reshape(rows.shape).to(x)
    miss = (rows[:, None, :] - rows.gather(1, target.clamp(min=0))[:, :, None] + 1).relu()
    listed = (target >= 0).to(x).cumprod(1)
    share = listed[:, :, None] * (1 - is_target)[:, None, :] / x.shape[-1]
    return _reduced(op, (miss * share).sum((1, 2)))


def _ctc(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    made: Tensor = torch._ctc_loss(x, s.targets, s.input_lengths, s.target_lengths, s.blank, s.zero_infinity)[
        0
    ]
    return made


def _ctc_pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    """Minus the posterior of each symbol (Graves et al. 2006, eq. 15, without its softmax).

    Torch's own backward takes a log-softmax before it for granted, and adds ``exp(x)``.
    """
    (granted,) = op.sweep.call(op.node, [c.to(op.dtype)])
    assert granted is not None
    x, lengths = at(0), torch.as_tensor(op.saved.input_lengths, device=c.device)
    read = torch.arange(len(x), device=c.device)[:, None] < lengths
    return granted.to(c) - x.exp() * (c * read)[..., None]


def _ctc_row(node: str) -> Row:
    """A logsumexp over the paths of sums of their entries: both take the gradient, so the whole does."""
    return custom(node, Gradient(), "log_probs", results="result0", forward=_ctc, pull=_ctc_pull,
        source="AttnLRP 2402.05602, proposition 3.1")  # fmt: skip


ROWS = (
    linear("NllLossBackward0", reduces=True, forward=_nll),
    linear("NllLoss2DBackward0", reduces=True, forward=_nll),
    composite("MseLossBackward0", "self target", forward=lambda op, x, t: _reduced(op, (x - t) ** 2)),
    composite("HuberLossBackward0", "self target",
        forward=lambda op, x, t: _reduced(op, _huber(x - t, op.saved.delta))),
    composite("SmoothL1LossBackward0", "self target", forward=_smooth_l1),
    composite("BinaryCrossEntropyBackward0", "self target", forward=_binary_cross_entropy),
    composite("BinaryCrossEntropyWithLogitsBackward0", "self target", forward=_with_logits),
    composite("SoftMarginLossBackward0",
        forward=lambda op, x: _reduced(op, -F.logsigmoid(x * op.saved.target.to(x)))),
    composite("MultiMarginLossBackward0", forward=_multi_margin),
    composite("MultilabelMarginLossBackward0", forward=_multilabel_margin),
    _ctc_row("CtcLossBackward0"),
    _ctc_row("CtcLossBackward1"),
    *refused(
        "CudnnCtcLossBackward0 CudnnCtcLossBackward1 MiopenCtcLossBackward0 MiopenCtcLossBackward1",
        "the kernel keeps a gradient that takes a log-softmax before it for granted, and not the lengths of "
        "the sequences, by which it could be told from the loss's own",
        "run the forward under torch.backends.cudnn.flags(enabled=False), or explain the log-probabilities",
    ),
)  # fmt: skip
