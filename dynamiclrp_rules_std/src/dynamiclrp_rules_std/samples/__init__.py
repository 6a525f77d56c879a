"""Calls that make autograd build each node of this pack, table by table."""

from __future__ import annotations

from . import activation, arithmetic, index, linalg, norm, pad, pool, recurrent, reduce, resample, shape

TABLES = (arithmetic, activation, linalg, shape, index, reduce, pad, pool, resample, norm, recurrent)

SAMPLES = tuple(sample for table in TABLES for sample in table.SAMPLES)
