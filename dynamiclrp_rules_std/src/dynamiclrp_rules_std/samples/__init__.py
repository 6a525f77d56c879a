"""Calls that make autograd build each node of this pack, table by table."""

from __future__ import annotations

from . import (
    activation,
    arithmetic,
    copies,
    index,
    linalg,
    norm,
    pad,
    pool,
    recurrent,
    reduce,
    resample,
    scatter,
    shape,
    source,
)

TABLES = (
    arithmetic, activation, linalg, shape, copies, index, scatter, reduce, pad, pool, resample, norm,
    recurrent, source,
)  # fmt: skip

SAMPLES = tuple(sample for table in TABLES for sample in table.SAMPLES)
