"""A wrong rule to plant into programs."""

from __future__ import annotations

from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries
from dynamiclrp_core.rules.defaults import Linear
from torch import Tensor


class Doubled(Linear):
    """Twice the gradient."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        return [None if e is None else 2 * e for e in op.backward(*c)]
