"""What must hold of any program under any rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from dynamiclrp_core import DynamicLRPError, MissingRule, Rules, Run, Unrecoverable, propagate, record
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, leaf
from dynamiclrp_core.testing import hidden_values
from torch import Tensor

from .random_programs import BATCH, Forward, Program, by_sample

ROUNDING = 1e-9  # of all relevance that flowed: programs invert matrices and divide by what nearly cancels


Look = Callable[[Run], Sequence[Tensor]]
"""What a check looks at."""


def relevance(run: Run) -> Sequence[Tensor]:
    return run.relevance


def residue(run: Run) -> Sequence[Tensor]:
    assert run.ledger is not None
    return [torch.tensor(run.ledger.residue)]


def residue_at(node: tuple[str, int]) -> Look:
    def look(run: Run) -> Sequence[Tensor]:
        assert run.ledger is not None
        return [torch.tensor(run.ledger.residues.get(node, 0.0))]

    return look


class Broken(Exception):
    """A check does not hold: its name, what was seen, by how much it is off if that is a number, and
    what of a run it looked at."""

    def __init__(self, check: str, seen: str, size: float = torch.inf, look: Look = relevance) -> None:
        super().__init__(f"{check}: {seen}")
        self.check = check
        self.size = size
        self.look = look


class Unrunnable(Exception):
    """Torch itself cannot run the program (a complex view of a row at an odd place, say)."""


class Unexplained(Exception):
    """The program is refused by name: by ``error``, if that is an ``answer``."""

    def __init__(self, error: DynamicLRPError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Recorded:
    """A forward under ``record()`` and what can be explained of it."""

    program: Program
    trainable: bool = False
    row: int | None = None
    jitter: int = 0
    inputs: list[Tensor] = field(init=False)
    outputs: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(self.program.seed)
        forward = Forward(self.program, self.trainable, self.row, self.jitter)
        self.inputs = forward.start()
        with record():
            try:
                made = forward(self.inputs)
            except RuntimeError as error:
                raise Unrunnable(str(error)) from error
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


def hidden(program: Program, rules: Rules) -> Run:
    """A run that finds nothing where autograd saved it."""
    with hidden_values():
        return Recorded(program).run(rules)


def read_outs(case: Recorded, rules: Rules, at: list[Tensor]) -> Iterator[Run | str]:
    """Runs that read all of ``at`` that can be, together, and the refusals of the tensors that cannot."""
    try:
        if at:
            yield case.run(rules, at=at, ledger=True)
    except (MissingRule, Unrecoverable) as error:
        said = answer(error, rules)
        if len(at) == 1:
            yield said
        else:
            yield from read_outs(case, rules, at[::2])
            yield from read_outs(case, rules, at[1::2])


def answer(error: DynamicLRPError, rules: Rules) -> str:
    """``node: cause`` of a refusal by name. Raises ``error`` if it lacks a node, the cause or the cure.

    A node without a rule (the error lists the packs loaded) is no answer: every sample's node has one.
    """
    head, _, rest = str(error).partition("\n")
    node, _, cause = head.partition(" ")
    node = node.rstrip(":")
    cured = re.search(r"^ *cure: \S", rest, re.MULTILINE)
    if node not in rules or not cause or not cured or "packs loaded" in rest:
        raise error
    return f"{node}: {cause}"


def check(program: Program, rules: Rules) -> list[str]:
    """What could not be said of the program, and why, if anything: each is an answer and no finding.

    Raises Broken, Unexplained, Unrunnable, or the error of a run that should have given none.
    """
    case = Recorded(program)
    if not case.outputs:
        return []
    try:
        run = case.run(rules, ledger=True)
    except (MissingRule, Unrecoverable) as error:
        raise Unexplained(error) from error
    try:
        again: list[Tensor | None] | None = Recorded(program).grads()
    except (RuntimeError, AssertionError):  # torch itself cannot, or a sample's hook ran, as it should
        again = None
    random_state, versions = torch.get_rng_state(), [t._version for t in (*case.inputs, *case.outputs)]
    books = run.ledger
    assert books is not None
    found, scale = run.relevance, max(books.scale, books.seed_abs, 1.0)
    hold("finite", "" if all(bool(r.isfinite().all()) for r in found) else "NaN or inf")
    if not books.unattributed and abs(books.residue) > max(books.tolerance, ROUNDING * scale):
        raise Broken("ledger", str(books), abs(books.residue), residue)
    unknown = {node for node, _ in books.unattributed}
    if unknown:  # it hides a graph, and what could not be booked there
        unknown.add("torch.utils.checkpoint.CheckpointFunction")
    for at, amount in books.residues.items():
        if at[0] not in unknown and abs(amount) > ROUNDING * scale:
            raise Broken("ledger of a node", f"{at[0]}: {amount:.3g}\n{books}", abs(amount), residue_at(at))
    same("second run", case.run(rules).relevance, case.run(rules).relevance, 0.0)
    same("with and without a ledger", case.run(rules).relevance, found, scale)
    hold("random state", "" if torch.equal(random_state, torch.get_rng_state()) else "changed")
    hold("grads", "" if all(x.grad is None for x in case.inputs) else "written")
    now = [t._version for t in (*case.inputs, *case.outputs)]
    hold("versions", "" if now == versions else f"{versions} became {now}")
    for before, after in zip(again or (), case.grads() if again else ()):
        if before is None or after is None:
            hold("backward afterwards", "" if before is after else f"{before} became {after}")
        elif not torch.allclose(before, after, 0, 0, equal_nan=True):
            # Two forwards: torch's kernels may differ in a last digit by where memory begins.
            seen = f"{before} became {after}"
            raise Broken("backward afterwards", seen, distance([before], [after]))
    trained = Recorded(program, True)
    same("frozen == trainable", trained.run(rules).relevance, found, scale)
    unsaid = [f"not booked\n{cause} at {node}" for node, cause in books.unattributed]
    for beside in read_outs(trained, rules, trained.constants()):
        if isinstance(beside, str):
            unsaid.append(f"refused in part\n{beside}, at a read-out")
            continue
        same("a read-out changes nothing", beside.relevance, found, scale)
        assert beside.ledger is not None
        off = abs(beside.ledger.residue) if not beside.ledger.unattributed else 0.0
        if off > ROUNDING * scale:
            raise Broken("ledger beside a read-out", str(beside.ledger), off, residue)
    seeds = [y.detach() for y in case.outputs]
    ways: dict[str, Callable[[], Run]] = {"promised == saved": lambda: hidden(program, rules)}
    if all(bool((y != 0).all()) for y in seeds):
        ways["value seed == coefficient seed"] = lambda: case.run(rules, seeds)
    for way, asked in ways.items():
        try:
            same(way, asked().relevance, found, scale)
        except Unrecoverable as error:  # these ask for more values than the others
            unsaid.append(f"refused in part\n{answer(error, rules)}, for {way}")
    if by_sample(program):
        for k in range(BATCH):
            alone = Recorded(program, row=k).run(rules).relevance
            whole = [r[k : k + 1] for r in found]
            same("batch", alone, whole, scale)
    return unsaid
