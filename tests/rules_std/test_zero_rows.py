"""Rows of a coefficient that are zero need no product: the map must be the same, and exactly 0 there."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core import zero_rows
from dynamiclrp_core.zero_rows import ExplainedRows
from torch import Tensor, nn


class Mixer(nn.Module):
    """Positions see each other in the first half only, so relevance is one row, then all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(7, 7)
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 4)
        self.head = nn.Linear(4, 9, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(self.mix(x.mT).mT))
        y: Tensor = self.head(torch.relu(self.second(h)))
        return y


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each product was cut down to."""
    found: list[int] = []
    plain = ExplainedRows.__call__

    def explained_rows(self: ExplainedRows, c: Tensor) -> Tensor | None:
        rows = plain(self, c)
        if rows is not None:
            found.append(len(rows))
        return rows

    monkeypatch.setattr(ExplainedRows, "__call__", explained_rows)
    monkeypatch.setattr(zero_rows, "ROWS_PAY", 0)
    return found


@pytest.mark.parametrize("rules", ["default", "epsilon"])
@pytest.mark.parametrize("where", [(1, 6), (0, 0), (1, 3)])
def test_one_explained_position(rules: str, where: tuple[int, int], counted: list[int]) -> None:
    torch.manual_seed(0)
    net = Mixer().double()
    x = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)

    def explained() -> Tensor:
        with lrp.record():
            y = net(x)[where][2]
        return lrp.relevance(y, x, rules=rules)[0]

    found = explained()
    assert counted[:2] == [1, 1], "head and last layer: one row of fourteen"
    counted.clear()
    zero_rows.ROWS_PAY = 10**9
    expected = explained()
    assert not counted
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert found[where[0]].all(1).all() and not found[1 - where[0]].any()


def test_a_dense_seed_is_looked_at_once(counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    counting = ExplainedRows.__call__

    def looked(self: ExplainedRows, c: Tensor) -> Tensor | None:
        looks.append(not self.over)
        return counting(self, c)

    monkeypatch.setattr(ExplainedRows, "__call__", looked)
    x = torch.randn(2, 7, 5, requires_grad=True)
    lrp.relevance(Mixer()(x), x)
    assert not counted and looks == [True] + [False] * (len(looks) - 1) and len(looks) > 2


def test_the_derivative_of_a_map_keeps_rows_that_happen_to_be_zero(counted: list[int]) -> None:
    """With ``create_graph`` a zero may have a derivative."""
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    s = torch.zeros(6, 1, dtype=torch.float64, requires_grad=True)
    w = torch.randn(5, 4, dtype=torch.float64)
    (r,) = lrp.relevance(x @ w * s, x, create_graph=True)
    (g,) = torch.autograd.grad(r.sum(), s)
    assert not counted
    torch.testing.assert_close(g, (x @ w).sum(1, keepdim=True).detach())


def test_complex_rows(counted: list[int]) -> None:
    """Complex numbers have no largest."""
    x = torch.randn(6, 5, dtype=torch.complex128, requires_grad=True)
    w = torch.randn(5, 4, dtype=torch.complex128)
    (r,) = lrp.relevance((x @ w)[2], x)
    assert counted == [1]
    assert r[2].abs().sum() > 0 and not r[[0, 1, 3, 4, 5]].any()
