"""The std pack: arithmetic, linear algebra, shape, index, reduction, pooling, norms, losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from dynamiclrp_core.packs.hookspecs import hookimpl
from dynamiclrp_core.rule import Row
from dynamiclrp_core.table import Rules

from . import (
    activation,
    arithmetic,
    binary,
    complexes,
    conv,
    copies,
    decomposition,
    distance,
    elsewhere,
    embedding,
    foreach,
    index,
    linalg,
    loss,
    norm,
    overloads,
    pad,
    pool,
    recurrent,
    reduce,
    refused,
    resample,
    scan,
    scatter,
    shape,
    source,
    sparse,
    special,
)
from .presets import PRESETS

if TYPE_CHECKING:
    from dynamiclrp_core.samples import Sample

DYNAMICLRP_PACK_API = 1
DYNAMICLRP_TORCH = "2.13"

TABLES = (
    arithmetic, binary, special, activation, linalg, decomposition, complexes, conv, shape, copies, index,
    scatter, embedding, reduce, scan, distance, pad, pool, resample, norm, recurrent, source, sparse,
    elsewhere, loss, refused, foreach, overloads,
)  # fmt: skip


@hookimpl
def dynamiclrp_rules() -> Iterable[Row]:
    rows = [row for table in TABLES for row in table.ROWS]
    return [*rows, *copies.twins(rows)]


@hookimpl
def dynamiclrp_presets() -> Mapping[str, Callable[..., Rules]]:
    return PRESETS


@hookimpl
def dynamiclrp_samples() -> Iterable[Sample]:
    from .samples import SAMPLES  # here: to load the rules must not build the samples

    return SAMPLES
