"""Samples of batch and group norm."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten: Any = torch.ops.aten


def running(x: Tensor) -> tuple[Tensor, Tensor]:
    """Running mean and variance, one per channel."""
    mean = torch.arange(x.shape[1], dtype=x.dtype, device=x.device) / 4
    return mean, mean + 0.5


def train(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Batch norm by the batch's own statistics."""
    return torch.batch_norm(x, weight, bias, None, None, True, 0.1, 1e-3, False)


def update(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """The same, and it updates running statistics as a module in training does."""
    return torch.batch_norm(x, weight, bias, *running(x), True, 0.1, 1e-3, False)


def evaluate(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Batch norm by running statistics."""
    return torch.batch_norm(x, weight, bias, *running(x), False, 0.1, 1e-3, False)


def group(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Group norm of two groups."""
    return F.group_norm(x, 2, weight, bias, 1e-3)


def legit(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """What compiled code calls: running statistics are updated in place."""
    made: Tensor = aten._native_batch_norm_legit(x, weight, bias, *running(x), True, 0.1, 1e-3)[0]
    return made


def legit_evaluate(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """The same by running statistics."""
    made: Tensor = aten._native_batch_norm_legit(x, weight, bias, *running(x), False, 0.1, 1e-3)[0]
    return made


def without_statistics(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """The same, and nothing is kept."""
    made: Tensor = aten._native_batch_norm_legit.no_stats(x, weight, bias, True, 0.1, 1e-3)[0]
    return made


def by_name(name: str, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """A batch norm that is for training or not by its name."""
    made: Tensor = getattr(aten, name)(x, weight, bias, *running(x), 0.1, 1e-3)[0]
    return made


NO_TRAINING = partial(by_name, "_native_batch_norm_legit_no_training")
WITH_UPDATE = partial(by_name, "_batch_norm_with_update")
NO_UPDATE = partial(by_name, "_batch_norm_no_update")


def weight(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """``g v / |v|`` in one kernel, which reads no strides."""
    made: Tensor = torch._weight_norm_interface(v.contiguous(), g.contiguous(), dim)[0]
    return made


LINE = ("n 4 5", "4", "4")
PLANE = ("n 4 2 3", "4", "4")
ROWS = ("n 4", "4", "4")

SAMPLES = (
    Sample("NativeBatchNormBackward0", train, LINE, batched=False),
    Sample("NativeBatchNormBackward0", train, PLANE[:1], batched=False, label="plain"),
    Sample("NativeBatchNormBackward0", train, ROWS, batched=False, label="rows"),
    Sample("NativeBatchNormBackward0", update, PLANE, batched=False, label="update"),
    Sample("NativeBatchNormBackward0", update, PLANE[:1], batched=False, label="update-plain"),
    Sample("NativeBatchNormBackward0", evaluate, PLANE, label="eval"),
    Sample("NativeBatchNormBackward0", evaluate, PLANE[:1], label="eval-plain"),
    Sample("NativeBatchNormBackward0", evaluate, PLANE[:2], label="eval-weight"),
    Sample("NativeBatchNormBackward0", lambda x, b: evaluate(x, None, b), PLANE[:2],
        label="eval-bias"),
    Sample("NativeBatchNormBackward0", evaluate, ROWS, label="eval-rows"),
    Sample("NativeBatchNormBackward0", lambda x: F.instance_norm(x), PLANE[:1],
        label="wrapped-instance"),
    Sample("NativeGroupNormBackward0", group, PLANE),
    Sample("NativeGroupNormBackward0", group, PLANE[:1], label="plain"),
    Sample("NativeGroupNormBackward0", group, PLANE[:2], label="weight"),
    Sample("NativeGroupNormBackward0", lambda x, b: group(x, None, b), PLANE[:2], label="bias"),
    Sample("NativeGroupNormBackward0", group, ROWS, label="rows"),
    # -- as compiled code calls them ---------------------------------------------------------------
    Sample("NativeBatchNormLegitBackward0", legit, PLANE, batched=False),
    Sample("NativeBatchNormLegitBackward0", legit_evaluate, PLANE, label="eval"),
    Sample("NativeBatchNormLegitBackward1", without_statistics, LINE, batched=False),
    Sample("NativeBatchNormLegitNoTrainingBackward0", NO_TRAINING, PLANE),
    Sample("BatchNormWithUpdateBackward0", WITH_UPDATE, PLANE, batched=False),
    Sample("BatchNormNoUpdateBackward0", NO_UPDATE, PLANE),
    Sample("BatchNormNoUpdateBackward0", NO_UPDATE, PLANE[:1], label="plain"),
    # -- weights -----------------------------------------------------------------------------------
    Sample("WeightNormInterfaceBackward0", weight, ("3 4", "3 1"), batched=False),
    Sample("WeightNormInterfaceBackward0", partial(weight, dim=1), ("3 4", "1 4"), batched=False,
        label="columns"),
)  # fmt: skip
