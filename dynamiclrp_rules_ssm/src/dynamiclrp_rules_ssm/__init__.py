"""The state-space pack: fused scans and convolutions as rows, and the preset ``mambalrp``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from dynamiclrp_core.packs.hookspecs import hookimpl
from dynamiclrp_core.rule import Row
from dynamiclrp_core.table import Rules

from .fused import ROWS
from .presets import PRESETS

if TYPE_CHECKING:
    from dynamiclrp_core.samples import Sample

DYNAMICLRP_PACK_API = 1
DYNAMICLRP_TORCH = "2.13"


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    return ROWS


@hookimpl
def dynamiclrp_presets() -> Mapping[str, Callable[..., Rules]]:
    return PRESETS


@hookimpl
def dynamiclrp_samples() -> Iterable[Sample]:
    from .samples import SAMPLES  # here: to load the rules must not build the samples

    return SAMPLES
