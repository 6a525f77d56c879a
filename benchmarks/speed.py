"""What relevance costs beside a gradient: ``python benchmarks/speed.py --help``.

The one metric: (forward + relevance) / (forward + torch.autograd.grad(y, x)), same model, input and
seed of ones, runs interleaved in one process. README.md says how to read the table.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch
from dynamiclrp_core import Sweep, preset, propagate, record
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address
from models import CASES, Case
from peers import peers
from torch import Tensor, nn

RULES = ("default", "epsilon", "epsilon-plus", "gamma", "epsilon-alpha2-beta1", "dynamiclrp")
IMAGES = ("vgg16", "resnet50", "efficientnet")
OF_IMAGES = dict(zip(RULES, (1.02, 1.3, 1.7, 2.7, 2.7, 1.3)))
BUDGETS = {
    **{(case, rules): budget for case in IMAGES for rules, budget in OF_IMAGES.items()},
    ("mlp21", "default"): 1.5,
    ("mlp21", "epsilon"): 4.0,
    ("gpt2", "default"): 1.02,
    ("gpt2", "dynamiclrp"): 1.3,
    ("gpt2-one", "default"): 0.88,
    ("walk", ""): 2.5,
    ("walk + scan", ""): 5.0,
    ("beyond the kernels", ""): 6.0,
}
MEMORY_BUDGETS = {"default": 1.1}  # of other rules 1.3
PEERS = ("zennit ", "captum ")
RECORD_BUDGET = 1.05
CHAINS = (100, 1_000, 10_000, 100_000, 1_000_000)
FEWEST = 6  # with five values not even their range is a 95 % interval
STACK = 512 * 2**20

Work = Callable[[], object]


# -- measuring -------------------------------------------------------------------------------------


def seconds(work: Work) -> float:
    """Wall time of one call, dropping its graph included."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired_ratios(a: Work, b: Work, pairs: int) -> list[float]:
    """Ratios of neighbouring runs, A B A B: a slow phase of the machine hits both sides."""
    for work in (a, b):
        work()
    return [seconds(a) / seconds(b) for _ in range(pairs)]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and its interval of 95 % or more by order statistics; of ``FEWEST`` values at least.

    The k-th smallest and k-th largest of n enclose the median unless fewer than k of n coin throws
    fall on one side, whatever the distribution of the values.
    """
    ranked = sorted(values)
    n = len(ranked)
    k = below = 0
    while (below := below + math.comb(n, k)) / 2**n <= 0.025:
        k += 1
    return median(ranked), ranked[k - 1], ranked[n - k]


def peak_bytes(work: Work) -> int:
    """Peak of torch's CPU allocator during one call, above what was there before.

    Counts every tensor the call makes, to the byte and the same at every run. Does not count
    weights (there before), Python objects, nor what libraries take past torch's allocator.
    """
    work()
    gc.collect()
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def silenced() -> None:
    """For the process that measures memory: torch's profiler chats on stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def peak_ratios(
    name: str, weights: str, batch: int | None, rules: Sequence[str]
) -> list[tuple[float, float]]:
    """Peak memory of relevance over the gradient's, for each of ``rules``.

    Twice: ``torch.autograd.grad`` frees the graph as it goes, relevance leaves it to the caller, as
    ``retain_graph=True`` does.
    """
    model, x = CASES[name].make(trainable=weights == "trainable", batch=batch)
    ratios = []
    for rule in rules:
        relevance, frees = sides(model, x, rule)
        _, keeps = sides(model, x, rule, keep=True)
        peak = peak_bytes(relevance)
        ratios.append((peak / peak_bytes(frees), peak / peak_bytes(keeps)))
    return ratios


def verdict(low: float, budget: float | None) -> str:
    """Met if the interval's lower end is within the budget."""
    return "" if budget is None else f"{budget:g} " + ("met" if low <= budget else "MISSED")


# -- models ----------------------------------------------------------------------------------------


def sides(model: nn.Module, x: Tensor, rules: str, keep: bool = False) -> tuple[Work, Work]:
    """Forward and relevance, forward and gradient; ``keep``: with ``retain_graph=True``.

    ``default`` asks for no value. The others may ask for what autograd drops, so their forward is
    recorded, as ``LRP(model).attribute`` does, and pays for it here. ``rules`` may be a peer's.
    """
    peer = peers()[rules](model, x) if rules.startswith(PEERS) else None
    table = preset("default" if peer else rules)

    def relevance() -> object:
        with nullcontext() if rules == "default" else record() as kept:
            y = model(x)
        found = propagate(y, x, rules=table).relevance
        if kept is not None:
            kept.clear()
        return found

    def gradient() -> object:
        y = model(x)
        return torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=keep)

    return peer or relevance, gradient


