"""The attention pack: softmax, fused attention, layer norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dynamiclrp_core.hookspecs import hookimpl
from dynamiclrp_core.rule import Row

from . import norm, sdpa, softmax

if TYPE_CHECKING:
    from dynamiclrp_core.samples import Sample

DYNAMICLRP_PACK_API = 1

TABLES = (softmax, norm, sdpa)


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    return [row for table in TABLES for row in table.ROWS]


@hookimpl
def dynamiclrp_samples() -> Iterable[Sample]:
    from .samples import SAMPLES  # here: to load the rules must not build the samples

    return SAMPLES
