"""Samples of the ``_copy`` twins of views."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten: Any = torch.ops.aten

CUBE = ("n 2 3",)


def windows(a: Tensor) -> Tensor:
    """Overlapping windows of two along the last dimension."""
    made: Tensor = torch.as_strided_copy(
        a, (a.shape[0], a.shape[1] - 1, 2), (*a.stride(), a.stride(1)), a.storage_offset()
    )
    return made


SAMPLES = (
    Sample("AliasBackward0_copy", lambda a: torch.alias_copy(a)),
    Sample("AsStridedBackward0_copy", windows, ("n 5",)),
    Sample("DiagonalBackward0_copy", lambda a: torch.diagonal_copy(a, 1, -2, -1), CUBE),
    Sample("DiagonalBackward0_copy", lambda a: a.diag(), ("3 3",), batched=False, label="diag"),
    Sample("ExpandBackward0_copy", lambda a: torch.expand_copy(a, (-1, 3, 4)), ("n 1 4",)),
    Sample("LiftFreshBackward0_copy", lambda a: aten.lift_fresh_copy(a)),
    Sample("NegViewBackward0_copy", lambda a: aten._neg_view_copy(a)),
    Sample("PermuteBackward0_copy", lambda a: torch.permute_copy(a, (-1, 0, -2)), CUBE),
    Sample("ReshapeAliasBackward0_copy",
        lambda a: aten._reshape_alias_copy(a, (len(a), 3, 2), a.detach().view(len(a), 3, 2).stride()),
        ("n 6",)),
    Sample("SelectBackward0_copy", lambda a: torch.select_copy(a, -1, -1), CUBE),
    Sample("SliceBackward0_copy", lambda a: torch.slice_copy(a, 1, -3, -1, 2)),
    Sample("SplitBackward0_copy", lambda a: aten.split_copy(a, 2, 1), ("n 5",)),
    Sample("SplitWithSizesBackward0_copy", lambda a: aten.split_with_sizes_copy(a, [1, 4], -1)[1],
        ("n 2 5",)),
    Sample("SqueezeBackward0_copy", lambda a: torch.squeeze_copy(a), ("n 1 4 1",)),
    Sample("SqueezeBackward1_copy", lambda a: torch.squeeze_copy(a, -1), ("n 4 1",)),
    Sample("SqueezeBackward2_copy", lambda a: torch.squeeze_copy(a, (1, -1)), ("n 1 4 1",)),
    Sample("TBackward0_copy", lambda a: torch.t_copy(a)),
    Sample("TransposeBackward0_copy", lambda a: torch.transpose_copy(a, -3, 1), CUBE),
    Sample("UnbindBackward0_copy", lambda a: aten.unbind_copy(a, -1)[::2], CUBE),
    Sample("UnfoldBackward0_copy", lambda a: torch.unfold_copy(a, -1, 2, 1), CUBE),
    Sample("UnsqueezeBackward0_copy", lambda a: torch.unsqueeze_copy(a, -1)),
    Sample("ViewBackward0_copy", lambda a: torch.view_copy(a, (a.shape[0], 6)), CUBE),
)  # fmt: skip
