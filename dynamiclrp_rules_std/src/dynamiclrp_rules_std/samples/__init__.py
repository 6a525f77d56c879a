"""Calls that make autograd build each node of this pack, table by table."""

from __future__ import annotations

from . import activation, arithmetic, index, linalg, norm, pool, recurrent, reduce, shape

TABLES = (arithmetic, activation, linalg, shape, index, reduce, pool, norm, recurrent)

SAMPLES = tuple(sample for table in TABLES for sample in table.SAMPLES)
