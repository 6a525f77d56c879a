"""Sparse tensors: relevance of what they store, entry by entry, and what refuses them."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_rules_std.samples.sparse import edges, edges_by_hand, places, quiet, rows
from torch import Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_learned_edges_of_a_graph() -> None:
    """Message (i <- j) is ``v_k x_j``: half of it to the edge, half to the node it came from."""
    v, x = random(4), random(3, 2, seed=1)
    run = lrp.propagate(torch.sparse.mm(edges(v), x), (v, x), ledger=True)
    assert run.ledger is not None and run.ledger.closed
    of_v, of_x = torch.zeros(4, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    for k, (_, j) in enumerate(places(v).T.tolist()):
        for f in range(2):
            message = (v[k] * x[j, f]).item()
            of_v[k] += message / 2
            of_x[j, f] += message / 2
    torch.testing.assert_close(run.relevance[0], of_v)
    torch.testing.assert_close(run.relevance[1], of_x)


def test_values_at_one_place_share_by_their_size() -> None:
    v = random(4)
    seed = torch.arange(9.0, dtype=torch.float64).view(3, 3)  # relevance of the matrix, not 1 each
    run = lrp.propagate(edges(v).to_dense(), v, seed * edges_by_hand(v).detach())
    expected = [v[k].item() * seed[i, j].item() for k, (i, j) in enumerate(places(v).T.tolist())]
    torch.testing.assert_close(run.relevance[0], torch.tensor(expected, dtype=torch.float64))


Call = Callable[[Tensor], Tensor]
AS_IF_DENSE: dict[str, Call] = {
    "scaled": lambda a: a * 2,
    "masked": lambda a: a * torch.eye(3, dtype=torch.float64),
    "transposed": lambda a: a.t(),
    "rows": lambda a: a.index_select(0, torch.tensor([2, 0])),
    "joined": lambda a: torch.cat([a, a]),
    "powers": lambda a: a**2,
    "absolute": lambda a: a.abs(),
    "all": lambda a: a.sum(),
    "times a vector": lambda a: a @ torch.arange(1.0, 4.0, dtype=torch.float64),
    "times itself": lambda a: a @ a,
}


@pytest.mark.parametrize("name", AS_IF_DENSE)
def test_other_operations_treat_it_as_the_dense_one(name: str) -> None:
    v = random(4)
    sparse, dense = (quiet(AS_IF_DENSE[name])(a) for a in (edges(v), edges_by_hand(v)))
    runs = [
        lrp.propagate(y, v, ledger=True) for y in (sparse.to_dense() if sparse.is_sparse else sparse, dense)
    ]
    assert runs[0].ledger is not None and runs[0].ledger.closed
    torch.testing.assert_close(runs[0].relevance[0], runs[1].relevance[0])


REFUSED: dict[str, Call] = {
    "relu": lambda v: torch.relu(edges(v)).to_dense(),
    "tanh": lambda v: edges(v).tanh().to_dense(),
    "rows, sin": lambda v: rows(v[:3]).sin().to_dense(),
    "sum with itself": lambda v: (edges(v) + edges(v).sin()).to_dense(),
    "softmax": lambda v: torch.sparse.softmax(edges(v), 1).to_dense(),
    "added term": lambda v: torch.sparse.addmm(torch.ones(3, 3).double(), edges(v), torch.eye(3).double()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_rule_knows_is_refused_by_name(name: str) -> None:
    v = random(4)
    y = quiet(REFUSED[name])(v)
    with pytest.raises(lrp.MissingRule, match=r"sparse[\s\S]*cure: "):
        lrp.relevance(y, v)
