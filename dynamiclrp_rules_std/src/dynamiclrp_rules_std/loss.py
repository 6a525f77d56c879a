"""Losses: start LRP at the logits instead. Crossing a loss is not relevance propagation."""

from __future__ import annotations

from typing import ClassVar

from dynamiclrp_core.errors import MissingRule
from dynamiclrp_core.families import custom
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Conserves, Entries, Rule
from torch import Tensor


class StartAtLogits(Rule):
    """Refuses: the relevance of a loss says how to lower it, not why the model answered so."""

    conserves: ClassVar[Conserves] = "none"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        raise MissingRule(
            f"{op.row.node}: relevance does not pass a loss.\n"
            "  cure: explain the model's output (the logit of a class), not the loss"
        )

    value = coefficient


ROWS = tuple(
    custom(f"{name}Backward0", StartAtLogits(), "self target", family="loss")
    for name in (
        "NllLoss", "NllLoss2D", "MseLoss", "SmoothL1Loss", "HuberLoss", "BinaryCrossEntropy",
        "BinaryCrossEntropyWithLogits", "SoftMarginLoss", "MultiMarginLoss",
    )
)  # fmt: skip
