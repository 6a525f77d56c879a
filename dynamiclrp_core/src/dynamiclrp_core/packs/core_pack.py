"""The pack that core itself is: autograd's hand-written nodes, and the preset ``default``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ..families import copying, custom
from ..rule import Row
from ..subgraph import Checkpoint, ThroughHook, run_again, through_hook
from ..table import Rules
from ..writes import CopyInto, SliceWrite, written
from .hookspecs import PACK_API as DYNAMICLRP_PACK_API
from .hookspecs import hookimpl

DYNAMICLRP_TORCH = "2.13"

ANY = range(2**31)
"""All operand numbers: untracked operands need not be known."""

ROWS = (
    custom("CopySlices", SliceWrite(), "self src", forward=written),
    custom("CopyBackwards", CopyInto(), "self src", family="moving", unused=(0,),
        forward=lambda op, base, src: src.expand(op.shape)),
    custom("torch.nn.modules._functions.BackwardHookFunction", ThroughHook(), "args*", family="moving",
        separate=True, unused=ANY, forward=through_hook),
    custom("torch.utils.checkpoint.CheckpointFunction", Checkpoint(), "args*", unused=ANY,
        forward=run_again),
    copying("dynamiclrp_core.mark.StopRelevance", forward=lambda op, x: x),
    copying("AliasBackward0", forward=lambda op, x: x),
)  # fmt: skip

if TYPE_CHECKING:
    from ..samples import Sample


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    return ROWS


@hookimpl
def dynamiclrp_presets() -> Mapping[str, Callable[..., Rules]]:
    return {"default": default}


def default() -> Rules:
    """Coefficient rules: the price of a gradient, no activation asked for where none is needed."""
    return Rules(name="default")


@hookimpl
def dynamiclrp_samples() -> Iterable[Sample]:
    from .core_samples import SAMPLES  # here: to load the rules must not build the samples

    return SAMPLES


__all__ = [
    "DYNAMICLRP_PACK_API",
    "DYNAMICLRP_TORCH",
    "default",
    "dynamiclrp_presets",
    "dynamiclrp_rules",
    "dynamiclrp_samples",
]
