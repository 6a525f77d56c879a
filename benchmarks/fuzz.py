"""Random programs of every installed sample against what must hold for any graph and any rules.

``python benchmarks/fuzz.py --minutes 10 --seed 0``: graph i has seed ``S + i``, so ``--seed S --graphs 1``
draws one again. A finding is shrunk to a program that ``--program`` takes. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from dynamiclrp_core import DynamicLRPError, Rules, Run, Unrecoverable, preset, propagate, record
from dynamiclrp_core.plugins import presets
from dynamiclrp_core.testing import hidden_values
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.models import reference
from tests.models.random_programs import BATCH, Forward, Program, Step, by_sample, drawn
from tests.models.test_random_graphs import explained, squashed, start

PARAMETERS = {"epsilon-gamma-box": dict(low=-1.5, high=2.0)}
TABLES = {name: preset(name, **PARAMETERS.get(name, {})) for name in sorted(presets())}
PATIENCE = 60.0  # seconds to shrink one finding
ROUNDING = 1e-9  # of all relevance that flowed: programs invert matrices and divide by what nearly cancels


class Broken(Exception):
    """A check does not hold: its name, and what was seen."""

    def __init__(self, check: str, seen: str) -> None:
        super().__init__(f"{check}: {seen}")
        self.check = check


class Refused(Exception):
    """Torch itself cannot run the program (a complex view of a row at an odd place, say)."""


@dataclass
class Recorded:
    """A forward under ``record()`` and what can be explained of it."""

    program: Program
    trainable: bool = False
    row: int | None = None
    inputs: list[Tensor] = field(init=False)
    outputs: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.program.seed)
        forward = Forward(self.program, self.trainable, self.row)
        self.inputs = forward.start()
        with record():
            try:
                made = forward(self.inputs)
            except RuntimeError as error:
                raise Refused(str(error)) from error
        self.outputs = [y for y in made[-self.program.outputs :] if y.requires_grad]

    def run(self, rules: Rules, seeds: Sequence[Tensor] | None = None, ledger: bool = False) -> Run:
        return propagate(self.outputs, self.inputs, seeds, rules=rules, allow_unused=True, ledger=ledger)

    def grads(self) -> list[Tensor | None]:
        ones = [torch.ones_like(y) for y in self.outputs]
        torch.autograd.backward(self.outputs, ones, retain_graph=True)
        grads = [x.grad for x in self.inputs]
        for x in self.inputs:
            x.grad = None
        return grads


def apart(a: Sequence[Tensor], b: Sequence[Tensor], scale: float) -> str:
    """What differs beyond rounding, or nothing."""
    worst = max((float((x - y).abs().max()) for x, y in zip(a, b)), default=0.0)
    return f"off by {worst:.3g} at a scale of {scale:.3g}" if not worst <= ROUNDING * scale else ""


def hold(check: str, seen: str) -> None:
    if seen:
        raise Broken(check, seen)


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
    hold("ledger", "" if closed else str(books))
    hold("second run", apart(case.run(rules).relevance, case.run(rules).relevance, 0.0))
    hold("with and without a ledger", apart(case.run(rules).relevance, found, scale))
    hold("random state", "" if torch.equal(random_state, torch.get_rng_state()) else "changed")
    hold("grads", "" if all(x.grad is None for x in case.inputs) else "written")
    now = [t._version for t in (*case.inputs, *case.outputs)]
    hold("versions", "" if now == versions else f"{versions} became {now}")
    for before, after in zip(again or (), case.grads() if again else ()):
        same = before is after or (
            before is not None and after is not None and torch.allclose(before, after, 0, 0, equal_nan=True)
        )
        hold("backward afterwards", "" if same else f"{before} became {after}")
    hold("frozen == trainable", apart(Recorded(program, True).run(rules).relevance, found, scale))
    if all(bool((y != 0).all()) for y in case.outputs):
        seeds = [y.detach() for y in case.outputs]
        hold("value seed == coefficient seed", apart(case.run(rules, seeds).relevance, found, scale))
    with hidden_values():
        promised = Recorded(program).run(rules).relevance
    hold("promised == saved", apart(promised, found, scale))
    if by_sample(program):
        for k in range(BATCH):
            alone = Recorded(program, row=k).run(rules).relevance
            whole = [r[k : k + 1] for r in found]
            hold("batch", apart(alone, whole, scale))
    return [f"{cause} at {node}" for node, cause in books.unattributed]


def trouble(program: Program, rules: Rules) -> str:
    """The name of the check that fails and what was seen, on two lines or more; or nothing.

    Unrecoverable is an answer: the value is gone, and the error says so. So is a ledger that names what it
    cannot book.
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


