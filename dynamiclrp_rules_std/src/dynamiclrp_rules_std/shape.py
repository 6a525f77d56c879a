"""Views and other moves of whole tensors."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import copying, moving
from dynamiclrp_core.op import Op
from torch import Tensor


def _reshaped(op: Op, x: Tensor) -> Tensor:
    return x.reshape(op.shape)


def _unreshaped(op: Op, y: Tensor) -> Tensor:
    return y.reshape(op.operand_shape(0))


def _unpermute(op: Op, y: Tensor) -> Tensor:
    dims = [d % y.dim() for d in op.saved.dims]
    return y.permute([dims.index(i) for i in range(y.dim())])


def _expanded(op: Op, x: Tensor) -> Tensor:
    return x.expand(op.shape)


def _swapped(op: Op, x: Tensor) -> Tensor:
    return x.transpose(op.saved.dim0, op.saved.dim1)


def _cat(op: Op, *xs: Tensor) -> Tensor:
    return torch.cat(xs, op.saved.dim)


def _slice(op: Op, x: Tensor) -> Tensor:
    s = op.saved
    dim = s.dim % x.dim()
    start = 0 if s.start is None else s.start
    end = x.shape[dim] if s.end is None else min(s.end, x.shape[dim])
    return x[(slice(None),) * dim + (slice(start, end, s.step),)]


ROWS = (
    # -- bijective: can be undone -------------------------------------------------------------------
    moving("ViewBackward0", forward=_reshaped, inverse=_unreshaped),
    moving("UnsafeViewBackward0", forward=_reshaped, inverse=_unreshaped),
    moving("ReshapeAliasBackward0", forward=_reshaped, inverse=_unreshaped),
    moving("UnsqueezeBackward0", forward=_reshaped, inverse=_unreshaped),
    moving("SqueezeBackward0", forward=_reshaped, inverse=_unreshaped),
    moving("SqueezeBackward1", forward=_reshaped, inverse=_unreshaped),
    moving("SqueezeBackward2", forward=_reshaped, inverse=_unreshaped),
    moving("SqueezeBackward3", forward=_reshaped, inverse=_unreshaped),  # squeeze_ and its kin
    moving("SqueezeBackward4", forward=_reshaped, inverse=_unreshaped),
    moving("SqueezeBackward5", forward=_reshaped, inverse=_unreshaped),
    moving("UnsqueezeBackward1", forward=_reshaped, inverse=_unreshaped),
    moving("ReshapeCopyBackward0", forward=_reshaped, inverse=_unreshaped),
    moving("TBackward0", forward=lambda op, x: x.t(), inverse=lambda op, y: y.t()),
    moving("TBackward1", forward=lambda op, x: x.t(), inverse=lambda op, y: y.t()),  # t_
    moving("TransposeBackward0", forward=_swapped, inverse=_swapped),
    moving("TransposeBackward1", forward=_swapped, inverse=_swapped),  # transpose_
    moving("PermuteBackward0", forward=lambda op, x: x.permute(op.saved.dims), inverse=_unpermute),
    moving(
        "FlipBackward0",
        forward=lambda op, x: x.flip(op.saved.dims),
        inverse=lambda op, y: y.flip(op.saved.dims),
    ),
    moving(
        "RollBackward0",
        forward=lambda op, x: x.roll(op.saved.shifts, op.saved.dims),
        inverse=lambda op, y: y.roll([-s for s in op.saved.shifts], op.saved.dims),
    ),
    moving(
        "Rot90Backward0",
        forward=lambda op, x: x.rot90(op.saved.k, op.saved.dims),
        inverse=lambda op, y: y.rot90(-op.saved.k, op.saved.dims),
    ),
    copying("LiftBackward0", forward=lambda op, x: x),
    copying("LiftFreshBackward0", forward=lambda op, x: x),
    copying("LazyCloneBackward0", forward=lambda op, x: x),
    # -- copies and parts ---------------------------------------------------------------------------
    moving("ExpandBackward0", forward=_expanded),
    moving("RepeatBackward0", forward=lambda op, x: x.repeat(op.saved.repeats)),
    moving("SelectBackward0", part=True, forward=lambda op, x: x.select(op.saved.dim, op.saved.index)),
    moving("SliceBackward0", part=True, forward=_slice),
    moving("DiagonalBackward0",
        forward=lambda op, x: x.diagonal(op.saved.offset, op.saved.dim1, op.saved.dim2)),
    moving("NarrowCopyBackward0",
        forward=lambda op, x: x.narrow(op.saved.dim, op.saved.start, op.saved.length)),
    moving("UnfoldBackward0",
        forward=lambda op, x: x.unfold(op.saved.dimension, op.saved.size, op.saved.step)),
    moving("SplitBackward0", forward=lambda op, x: x.split(op.saved.split_size, op.saved.dim)),
    moving("UnsafeSplitBackward0", forward=lambda op, x: x.split(op.saved.split_size, op.saved.dim)),
    moving("SplitWithSizesBackward0",
        forward=lambda op, x: x.split(list(op.saved.split_sizes), op.saved.dim)),
    moving("UnsafeSplitWithSizesBackward0",
        forward=lambda op, x: x.split(list(op.saved.split_sizes), op.saved.dim)),
    moving("UnbindBackward0", forward=lambda op, x: x.unbind(op.saved.dim)),
    moving("TrilBackward0", fills=True, forward=lambda op, x: x.tril(op.saved.diagonal)),
    moving("TriuBackward0", fills=True, forward=lambda op, x: x.triu(op.saved.diagonal)),
    # -- several tensors, constants -----------------------------------------------------------------
    moving("CatBackward0", "tensors*", fills=True, forward=_cat),
    moving("StackBackward0", "tensors*", fills=True, forward=lambda op, *xs: torch.stack(xs, op.saved.dim)),
    moving("ConstantPadNdBackward0", fills=True,
        forward=lambda op, x: torch.constant_pad_nd(x, op.saved.pad, op.constant("value"))),
    moving("DiagEmbedBackward0", fills=True,
        forward=lambda op, x: x.diag_embed(op.saved.offset, op.saved.dim1, op.saved.dim2)),
    moving("BlockDiagBackward0", "tensors*", fills=True, forward=lambda op, *xs: torch.block_diag(*xs)),
    # -- where they overlap an entry is read more than once, as by expand -----------------------------
    moving("AsStridedBackward0", forward=lambda op, x: _as_strided(op, x)),
    moving("AsStridedBackward1", forward=lambda op, x: _as_strided(op, x)),  # as_strided_
)  # fmt: skip


def _as_strided(op: Op, x: Tensor) -> Tensor:
    # How x lay in memory only the node knows: its backward is J^T, whose transpose reads what J reads.
    with torch.enable_grad():
        c = torch.zeros(op.shape, dtype=torch.float64, device=x.device, requires_grad=True)
        sent = op.sweep.call(op.node, [c])[0]
    assert sent is not None
    place = torch.arange(x.numel(), dtype=torch.float64, device=x.device).view(x.shape)
    (index,) = torch.autograd.grad(sent, c, place)
    return x.reshape(-1)[index.long()]
