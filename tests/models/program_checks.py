"""What must hold of any program under any rules, and the least program that still breaks it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from dynamiclrp_core import DynamicLRPError, Rules, Run, Unrecoverable, propagate, record
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, leaf
from dynamiclrp_core.testing import hidden_values
from torch import Tensor

from .random_programs import BATCH, Forward, Program, by_sample

PATIENCE = 60.0  # seconds to shrink one finding
ROUNDING = 1e-9  # of all relevance that flowed: programs invert matrices and divide by what nearly cancels


class Broken(Exception):
    """A check does not hold: its name, what was seen, and by how much it is off if that is a number."""

    def __init__(self, check: str, seen: str, size: float = torch.inf) -> None:
        super().__init__(f"{check}: {seen}")
        self.check = check
        self.size = size


class Refused(Exception):
    """Torch itself cannot run the program (a complex view of a row at an odd place, say)."""


@dataclass
class Recorded:
    """A forward under ``record()`` and what can be explained of it."""

    program: Program
    trainable: bool = False
    row: int | None = None
    shift: float = 0.0
    inputs: list[Tensor] = field(init=False)
    outputs: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.program.seed)
        forward = Forward(self.program, self.trainable, self.row)
        self.inputs = [(x.detach() * (1 + self.shift)).requires_grad_() for x in forward.start()]
        with record():
            try:
                made = forward(self.inputs)
            except RuntimeError as error:
                raise Refused(str(error)) from error
        self.outputs = [y for y in made[-self.program.outputs :] if y.requires_grad]

    def run(self, rules: Rules, seeds: Sequence[Tensor] | None = None, **arguments: Any) -> Run:
        return propagate(self.outputs, self.inputs, seeds, rules=rules, allow_unused=True, **arguments)

    def constants(self) -> list[Tensor]:
        """The leaves besides the inputs."""
        leaves = [leaf(node) for node in Graph([address(y) for y in self.outputs]).order]
        return [t for t in leaves if t is not None and all(t is not x for x in self.inputs)]

    def grads(self) -> list[Tensor | None]:
        ones = [torch.ones_like(y) for y in self.outputs]
        torch.autograd.backward(self.outputs, ones, retain_graph=True)
        grads = [x.grad for x in self.inputs]
        for x in self.inputs:
            x.grad = None
        return grads


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The largest difference of an entry."""
    return max((float((x - y).abs().max()) for x, y in zip(a, b) if x.numel()), default=0.0)


def hold(check: str, seen: str) -> None:
    if seen:
        raise Broken(check, seen)


def same(check: str, a: Sequence[Tensor], b: Sequence[Tensor], scale: float) -> None:
    """Raises Broken for what differs beyond rounding."""
    off = distance(a, b)
    if not off <= ROUNDING * scale:
        raise Broken(check, f"off by {off:.3g} at a scale of {scale:.3g}", off)


def check(program: Program, rules: Rules) -> list[str]:
    """What the ledger could not book. Raises Broken, or the error of a run that should have given none."""
    case = Recorded(program)
    if not case.outputs:
        return []
    try:
        again: list[Tensor | None] | None = Recorded(program).grads()
    except (RuntimeError, AssertionError):  # torch itself cannot, or a sample's hook ran, as it should
        again = None
    random_state, versions = torch.get_rng_state(), [t._version for t in (*case.inputs, *case.outputs)]
    run = case.run(rules, ledger=True)
    books = run.ledger
    assert books is not None
    found, scale = run.relevance, max(books.scale, books.seed_abs, 1.0)
    hold("finite", "" if all(bool(r.isfinite().all()) for r in found) else "NaN or inf")
    closed = books.closed or bool(books.unattributed) or abs(books.residue) <= ROUNDING * scale
    if not closed:
        raise Broken("ledger", str(books), abs(books.residue))
    same("second run", case.run(rules).relevance, case.run(rules).relevance, 0.0)
    same("with and without a ledger", case.run(rules).relevance, found, scale)
    hold("random state", "" if torch.equal(random_state, torch.get_rng_state()) else "changed")
    hold("grads", "" if all(x.grad is None for x in case.inputs) else "written")
    now = [t._version for t in (*case.inputs, *case.outputs)]
    hold("versions", "" if now == versions else f"{versions} became {now}")
    for before, after in zip(again or (), case.grads() if again else ()):
        equal = before is after or (
            before is not None and after is not None and torch.allclose(before, after, 0, 0, equal_nan=True)
        )
        hold("backward afterwards", "" if equal else f"{before} became {after}")
    trained = Recorded(program, True)
    same("frozen == trainable", trained.run(rules).relevance, found, scale)
    if also := trained.constants():
        beside = trained.run(rules, at=also, ledger=True)
        same("a read-out changes nothing", beside.relevance, found, scale)
        assert beside.ledger is not None
        residue = abs(beside.ledger.residue) if not beside.ledger.unattributed else 0.0
        if residue > ROUNDING * scale:
            raise Broken("ledger beside a read-out", str(beside.ledger), residue)
    if all(bool((y != 0).all()) for y in case.outputs):
        seeds = [y.detach() for y in case.outputs]
        same("value seed == coefficient seed", case.run(rules, seeds).relevance, found, scale)
    with hidden_values():
        promised = Recorded(program).run(rules).relevance
    same("promised == saved", promised, found, scale)
    if by_sample(program):
        for k in range(BATCH):
            alone = Recorded(program, row=k).run(rules).relevance
            whole = [r[k : k + 1] for r in found]
            same("batch", alone, whole, scale)
    return [f"{cause} at {node}" for node, cause in books.unattributed]


def noise(program: Program, rules: Rules) -> float:
    """By how much the map changes with the last digit of the inputs: no check can be sharper than that."""
    maps = [Recorded(program, shift=k * 2.0**-52).run(rules).relevance for k in (0, 1, -1, 2, -2)]
    return max(distance(maps[0], other) for other in maps[1:])


def trouble(program: Program, rules: Rules) -> str:
    """The name of the check that fails and what was seen, on two lines or more; or nothing.

    Unrecoverable is an answer: the value is gone, and the error says so. So is a ledger that names what it
    cannot book. Where a value is itself rounding (the mean of what was centred, 1e-17) and a function with
    a pole makes all of the output of it, rounding decides what is seen.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if unknown := check(program, rules):
                return "not booked\n" + unknown[0]
    except Refused:
        return ""
    except Unrecoverable as error:
        return "refused\n" + str(error)
    except Broken as error:
        if error.size < torch.inf and error.size <= noise(program, rules):
            return f"rounding decides\n{error.check}"
        return f"{error.check}\n{error}"
    except DynamicLRPError as error:
        return f"{type(error).__name__} {str(error).split(':')[0]}\n{error}"
    except Exception as error:
        return f"{type(error).__name__}\n{error}"
    return ""


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
