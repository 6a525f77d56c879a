"""Calls that make autograd build each node of this pack, table by table."""

from __future__ import annotations

from . import (
    activation,
    arithmetic,
    conv,
    copies,
    distance,
    embedding,
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
    sparse,
)

TABLES = (
    arithmetic, activation, linalg, conv, shape, copies, index, scatter, embedding, reduce, distance,
    pad, pool, resample, norm, recurrent, source, sparse,
)  # fmt: skip

SAMPLES = tuple(sample for table in TABLES for sample in table.SAMPLES)
