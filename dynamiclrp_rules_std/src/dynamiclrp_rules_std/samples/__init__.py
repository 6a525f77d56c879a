"""Calls that make autograd build each node of this pack, table by table."""

from __future__ import annotations

from . import (
    activation,
    arithmetic,
    binary,
    complexes,
    conv,
    copies,
    decomposition,
    distance,
    embedding,
    foreach,
    index,
    linalg,
    norm,
    pad,
    pool,
    recurrent,
    reduce,
    resample,
    scan,
    scatter,
    shape,
    source,
    sparse,
    special,
)

TABLES = (
    arithmetic, binary, special, activation, linalg, decomposition, complexes, conv, shape, copies, index,
    scatter, embedding, reduce, scan, distance, pad, pool, resample, norm, recurrent, source, sparse,
    foreach,
)  # fmt: skip

SAMPLES = tuple(sample for table in TABLES for sample in table.SAMPLES)
