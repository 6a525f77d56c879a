"""All groups of spellings."""

from __future__ import annotations

from .attention import ATTENTION
from .blocks import BLOCKS
from .linear import LINEAR, MOVES, SUMS
from .norms import NORMS
from .rotary import ROTARY
from .scalars import FUNCTIONS, GATES
from .softmax import SOFTMAX
from .table import Group

GROUPS: tuple[Group, ...] = (
    *GATES, *FUNCTIONS, *NORMS, *SOFTMAX, *ATTENTION, *BLOCKS, *ROTARY, *LINEAR, *SUMS, *MOVES,
)  # fmt: skip
