"""Losses: start LRP at the logits instead. Crossing a loss is not relevance propagation."""

from __future__ import annotations

from dynamiclrp_core.refusal import refused

ROWS = refused(
    """BinaryCrossEntropyBackward0 BinaryCrossEntropyWithLogitsBackward0 CtcLossBackward0 CtcLossBackward1
    CudnnCtcLossBackward0 CudnnCtcLossBackward1 HuberLossBackward0 MiopenCtcLossBackward0
    MiopenCtcLossBackward1 MseLossBackward0 MultiMarginLossBackward0 MultilabelMarginLossBackward0
    NllLoss2DBackward0 NllLossBackward0 SmoothL1LossBackward0 SoftMarginLossBackward0""",
    "relevance does not pass a loss: it would say how to lower it, not why the model answered so",
    "explain the model's output (the logit of a class), not the loss",
)
