"""The attention pack: softmax, fused attention, norms, experts; presets attnlrp and cp-lrp."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from dynamiclrp_core.packs.hookspecs import hookimpl
from dynamiclrp_core.rule import Row
from dynamiclrp_core.table import Rules

from . import flex, functions, moe, norm, sdpa, softmax
from .presets import PRESETS, constant_weights
from .readouts import attention_relevance

if TYPE_CHECKING:
    from dynamiclrp_core.samples import Sample

DYNAMICLRP_PACK_API = 1
DYNAMICLRP_TORCH = "2.13"

TABLES = (softmax, norm, sdpa, flex, moe, functions)

__all__ = ["attention_relevance", "constant_weights"]


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    return [row for table in TABLES for row in table.ROWS]


@hookimpl
def dynamiclrp_presets() -> Mapping[str, Callable[..., Rules]]:
    return PRESETS


@hookimpl
def dynamiclrp_samples() -> Iterable[Sample]:
    from .samples import SAMPLES  # here: to load the rules must not build the samples

    return SAMPLES
