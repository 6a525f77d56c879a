"""Calls that make autograd build each of its hand-written nodes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..mark import stop_relevance
from ..samples import Sample

HOOK = "torch.nn.modules._functions.BackwardHookFunction"
CHECKPOINT = "torch.utils.checkpoint.CheckpointFunction"


def ramp(like: Tensor) -> Tensor:
    """A constant that differs from entry to entry of the last dimension."""
    return torch.arange(1, like.shape[-1] + 1, dtype=like.dtype, device=like.device) / 2


def write(base: Tensor, value: Tensor | float, *place: slice | int) -> Tensor:
    """``base[place] = value`` on a copy of the base."""
    y = base.clone()
    y[(slice(None), *place)] = value
    return y


def into(a: Tensor, change: Callable[[Tensor], object]) -> Tensor:
    """Change the middle of a copy of ``a`` in place."""
    y = a.clone()
    change(y[..., 1:3])
    return y


def diagonal(a: Tensor, v: Tensor) -> Tensor:
    """Write the diagonal of each matrix."""
    y = a.clone()
    y.diagonal(0, 1, 2).copy_(v)
    return y


def hooked(*xs: Tensor) -> Tensor:
    """A module with a full backward hook, which relevance must not run."""
    module = _Product() if len(xs) == 2 else nn.Identity()
    module.register_full_backward_hook(_fails)
    made: Tensor = module(*xs)
    return made


class _Product(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


def _fails(*_: object) -> None:
    raise AssertionError("a backward hook was run")


def again(function: Callable[..., object]) -> Callable[..., object]:
    """``function`` inside of a reentrant checkpoint."""
    return lambda *xs: checkpoint(function, *xs, use_reentrant=True)


def random(a: Tensor) -> Tensor:
    """Dropout in a checkpoint, with the same mask at every call."""
    with torch.random.fork_rng(devices=[a.device] if a.is_cuda else []):
        torch.manual_seed(7)
        made: Tensor = checkpoint(lambda x: torch.dropout(x, 0.5, True), a, use_reentrant=True)
    return made


PART = ("n 4", "n 2")

SAMPLES = (
    # -- writes into views -------------------------------------------------------------------------
    Sample("CopySlices", lambda a, v: write(a, v, slice(1, 3)), PART),
    Sample("CopySlices", lambda a, v: write(a, v, 2), ("n 4", "n"), label="one"),
    Sample("CopySlices", lambda a, v: write(a, v, slice(0, None, 2)), PART, label="step"),
    Sample("CopySlices", lambda a, v: write(a, v, slice(1, 3)), ("n 4", ""), label="0-d",
        live=((0,), (0, 1))),  # of a constant base under a broadcast value nothing is told
    Sample("CopySlices", lambda a, v: write(a, v, 1, slice(1, 3)), ("n 2 3", "2"), label="row"),
    Sample("CopySlices", diagonal, ("n 2 3", "n 2"), label="diagonal"),
    Sample("CopySlices", lambda v: write(v.new_ones(len(v), 4), v, slice(1, 3)), ("n 2",),
        label="constant-base"),
    Sample("CopySlices", lambda a: write(a, ramp(a[:, 1:3]), slice(1, 3)), label="constant"),
    Sample("CopySlices", lambda a: write(a, 0.5, slice(1, 3)), label="scalar"),
    Sample("CopySlices", lambda a, v: into(a, lambda part: part.add_(v)), PART, label="add"),
    Sample("CopySlices", lambda a: into(a, lambda part: part.relu_()), label="relu"),
    # -- writes of the whole -----------------------------------------------------------------------
    Sample("CopyBackwards", lambda a, b: a.clone().copy_(b), ("n 4", "n 4")),
    Sample("CopyBackwards", lambda a, b: a.clone().copy_(b), ("n 2 3", "3"), label="broadcast"),
    Sample("CopyBackwards", lambda b: torch.zeros_like(b).copy_(b), label="constant-base"),
    # -- Functions ---------------------------------------------------------------------------------
    Sample(HOOK, hooked),
    Sample(HOOK, hooked, ("n 4", "n 4"), label="two"),
    Sample(CHECKPOINT, again(lambda a: a.tanh() * 2)),
    Sample(CHECKPOINT, again(lambda a, w: (a @ w).relu()), ("n 4", "4 3"), label="layer"),
    Sample(CHECKPOINT, again(lambda a, b: (a + b, a * b)), ("n 4", "n 4"), label="two"),
    Sample(CHECKPOINT, random, batched=False, label="random"),
    # -- marks -------------------------------------------------------------------------------------
    Sample("dynamiclrp_core.mark.StopRelevance", lambda a: stop_relevance(a.exp()) * a, label="wrapped"),
    # -- the same tensor again ---------------------------------------------------------------------
    Sample("AliasBackward0", lambda a: torch.ops.aten.alias(a)),
)  # fmt: skip