def able(model: nn.Module, x: Tensor, rules: str) -> str:
    """Why a peer cannot explain the model, "" if it can."""
    try:
        sides(model, x, rules)[0]()
    except Exception as error:  # anything may go wrong in there
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def models(
    cases: dict[str, Case], rules: Sequence[str], batch: int | None, pairs: int | None
) -> Iterator[str]:
    """Lines of the table: the metric per model, weights and rules."""
    yield (
        f"{'case':<13}{'batch':>5}  {'weights':<11}{'rules':<28}{'ratio':>7}  {'95 % interval':<18}"
        f"{'budget':<13}{'memory':>6} {'kept':>6}  budget"
    )
    # A process of its own: once it has profiled, all that torch does there is slower.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=silenced) as other:
        for name, case in cases.items():
            for weights in ("trainable", "frozen"):
                model, x = case.make(trainable=weights == "trainable", batch=batch)
                head = f"{name:<13}{len(x):>5}  {weights:<11}"
                able_rules = []
                for rule in rules:
                    if rule.startswith(PEERS) and (why := able(model, x, rule)):
                        yield f"{head}{rule:<28}left out: {why[:110]}"
                    else:
                        able_rules.append(rule)
                memory = other.submit(peak_ratios, name, weights, batch, able_rules).result()
                for rule, (peak, kept) in zip(able_rules, memory):
                    middle, low, high = interval(paired_ratios(*sides(model, x, rule), pairs or case.pairs))
                    budget = BUDGETS.get((name, rule))
                    limit = None if budget is None else MEMORY_BUDGETS.get(rule, 1.3)
                    yield (
                        f"{head}{rule:<28}{middle:>7.3f}  {f'[{low:.3f}, {high:.3f}]':<18}"
                        f"{verdict(low, budget):<13}{peak:>6.3f} {kept:>6.3f}  {verdict(peak, limit)}"
                    ).rstrip()


def recorded(cases: dict[str, Case], pairs: int | None) -> Iterator[str]:
    """Lines of the table: what ``record()`` adds to a forward."""
    yield f"{'case':<13}{'weights':<11}{'record() / plain':>17}  {'95 % interval':<18}budget"
    for name, case in cases.items():
        for weights in ("trainable", "frozen"):
            model, x = case.make(trainable=weights == "trainable")

            def with_record(model: nn.Module = model, x: Tensor = x) -> None:
                with record() as kept:
                    model(x)
                kept.clear()

            def plain(model: nn.Module = model, x: Tensor = x) -> None:
                model(x)

            middle, low, high = interval(paired_ratios(with_record, plain, pairs or case.pairs))
            budget = verdict(low, RECORD_BUDGET if name in ("vgg16", "resnet50") else None)
            yield (
                f"{name:<13}{weights:<11}{middle:>17.3f}  {f'[{low:.3f}, {high:.3f}]':<18}{budget}"
            ).rstrip()


# -- chains: what a node costs in Python -----------------------------------------------------------


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
        sweep.values.index  # noqa: B018

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


def chains(sizes: Sequence[int], pairs: int | None) -> Iterator[str]:
    """Lines of the table: microseconds per node, by length of the chain."""
    yield f"{'nodes':>9}  {'cost per node':<20}{'us':>7}  {'95 % interval':<16}budget"
    for nodes in sizes:
        runs = pairs or max(FEWEST, min(101, 200_000 // nodes))
        for name, values in per_node(nodes, runs).items():
            middle, low, high = interval(values)
            yield (
                f"{nodes:>9}  {name:<20}{middle:>7.2f}  {f'[{low:.2f}, {high:.2f}]':<16}"
                f"{verdict(low, BUDGETS.get((name, '')))}"
            ).rstrip()


def with_large_stack(lines: Iterator[str]) -> None:
    """Print ``lines``, made where there is stack for torch to destroy a chain of 10^6 nodes."""
    failed: list[BaseException] = []

    def shown() -> None:
        try:
            show(lines)
        except BaseException as error:
            failed.append(error)

    threading.stack_size(STACK)
    thread = threading.Thread(target=shown)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def show(lines: Iterator[str]) -> None:
    """Print a table line by line, as it is made."""
    print()
    for line in lines:
        print(line, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--case", nargs="+", choices=[*CASES, "chain", "record"], metavar="CASE",
        help=f"some of {', '.join(CASES)}, chain, record (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--rules", nargs="+", default=RULES, metavar="PRESET", help=f"default: {' '.join(RULES)}"
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[None], help="samples (default: by case)")
    parser.add_argument("--peers", action="store_true", help="zennit and captum too, where they import")
    parser.add_argument("--pairs", type=int, help="pairs of runs per figure (default: by case)")
    parser.add_argument("--quick", action="store_true", help=f"{FEWEST} pairs, chains up to 10^4 nodes")
    args = parser.parse_args()
    chosen = args.case or [*CASES, "chain", "record"]
    pairs = args.pairs or (FEWEST if args.quick else None)
    if pairs is not None and pairs < FEWEST:
        parser.error(f"--pairs: {FEWEST} or more, for an interval of 95 %")
    cases = {name: case for name, case in CASES.items() if name in chosen}
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"Python {platform.python_version()}; budgets are met if the lower end is within"
    )
    rules = [*args.rules]
    if args.peers:
        rules += [peer for peer in peers() if peer.split(" ", 1)[1] in rules]
    for batch in args.batch if cases else ():
        show(models(cases, rules, batch, pairs))
    if "record" in chosen:
        show(recorded(cases or CASES, pairs))
    if "chain" in chosen:
        warnings.filterwarnings("ignore", message=".*nodes deep.*")
        with_large_stack(chains(CHAINS[:3] if args.quick else CHAINS, pairs))


if __name__ == "__main__":
    main()
