"""The state-space pack: fused scans and convolutions as rows, and the preset ``mambalrp``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dynamiclrp_core.hookspecs import hookimpl
from dynamiclrp_core.rule import Row, Rules

from .presets import PRESETS

DYNAMICLRP_PACK_API = 1


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    return []


@hookimpl
def dynamiclrp_presets() -> Mapping[str, Callable[..., Rules]]:
    return PRESETS
