"""Samples of views, copies and moves of whole tensors."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten = torch.ops.aten

CUBE = ("n 2 3",)
FLAT = ("n 6",)


def alias(a: Tensor, *size: int) -> Tensor:
    """What reshape takes where a view will do, inside of composite functions."""
    made: Tensor = aten._reshape_alias(a, size, a.detach().view(size).stride())
    return made


def windows(a: Tensor) -> Tensor:
    """Overlapping windows of two along the last dimension."""
    rows, columns = a.stride()
    size = (a.shape[0], a.shape[1] - 1, 2)
    return a.as_strided(size, (rows, columns, columns), a.storage_offset())


def offset(a: Tensor) -> Tensor:
    """All rows but their first entry."""
    return a.as_strided((a.shape[0], a.shape[1] - 1), a.stride(), a.storage_offset() + a.stride(1))


SAMPLES = (
    # -- bijective ---------------------------------------------------------------------------------
    Sample("ViewBackward0", lambda a: a.view(a.shape[0], 6), CUBE),
    Sample("ViewBackward0", lambda a: a.view(-1), CUBE, label="flat"),
    Sample("ViewBackward0", lambda a: a.view(a.shape[0], 2, 1, 3), FLAT, label="split"),
    Sample("UnsafeViewBackward0", lambda a: aten._unsafe_view(a, (a.shape[0], 6)), CUBE),
    Sample("ReshapeAliasBackward0", lambda a: alias(a, a.shape[0], 3, 2), FLAT),
    Sample("UnsqueezeBackward0", lambda a: a.unsqueeze(1)),
    Sample("UnsqueezeBackward0", lambda a: a.unsqueeze(-1), label="last"),
    Sample("SqueezeBackward0", lambda a: a.squeeze(), ("n 1 4 1",)),
    Sample("SqueezeBackward1", lambda a: a.squeeze(1), ("n 1 4",)),
    Sample("SqueezeBackward1", lambda a: a.squeeze(-1), ("n 4 1",), label="last"),
    Sample("SqueezeBackward1", lambda a: a.squeeze(-1), label="nothing"),
    Sample("SqueezeBackward2", lambda a: a.squeeze((1, -1)), ("n 1 4 1",)),
    Sample("SqueezeBackward4", lambda a: a.clone().squeeze_(1), ("n 1 4",)),
    Sample("SqueezeBackward3", lambda a: a.clone().squeeze_(), ("n 1 4 1",)),
    Sample("SqueezeBackward5", lambda a: a.clone().squeeze_((1, -1)), ("n 1 4 1",)),
    Sample("UnsqueezeBackward1", lambda a: a.clone().unsqueeze_(1)),
    Sample("ReshapeCopyBackward0", lambda a: aten._reshape_copy(a, [a.shape[0], 6]), CUBE),
    Sample("TBackward0", lambda a: a.t()),
    Sample("TBackward1", lambda a: a.clone().t_()),
    Sample("TransposeBackward0", lambda a: a.transpose(0, 2), CUBE),
    Sample("TransposeBackward0", lambda a: a.mT, CUBE, label="last"),
    Sample("TransposeBackward0", lambda a: a.transpose(-3, 1), CUBE, label="negative"),
    Sample("TransposeBackward1", lambda a: a.clone().transpose_(0, 2), CUBE),
    Sample("PermuteBackward0", lambda a: a.permute(2, 0, 1), CUBE),
    Sample("PermuteBackward0", lambda a: a.permute(-1, 0, -2), CUBE, label="negative"),
    Sample("FlipBackward0", lambda a: a.flip(1), CUBE),
    Sample("FlipBackward0", lambda a: a.flip(-1, 1), CUBE, label="negative"),
    Sample("RollBackward0", lambda a: a.roll(2, -1)),
    Sample("RollBackward0", lambda a: a.roll((1, -2), (1, 2)), CUBE, label="two"),
    Sample("RollBackward0", lambda a: a.roll(3), batched=False, label="flat"),
    Sample("Rot90Backward0", lambda a: a.rot90(1, (1, 2)), CUBE),
    Sample("Rot90Backward0", lambda a: a.rot90(-3, (-1, 1)), CUBE, label="negative"),
    Sample("Rot90Backward0", lambda a: a.rot90(2, (1, 2)), CUBE, label="twice"),
    # They give back their operand itself, with another grad_fn: an input would be explained by itself.
    Sample("LiftBackward0", lambda a: aten.lift(a.clone())),
    Sample("LiftFreshBackward0", lambda a: aten.lift_fresh(a.clone())),
    Sample("LazyCloneBackward0", lambda a: aten._lazy_clone(a)),
    # -- copies and parts --------------------------------------------------------------------------
    Sample("ExpandBackward0", lambda a: a.expand(-1, 3, 4), ("n 1 4",)),
    Sample("ExpandBackward0", lambda a: a.expand(3, *a.shape), label="new"),
    Sample("ExpandBackward0", lambda a: a.expand(2, 3), ("",), batched=False, label="0-d"),
    Sample("RepeatBackward0", lambda a: a.repeat(1, 2)),
    Sample("RepeatBackward0", lambda a: a.repeat(3, 1, 2), label="new"),
    Sample("SelectBackward0", lambda a: a.select(1, 0), CUBE),
    Sample("SelectBackward0", lambda a: a[..., -1], CUBE, label="negative"),
    Sample("SliceBackward0", lambda a: a[:, 1:3]),
    Sample("SliceBackward0", lambda a: a[:, :-1], label="end"),
    Sample("SliceBackward0", lambda a: a[..., -3:], label="start"),
    Sample("SliceBackward0", lambda a: a[:, ::2], ("n 5",), label="step"),
    Sample("SliceBackward0", lambda a: a[:, 1:100:3], ("n 6",), label="beyond"),
    Sample("SliceBackward0", lambda a: a[:, 3:2], label="empty"),
    Sample("DiagonalBackward0", lambda a: a.diagonal(0, 1, 2), CUBE),
    Sample("DiagonalBackward0", lambda a: a.diagonal(1, -2, -1), CUBE, label="above"),
    Sample("DiagonalBackward0", lambda a: a.diagonal(-1, -1, 1), ("n 3 2",), label="swapped"),
    Sample("NarrowCopyBackward0", lambda a: aten.narrow_copy(a, 1, 1, 2)),
    Sample("NarrowCopyBackward0", lambda a: aten.narrow_copy(a, -1, -3, 2), CUBE, label="negative"),
    Sample("UnfoldBackward0", lambda a: a.unfold(1, 3, 2), ("n 6",)),
    Sample("UnfoldBackward0", lambda a: a.unfold(-1, 2, 1), CUBE, label="overlap"),
    Sample("SplitBackward0", lambda a: a.split(2, 1), ("n 5",)),
    Sample("SplitBackward0", lambda a: a.split(2, -1)[1], ("n 2 5",), label="one"),
    Sample("SplitBackward0", lambda a: a.chunk(2, -1), ("n 4",), label="chunk"),
    Sample("UnsafeSplitBackward0", lambda a: torch.unsafe_split(a, 2, 1), ("n 5",)),
    Sample("UnsafeSplitBackward0", lambda a: torch.unsafe_chunk(a, 2, -1)[1], label="one"),
    Sample("SplitWithSizesBackward0", lambda a: a.split([1, 0, 4], 1), ("n 5",)),
    Sample("SplitWithSizesBackward0", lambda a: a.split([1, 4], -1)[1], ("n 2 5",), label="one"),
    Sample("UnsafeSplitWithSizesBackward0", lambda a: torch.unsafe_split_with_sizes(a, [1, 3], 1)),
    Sample("UnsafeSplitWithSizesBackward0",
        lambda a: torch.unsafe_split_with_sizes(a, [1, 3], -1)[1], label="one"),
    Sample("UnbindBackward0", lambda a: a.unbind(1), CUBE),
    Sample("UnbindBackward0", lambda a: a.unbind(-1)[::2], CUBE, label="some"),
    Sample("TrilBackward0", lambda a: a.tril(), ("n 3 3",)),
    Sample("TrilBackward0", lambda a: a.tril(1), ("n 3 4",), label="above"),
    Sample("TriuBackward0", lambda a: a.triu(), ("n 3 3",)),
    Sample("TriuBackward0", lambda a: a.triu(-1), ("n 4 3",), label="below"),
    # -- several tensors, constants ----------------------------------------------------------------
    Sample("CatBackward0", lambda a, b: torch.cat([a, b], 1), ("n 2", "n 3")),
    Sample("CatBackward0", lambda a, b: torch.cat([a, b, a], -1), ("n 2 2", "n 2 1"),
        label="again"),
    Sample("CatBackward0", lambda a, b: torch.cat([a, b]), ("n 3", "2 3"), batched=False,
        label="rows"),
    Sample("CatBackward0", lambda a: torch.cat([a, torch.ones_like(a)], -1), label="constant"),
    Sample("CatBackward0", lambda a: torch.cat([a.new_empty(0), a], 1), label="legacy-empty"),
    Sample("StackBackward0", lambda a, b: torch.stack([a, b], 1), ("n 3", "n 3")),
    Sample("StackBackward0", lambda a, b: torch.stack([b, a, b], -1), ("n 3", "n 3"),
        label="again"),
    Sample("StackBackward0", lambda a: torch.stack([torch.ones_like(a), a]), label="constant"),
    Sample("ConstantPadNdBackward0", lambda a: torch.constant_pad_nd(a, (1, 2))),
    Sample("ConstantPadNdBackward0", lambda a: torch.constant_pad_nd(a, (1, 0, 0, 2), 0.5), CUBE,
        label="value"),
    Sample("ConstantPadNdBackward0", lambda a: torch.constant_pad_nd(a, (-1, 2), -1.0),
        label="crop"),
    Sample("DiagEmbedBackward0", lambda a: a.diag_embed()),
    Sample("DiagEmbedBackward0", lambda a: a.diag_embed(-1, 1, -2), CUBE, label="below"),
    Sample("BlockDiagBackward0", lambda a, b: torch.block_diag(a, b), ("2 3", "1 2"), batched=False),
    Sample("BlockDiagBackward0", lambda a: torch.block_diag(torch.ones_like(a), a), ("2 3",),
        batched=False, label="constant"),
    # -- overlaps add up ---------------------------------------------------------------------------
    Sample("AsStridedBackward0", windows, ("n 5",)),
    Sample("AsStridedBackward0", offset, ("n 5",), label="offset"),
    Sample("AsStridedBackward1", lambda a: a.clone().as_strided_((2, 2), (1, 1)), ("4",), batched=False),
)  # fmt: skip
