"""The three hooks of a pack. Called once, when packs are loaded; never during a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

from ..rule import Row
from ..table import Rules

if TYPE_CHECKING:
    from ..samples import Sample

PACK_API = 1
"""A pack states ``DYNAMICLRP_PACK_API = 1``; another number is a located error at load.

``DYNAMICLRP_TORCH = "2.13"`` names the releases of torch (several: with spaces between) that its rows were
run on. ``dynamiclrp packs`` lists them; on another ``dynamiclrp rules check`` tells which rows do not fit.
"""

hookspec = pluggy.HookspecMarker("dynamiclrp")
hookimpl = pluggy.HookimplMarker("dynamiclrp")


@hookspec
def dynamiclrp_rules() -> Iterable[Row]:
    """Rows of this pack, one per node type."""
    raise NotImplementedError


@hookspec
def dynamiclrp_presets() -> Mapping[str, Callable[..., Rules]]:
    """Presets of this pack: name -> function of typed parameters that returns overrides."""
    raise NotImplementedError


@hookspec
def dynamiclrp_samples() -> Iterable[Sample]:
    """Calls that make autograd build each node of this pack. Read by ``testing`` only."""
    raise NotImplementedError
