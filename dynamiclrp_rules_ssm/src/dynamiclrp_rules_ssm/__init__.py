"""The state-space pack. Still thin: it registers, and gives no rows of its own yet."""

from __future__ import annotations

from collections.abc import Iterable

from dynamiclrp_core.hookspecs import hookimpl
from dynamiclrp_core.rule import Row

DYNAMICLRP_PACK_API = 1


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    return []
