"""The one metric, (forward + relevance) / (forward + torch.autograd.grad(y, x)), in time and in memory."""

from __future__ import annotations

import gc
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import date
from statistics import median
from typing import Any

import torch
from dynamiclrp_core import preset, propagate, record
from torch import Tensor

Work = Callable[[], object]
Found = dict[str, Any]
FEWEST = 6  # with five values not even their range is a 95 % interval
UNRECORDED = ("default", "attnlrp", "cp-lrp", "mambalrp")
"""Presets that need nothing that autograd drops: their forward is not recorded."""


def sides(forward: Callable[[], Tensor], inputs: Sequence[Tensor], rules: str) -> tuple[Work, Work, Work]:
    """Forward and relevance; forward and gradient; the same with ``retain_graph=True``.

    The forward is recorded where rules may ask for what autograd drops, as ``LRP(model).attribute`` does
    it, and pays for it here.
    """
    table = preset(rules)

    def relevance() -> object:
        with nullcontext() if rules in UNRECORDED else record() as kept:
            y = forward()
        found = propagate(y, inputs, rules=table).relevance
        if kept is not None:
            kept.clear()
        return found

    def gradient(keep: bool = False) -> object:
        y = forward()
        return torch.autograd.grad(y, inputs, torch.ones_like(y), retain_graph=keep)

    return relevance, gradient, lambda: gradient(keep=True)


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


def interval(values: Sequence[float]) -> Found:
    """Median and its interval of 95 % or more by order statistics; of ``FEWEST`` values at least.

    The k-th smallest and k-th largest of n enclose the median unless fewer than k of n coin throws
    fall on one side, whatever the distribution of the values.
    """
    ranked = sorted(values)
    n = len(ranked)
    k = below = 0
    while (below := below + math.comb(n, k)) / 2**n <= 0.025:
        k += 1
    return {"median": median(ranked), "low": ranked[k - 1], "high": ranked[n - k], "pairs": n}


def peak_bytes(work: Work) -> int:
    """Peak of torch's CPU allocator during one call (not the first), above what was there before.

    Counts every tensor the call makes, to the byte and the same at every run. Does not count
    weights (there before), Python objects, nor what libraries take past torch's allocator.
    """
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


def peaks(relevance: Work, frees: Work, keeps: Work) -> Found:
    """Peak memory of relevance, and its ratios to the gradient's.

    Twice: ``torch.autograd.grad`` frees the graph as it goes, relevance leaves it to the caller, as
    ``retain_graph=True`` does.
    """
    relevance(), frees()
    peak = peak_bytes(relevance)
    memory = {"over_grad": peak / peak_bytes(frees), "over_kept": peak / peak_bytes(keeps)}
    return {"peak_mib": peak / 2**20, "memory": memory}


def silenced() -> None:
    """For a process that measures memory: torch's profiler chats on stderr."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def verdict(found: float | Found, budget: float | None) -> str:
    """Met if the interval's lower end is within the budget; said so where the median is not."""
    if budget is None:
        return ""
    low, middle = (found["low"], found["median"]) if isinstance(found, dict) else (found, found)
    state = "met" if middle <= budget else "lower end met" if low <= budget else "MISSED"
    return f"{budget:g} {state}"


def circumstances() -> Found:
    """When and on what a figure was made."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    used = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    if "transformers" in sys.modules:
        used.insert(1, f"transformers {sys.modules['transformers'].__version__}")
    machine = f"{', '.join(used)}; {platform.machine()}, cores {cores}, threads {torch.get_num_threads()}"
    return {"date": date.today().isoformat(), "machine": machine}
