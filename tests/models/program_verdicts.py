"""Is a failed check of a random program a finding, and what is the least program that still shows it?"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from dynamiclrp_core import DynamicLRPError, MissingRule, NonFinite, Rules, Run, Unrecoverable
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, kind

from .program_checks import (
    Broken,
    Look,
    Recorded,
    Unexplained,
    Unrunnable,
    answer,
    check,
    distance,
    hidden,
    relevance,
)
from .random_programs import Forward, Program

PATIENCE = 60.0  # seconds to shrink one finding


def refuses_alike(program: Program, rules: Rules, error: DynamicLRPError) -> str:
    """The answer of a program that no run explains. Raises Broken if one does, asked in another way.

    What the refusal stands in the way of is checked too: the program without the steps that build its node.
    """
    said = answer(error, rules)
    seeds = [y.detach() for y in Recorded(program).outputs]
    nonzero = all(bool((y != 0).all()) for y in seeds)
    ways: dict[str, Callable[[], Run]] = {"without a ledger": lambda: Recorded(program).run(rules)}
    if isinstance(error, MissingRule):  # a value that is lost may be saved by, or not needed in, these ways
        ways |= {
            "where values are hidden": lambda: hidden(program, rules),
            "where constants are trainable": lambda: Recorded(program, True).run(rules),
            "by values": lambda: Recorded(program).run(rules, seeds if nonzero else None),
        }
    for way, run in ways.items():
        try:
            run()
        except (MissingRule, Unrecoverable) as other:
            again = answer(other, rules)  # of lost values, another may be met first
            if isinstance(error, MissingRule) and isinstance(other, MissingRule) and again != said:
                raise Broken("another refusal", f"{way}: {again}, else {said}") from other
        else:
            raise Broken("refuses in some ways only", f"not {way}: {said}")
    rest = without_node(program, said.split(":")[0])
    beside = trouble(rest, rules)
    if beside and not beside.startswith(ANSWERS):
        raise Broken(f"beside a refusal: {beside.splitlines()[0]}", f"{beside}\n  {rest}")
    return f"refused\n{said}"


def without_node(program: Program, node: str) -> Program:
    """The program without the steps that build nodes of this name."""
    made = [x.detach() for x in Forward(program).start()]
    building = []
    for k, step in enumerate(program.steps):
        before = [x.detach().requires_grad_() for x in made]
        y = Forward(program).step(step, before)
        if any(kind(n) == node for n in Graph([address(y)] if y.requires_grad else []).order):
            building.append(k)
        made.append(y.detach())
    for k in reversed(building):
        program = program.without(k, k + 1)
    if not building:
        raise Broken("a refusal of a node that no step builds", node)
    return program


# -- what rounding decides --------------------------------------------------------------------------


def noise(program: Program, rules: Rules, look: Look = relevance) -> float:
    """By how much what is looked at changes with the last digits of the numbers that the program computes.

    No check can be sharper than that. All tensors get other digits, not the inputs alone: what is divided
    by rounding may be made of constants. Infinite where this takes the program to a pole.
    """
    try:
        seen = [look(Recorded(program, jitter=k).run(rules, ledger=True)) for k in range(9)]
    except (NonFinite, Unrunnable):
        return float("inf")
    off = [distance(seen[0], other) for other in seen[1:]]
    return float("inf") if any(d != d for d in off) else max(off)


def elsewhere(program: Program) -> Iterator[Program]:
    """The program at other inputs, without an eighth of its steps at a time, and an eighth alone.

    A wrong rule in a program that rounding decides is wrong there too, and most of these are free of
    what made rounding decide.
    """
    for k in range(1, 4):
        yield replace(program, seed=program.seed + k)
    count = len(program.steps)
    size = max(1, count // 8)
    for k in range(0, count, size):
        if count > size:
            yield program.without(k, k + size)
            yield program.without(k + size, count).without(0, k)


# -- the verdict ------------------------------------------------------------------------------------

ANSWERS = ("refused", "refused in part", "not booked", "rounding decides")
"""What ``trouble`` says first where no check is known to fail."""


def trouble(program: Program, rules: Rules) -> str:
    """The name of the check that fails and what was seen, on two lines or more; or nothing.

    A refusal by name (``answer``) and a ledger that names what it cannot book are answers: ``ANSWERS``.
    Where a value is itself rounding (the mean of what was centred, 1e-17) and a function with a pole makes
    all of the output of it, rounding decides what is seen: that is said if nothing is seen ``elsewhere``.
    """
    what, by_rounding = verdict(program, rules)
    if by_rounding:
        for other in elsewhere(program):
            there, rounded = verdict(other, rules)
            if there and not rounded and not there.startswith(ANSWERS):
                return f"{there}\n  {other}"
        return f"rounding decides\n{what.splitlines()[0]}"
    return what


def verdict(program: Program, rules: Rules) -> tuple[str, bool]:
    """``trouble`` before it looks elsewhere, and whether a tenth of what fails is within ``noise``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                unsaid = check(program, rules)
            except Unexplained as refused:
                unsaid = [refuses_alike(program, rules, refused.error)]
    except Unrunnable:
        return "", False
    except Broken as error:
        # What a wrong rule is off by stays what it was to many digits: a tenth is plenty.
        by_rounding = error.size < torch.inf and error.size <= 10 * noise(program, rules, error.look)
        return f"{error.check}\n{error}", by_rounding
    except DynamicLRPError as error:
        return f"{type(error).__name__} {str(error).splitlines()[0].split(':')[0]}\n{error}", False
    except Exception as error:
        return f"{type(error).__name__}\n{error}", False
    return unsaid[0] if unsaid else "", False


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A program that still fails and from which no more can be taken: halves, quarters, ... steps."""
    end, size = time.monotonic() + PATIENCE, max(1, len(program.steps) // 2)
    while time.monotonic() < end:
        smaller = [
            *(program.without(k, k + size) for k in range(len(program.steps) - size, -1, -size)),
            Program(program.seed, program.steps, program.inputs, 1),
            Program(program.seed, tuple(s._replace(region=0) for s in program.steps), program.inputs,
                program.outputs),
        ]  # fmt: skip
        for fewer in smaller:
            if fewer != program and fewer.steps and time.monotonic() < end and fails(fewer):
                program = fewer
                break
        else:
            if size == 1:
                return program
            size //= 2
        size = min(size, max(1, len(program.steps) // 2))
    return program
