"""Random programs of every installed sample against what must hold for any graph and any rules.

``python benchmarks/fuzz.py --minutes 10 --seed 0``: graph i has seed ``S + i``, so ``--seed S --graphs 1``
draws one again. A finding is shrunk to a program that ``--program`` takes. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dynamiclrp_core import preset
from dynamiclrp_core.packs.plugins import presets

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.models import reference
from tests.models.program_checks import ROUNDING, distance
from tests.models.program_verdicts import ANSWERS, shrunk, trouble
from tests.models.random_programs import Program, Step, drawn
from tests.models.test_random_graphs import explained, squashed, start

PARAMETERS = {"epsilon-gamma-box": dict(low=-1.5, high=2.0)}
TABLES = {name: preset(name, **PARAMETERS.get(name, {})) for name in sorted(presets())}


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
        off = distance(run.relevance, [slow])
        if not off <= ROUNDING * max(run.ledger.scale, 1.0):
            return f"off by {off:.3g} at a scale of {run.ledger.scale:.3g}"
        return "" if run.ledger.closed else str(run.ledger)

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
        answers = Counter(dict.fromkeys(ANSWERS, 0))
        for text, n in self.refused.items():
            answers[text.split(":")[0]] += n
        counted = ", ".join(f"{n} {what}" for what, n in answers.items())
        lines = [
            f"{self.graphs} programs of {self.ops} ops, {self.slow} of them against the slow dictionary; "
            f"{self.runs} (program, preset) pairs: {counted}, {self.runs - answers.total()} with all checks"
        ]
        ranked = self.refused.most_common()
        whole = [line for line in ranked if line[0].startswith("refused:")]
        others = [line for line in ranked if line not in whole]
        lines += [f"  {n}x {text}" for text, n in [*whole, *others[:20]]]
        lines += [f"  and {len(others) - 20} others"] * (len(others) > 20)
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
    if what in ANSWERS:
        report.refused[f"{what}: {alike(text)}"] += 1
    elif what and (name, what) not in report.found:
        least = shrunk(program, lambda p: trouble(p, TABLES[name]).partition("\n")[0] == what)
        text = trouble(least, TABLES[name]).partition("\n")[2]
        report.found[name, what] = f"{text}\n  seed {seed}: {least}"
        print(f"\nFOUND under {name}, seed {seed}\n{text}\n  {least}", flush=True)


def alike(text: str) -> str:
    """An answer without what differs from program to program: its numbers, and where it was met."""
    return re.sub(r" ?\(output shape.*?\)(?= |,|$)| #?\d+(?= )|\[\d+\]", "", text.splitlines()[0])


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
