"""What a node costs in Python: chains of cheap ops, microseconds per node by length."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from dynamiclrp_core import Sweep, preset, propagate
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address
from measuring import FEWEST, Found, Work, interval, seconds
from torch import Tensor

T = TypeVar("T")
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
STACK = 512 * 2**20


def chain(x: Tensor, nodes: int) -> Tensor:
    """A chain of ``nodes`` cheap ops, four kinds in turn: linear, gate, product, sum."""
    factor, term = torch.tensor(1.01), torch.tensor(0.01)
    for i in range(nodes):
        which = i % 4
        if which == 0:
            x = -x
        elif which == 1:
            x = torch.relu(x)
        elif which == 2:
            x = x * factor
        else:
            x = x + term
    return x


def walk(y: Tensor, x: Tensor) -> Work:
    return lambda: Graph([address(y)])


def walk_and_scan(y: Tensor, x: Tensor) -> Work:
    table = preset("default")

    def work() -> None:
        sweep = Sweep(Graph([address(y)]), [address(x)], (), table, {})
        sweep.values.existing.index  # noqa: B018

    return work


def all_of_default(y: Tensor, x: Tensor) -> Work:
    table = preset("default")
    return lambda: propagate(y, x, rules=table)


def bare_calls(y: Tensor, x: Tensor) -> Work:
    """The kernels of ``default`` and nothing else: each node called once, in a plain loop."""
    nodes: list[Any] = Graph([address(y)]).order[:0:-1]
    seed = torch.ones_like(y)

    def work() -> None:
        c = seed
        for node in nodes:
            made = node(c)
            c = made[0] if isinstance(made, tuple) else made

    return work


COSTS: dict[str, Callable[[Tensor, Tensor], Work]] = {
    "walk": walk,
    "walk + scan": walk_and_scan,
    "bare node calls": bare_calls,
    "all of default": all_of_default,
}


def per_node(nodes: int, runs: int) -> dict[str, list[float]]:
    """Microseconds per node, each run on a new graph: the first look at a node costs more."""
    taken: dict[str, list[float]] = {name: [] for name in COSTS}
    for _ in range(runs):
        for name, prepare in COSTS.items():
            x = torch.ones(4, requires_grad=True)
            work = prepare(chain(x, nodes), x)
            gc.collect()
            taken[name].append(seconds(work) / nodes * 1e6)
            del work
    whole, kernels = taken.pop("all of default"), taken["bare node calls"]
    taken["beyond the kernels"] = [a - b for a, b in zip(whole, kernels)]
    return taken


def chains(sizes: Sequence[int], pairs: int | None) -> Iterator[Found]:
    """The costs per node, by length of the chain."""
    warnings.filterwarnings("ignore", message=".*nodes deep.*")
    for nodes in sizes:
        runs = pairs or max(FEWEST, min(101, 200_000 // nodes))
        for cost, values in per_node(nodes, runs).items():
            yield {"table": "chain", "case": f"{nodes:,}", "cost": cost, "time": interval(values)}


def with_large_stack(work: Callable[[], T]) -> T:
    """``work()`` where there is stack for torch to destroy a chain of 10^6 nodes."""
    threading.stack_size(STACK)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()
