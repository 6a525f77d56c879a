"""The ``_copy`` twins of views, which functionalised code builds: the same move into memory of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dynamiclrp_core.families import copying, scaling
from dynamiclrp_core.rule import Row

TWINS = frozenset(
    """AsStridedBackward0 DiagonalBackward0 ExpandBackward0 LiftFreshBackward0
    PermuteBackward0 ReshapeAliasBackward0 SelectBackward0 SliceBackward0 SplitBackward0
    SplitWithSizesBackward0 SqueezeBackward0 SqueezeBackward1 SqueezeBackward2 TBackward0
    TransposeBackward0 UnbindBackward0 UnfoldBackward0 UnsqueezeBackward0
    ValuesBackward0 ViewAsRealBackward0 ViewBackward0""".split()
)


def twins(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of the ``_copy`` twins of ``rows``: the nodes save the same fields under the same names."""
    for row in rows:
        if row.node in TWINS:
            yield replace(row, node=f"{row.node}_copy")


ROWS = (
    copying("AliasBackward0_copy", forward=lambda op, x: x),  # AliasBackward0 is core's
    scaling("NegViewBackward0_copy", forward=lambda op, x: -x, inverse=lambda op, y: -y),
)
