"""Any expression of one tensor, entry by entry, is one function: each entry gets ``f(x) - f(0)``."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from .insertions import NOTHING, Inserting

Expression = Callable[[Tensor], Tensor]

# All finite at every x, so that no baseline is at a pole.
UNARY: dict[str, Expression] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp(-x^2)": lambda x: torch.exp(-(x**2)),
    "softplus": F.softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "square": torch.square,
    "cube": lambda x: x**3,
    "scaled": lambda x: -0.5 * x,
    "sigmoid by hand": lambda x: 1 / (1 + torch.exp(-x)),
    "softplus by hand": lambda x: torch.log(1 + x.exp()),
    "erf": torch.erf,
    "root of sigmoid": lambda x: x.sigmoid().sqrt(),
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": lambda a, b: a / (1 + torch.exp(-b)),
    "weighted": lambda a, b: 0.3 * a + 0.7 * b,
}

Tree = str | tuple["Tree", ...]
trees = st.recursive(
    st.just("x"),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(sorted(UNARY)), inner),
        st.tuples(st.sampled_from(sorted(BINARY)), inner, inner),
    ),
    max_leaves=4,
)


def evaluated(tree: Tree, x: Tensor) -> Tensor:
    if isinstance(tree, str):
        return x
    operands = [evaluated(t, x) for t in tree[1:]]
    name = str(tree[0])
    return UNARY[name](*operands) if len(operands) == 1 else BINARY[name](*operands)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.lists(st.integers(0, len(NOTHING) - 1), min_size=1, max_size=5))
def test_each_entry_gets_its_rise(tree: Tree, chosen: list[int]) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, generator=g, dtype=torch.float64).requires_grad_()
    with lrp.record(), Inserting([c for c in chosen if c != 6] or [0]):
        y = evaluated(tree, x) if isinstance(tree, tuple) else x * 1.0
    assume(bool(torch.isfinite(y).all()) and float(y.detach().abs().max()) < 1e6)
    (made,) = lrp.relevance(y, x)
    values, expected = x.tolist(), torch.zeros(3, 4, dtype=torch.float64)
    for i in range(3):
        for j in range(4):
            at = [evaluated(tree, torch.tensor(v, dtype=torch.float64)) for v in (values[i][j], 0.0)]
            expected[i, j] = at[0] - at[1]
    torch.testing.assert_close(made, expected, rtol=1e-6, atol=1e-7)
