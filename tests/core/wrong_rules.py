"""Deliberately wrong rows and rules, each right in all but what one check of the conformance kit looks at."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from dynamiclrp_core.families import custom
from dynamiclrp_core.rule import Row, Rule, Value
from dynamiclrp_core.samples import Sample
from torch import Tensor

from tests.core.wrong_entries import (
    Apart,
    Bent,
    Booked,
    Divided,
    DividedValue,
    Doubled,
    Given,
    Halves,
    Linear,
    Listed,
    Number,
    Once,
    Sent,
    Twice,
    Whole,
    WholeValue,
)

REENTRANT = "torch.utils.checkpoint.CheckpointFunction"
ABS = Sample("AbsBackward0", torch.abs)
MUL = Sample("MulBackward0", torch.mul, ("n 4", "n 4"))
NEG = Sample("NegBackward0", torch.neg)
RELU = Sample("ReluBackward0", torch.relu)
SILU = Sample("SiluBackward0", torch.nn.functional.silu, decomposed=lambda x: x * x.sigmoid())


class Times(torch.autograd.Function):
    """Keeps its factor where no row finds it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: Tensor) -> Tensor:
        ctx.k = k
        return x * k

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g * ctx.k, None


TIMES = Sample(f"{__name__}.Times", lambda x: Times.apply(x, torch.full((4,), 2.0).to(x)))


class OverBatch(Linear):
    """The same to every sample of the batch."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return self.value(op, self.only(c) * op.output())

    def value(self, op: Any, *r: Tensor | None) -> Any:
        own = self.only(r)
        return [Value(own.sum(0, keepdim=True).expand_as(own) / max(len(own), 1))]


class Evenly(Linear):
    """The same to every entry of a sample."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return self.value(op, self.only(c) * op.output())

    def value(self, op: Any, *r: Tensor | None) -> Any:
        own = self.only(r)
        return [Value(own.mean(1, keepdim=True).expand_as(own))]


class Peeking(Linear):
    """Takes what autograd happens to have saved for the operand, and something else where it has not."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c if op.kept(0) is not None else -c


class Flickering(Linear):
    """The last digit is another one every second time."""

    calls: ClassVar[list[None]] = []

    def entry(self, op: Any, c: Tensor) -> Any:
        self.calls.append(None)
        return c * (1 + len(self.calls) % 2 * torch.finfo(c.dtype).eps)


class ByStride(Linear):
    """Looks at memory instead of values."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c if op.input(0).is_contiguous() else -c


class ByCopies(Halves):
    """Gives every repetition of a broadcast operand the whole."""

    def share(self, op: Any, i: int) -> float:
        return 0.5 if op.operand_shape(i) == op.shape else 1.0


class NotEmpty(Linear):
    """Cannot do without elements."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * (op.input(0).max() > -torch.inf)


class Narrow(Linear):
    """Leaves the range of bfloat16 and float32, though not that of float64."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c * 1e30 * 1e30 / 1e60


class OneDtype(Linear):
    """Makes the same numbers in the dtype of the model alone."""

    def entry(self, op: Any, c: Tensor) -> Any:
        if c.dtype != op.dtype:
            raise RuntimeError("expected scalar type of the model")
        return c


class Held(Linear):
    """Knows a checkpoint by what reads the saved field, and takes it for something else."""

    def entry(self, op: Any, c: Tensor) -> Any:
        return c if isinstance(op.node._raw_saved_self.data, Tensor) else -c


class DoubledInside(Linear):
    """What a checkpoint hides gets twice its relevance."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        return [None if wanted is False else 2 * c[0] for wanted in op.wanted]


class SharedByWanted(Halves):
    """Divides a product among all that want an entry, read-outs too."""

    def share(self, op: Any, i: int) -> float:
        return 1 / sum(op.wanted)


class EvenlyBeside(Halves):
    """Gives every entry of a sample the same, where another operand is read out."""

    def coefficient(self, op: Any, *c: Tensor | None) -> Any:
        entries = super().coefficient(op, *c)
        shared = [
            Value((e * op.input(i)).mean(1, keepdim=True).expand(op.shape)) for i, e in enumerate(entries)
        ]
        return entries if op.live == op.wanted else shared

    def share(self, op: Any, i: int) -> float:
        return 1 / max(sum(op.live), 1)


class BookedForNobody(Halves):
    """Books what ends at a node that nothing explained passes, on the way to a read-out."""

    def share(self, op: Any, i: int) -> float:
        if op.sweep.ledger is not None and not any(op.live):
            op.sweep.ledger.book(op.row.node, 0, "nobody's", op.output().sum())
        return 1 / max(sum(op.live), 1) if op.live[i] or not any(op.live) else 0.0


class Elsewhere(Linear):
    """Another number on the first of two devices."""

    first: ClassVar[list[None]] = []

    def entry(self, op: Any, c: Tensor) -> Any:
        return -c if self.first and self.first.pop() is None else c


class Wrong(NamedTuple):
    """A row, the sample that shows what is wrong with it, and whether any run can be made with it at all."""

    sample: Sample
    row: Row
    runs: bool = True

    def __str__(self) -> str:
        return type(self.row.cases[-1][1]).__name__


def own(sample: Sample, rule: Rule, operands: str = "self", **facts: Any) -> Wrong:
    return Wrong(sample, custom(sample.node, rule, operands, **facts))


WRONG: dict[str, list[Wrong]] = {
    # ReLU saves its result, and abs its operand.
    "saved_names": [own(RELU, Linear(), "result"), own(ABS, Sent(), "x", results="self")],
    "forward": [
        own(NEG, Linear(), forward=lambda op, x: 1 - x),
        own(TIMES, Linear(), "x k", forward=lambda op, x, k: x * k),
    ],
    "entries": [
        own(NEG, Number()),
        *(own(NEG, rule)._replace(runs=False) for rule in (Whole(), WholeValue(), Twice(), Listed())),
    ],
    "conservation": [own(NEG, Doubled()), own(NEG, Booked())],
    "linearity": [own(NEG, Bent())],
    "zero": [own(NEG, Given())],
    "finite": [own(NEG, Divided()), own(NEG, DividedValue())],
    "forms": [own(NEG, Apart())],
    "both_forms": [own(NEG, Once())],
    "batch": [own(NEG, OverBatch())],
    "promised": [own(ABS, Peeking())],
    "again": [own(NEG, Flickering())],
    "noncontiguous": [own(NEG, ByStride())],
    "broadcast": [own(MUL, ByCopies(), "self other")],
    "empty": [own(NEG, NotEmpty())],
    "precision": [own(NEG, Narrow()), own(NEG, OneDtype())],
    "checkpointed": [own(ABS, Held()), Wrong(NEG, custom(REENTRANT, DoubledInside()))],
    "read_outs": [
        own(MUL, rule, "self other") for rule in (SharedByWanted(), EvenlyBeside(), BookedForNobody())
    ],
    "decomposed": [own(SILU, Evenly())],
    "devices": [own(NEG, Elsewhere())],
    "family": [
        own(ABS, Linear(), family="linear", forward=lambda op, x: x.abs()),
        own(NEG, Linear(), family="moving", forward=lambda op, x: -x),
    ],
}
"""By check. ``tests/core/test_conformance.py`` proves that no other check catches any of them."""
