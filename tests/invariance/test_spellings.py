"""Every spelling of a computation gives the map of the first one."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch

from .norms import NORMS
from .scalars import FUNCTIONS, GATES
from .table import Group, agree, explain

GROUPS: tuple[Group, ...] = (*GATES, *FUNCTIONS, *NORMS)
PAIRS = [
    pytest.param(g, s, id=f"{g.name}-{s}") for g in GROUPS for s in g.spellings if s != g.first
]
# The stabiliser is per node, so a spelling of more nodes has more of them: small, it must not matter.
RULES = {"default": lrp.preset("default"), "epsilon": lrp.preset("epsilon", epsilon=1e-10)}


def same_values(group: Group, spelling: str) -> None:
    """The spellings must first of all be the same function."""
    live, constants = group.tensors()
    a, b = (group.spellings[s](*live, *constants) for s in (spelling, group.first))
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(("group", "spelling"), PAIRS)
def test_one_map(group: Group, spelling: str, rules: str) -> None:
    same_values(group, spelling)
    for trainable in (True, False):
        live, constants = group.tensors(trainable=trainable)
        # Spellings that pass float32 on the way cannot agree better than that.
        tolerance = 1e-5 if spelling in ("Llama", "float32") else 1e-7
        expected = explain(group.spellings[group.first], live, constants, RULES[rules])
        agree(explain(group.spellings[spelling], live, constants, RULES[rules]), expected, tolerance)