def against_reference(seed: int, longest: int) -> tuple[int, str]:
    """A program of the slow dictionary's steps under ``default``: its length, and what differs."""
    rng = random.Random(seed)
    names = sorted(reference.STEPS)
    length = min(longest, int(2 * (longest / 2) ** rng.random() ** 1.5))
    program: reference.Program = []
    for k in range(length):
        name = rng.choice(names)
        reads = tuple(k - min(int(rng.expovariate(0.7)), k) for _ in range(reference.STEPS[name][0]))
        program.append((name, reads))

    def seen(program: reference.Program) -> str:
        model = reference.Model(seed)
        made = reference.run(squashed(program), model, start(seed).requires_grad_())[-1]
        if not made.requires_grad:
            return ""
        run = explained(squashed(program), model, seed, ledger=True)
        assert run.ledger is not None
        slow = reference.explain(squashed(program), model, start(seed))
        return apart(run.relevance, [slow], max(run.ledger.scale, 1.0)) or (
            "" if run.ledger.closed else str(run.ledger)
        )

    what = seen(program)
    while what:
        fewer = [cut for k in range(len(program)) if seen(cut := _cut(program, k))]
        if not fewer:
            return length, f"{what}\n  slow dictionary, seed {seed}: {program}"
        program = fewer[0]
        what = seen(program)
    return length, ""


def _cut(program: reference.Program, k: int) -> reference.Program:
    """Without step k, whose result is tensor k + 1."""

    def now(i: int) -> int:
        return i if i <= k else 0 if i == k + 1 else i - 1

    return [(name, tuple(now(i) for i in reads)) for j, (name, reads) in enumerate(program) if j != k]


@dataclass
class Report:
    """What a session of fuzzing did and found."""

    graphs: int = 0
    runs: int = 0
    ops: int = 0
    slow: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    found: dict[tuple[str, str], str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"{self.graphs} programs of {self.ops} ops, {self.slow} of them against the slow dictionary; "
            f"{self.runs} (program, preset) pairs, {sum(self.refused.values())} of them with a refusal"
        ]
        lines += [f"  {n}x {text}" for text, n in self.refused.most_common(20)]
        lines += [f"\nFOUND under {rules}\n{text}" for (rules, _), text in self.found.items()]
        return "\n".join([*lines, f"\n{len(self.found)} findings"])


def fuzz(seeds: Iterator[int], longest: int = 500, names: Sequence[str] = ()) -> Report:
    """Check a program per seed, under ``default`` and a preset in turn (or under ``names``)."""
    report = Report()
    others = [name for name in TABLES if name != "default"]
    for seed in seeds:
        report.graphs += 1
        if seed % 5 == 4 and not names:
            count, what = against_reference(seed, longest)
            report.slow, report.ops = report.slow + 1, report.ops + count
            if what:
                report.found.setdefault(("default", "slow dictionary"), what)
            continue
        program = drawn(seed, longest, separate=seed % 2 == 0)
        report.ops += len(program.steps)
        for name in names or ("default", others[seed % len(others)]):
            report.runs += 1
            look(program, name, seed, report)
    return report


def look(program: Program, name: str, seed: int, report: Report) -> None:
    """Check one program under one preset; shrink what fails, once per kind of failure."""
    what, _, text = trouble(program, TABLES[name]).partition("\n")
    if what in ("refused", "not booked"):
        report.refused[f"{what}: {text.splitlines()[0]}"] += 1
    elif what and (name, what) not in report.found:
        least = shrunk(program, lambda p: trouble(p, TABLES[name]).partition("\n")[0] == what)
        text = trouble(least, TABLES[name]).partition("\n")[2]
        report.found[name, what] = f"{text}\n  seed {seed}: {least}"
        print(f"\nFOUND under {name}, seed {seed}\n{text}\n  {least}", flush=True)


def timed(seed: int, minutes: float) -> Iterator[int]:
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        yield seed
        seed += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graphs", type=int, help="this many programs, however long it takes")
    parser.add_argument("--longest", type=int, default=500, help="ops of the longest program")
    parser.add_argument("--rules", nargs="*", default=(), choices=sorted(TABLES), help="only these presets")
    parser.add_argument("--program", help="check this program, as a finding prints it")
    given = parser.parse_args()
    if given.program:
        program = eval(given.program, {"Program": Program, "Step": Step})
        report = Report(graphs=1, ops=len(program.steps))
        for name in given.rules or TABLES:
            look(program, name, program.seed, report)
    else:
        seeds = timed(given.seed, given.minutes)
        if given.graphs is not None:
            seeds = iter(range(given.seed, given.seed + given.graphs))
        report = fuzz(seeds, given.longest, given.rules)
    print(report)
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
