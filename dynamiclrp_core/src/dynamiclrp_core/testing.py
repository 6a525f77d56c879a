"""The kit a pack author runs: samples that build a node, and checks that hold for every rule.

Imports no test framework. A check takes a ``Case`` and ``Rules`` and raises AssertionError with what it
saw; ``check_rule`` runs all of them, ``parametrize_pack`` lists what to run them on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from .api import Run, propagate
from .engine import Sweep
from .errors import Unrecoverable
from .graph import Graph
from .node import Address, address
from .op import Op
from .plugins import samples
from .promises import Values
from .record import record
from .rule import Rule, Rules
from .samples import Sample, Style

LOST = frozenset({"CopySlices"})
"""Nodes whose constant operands nobody keeps, record() included: what stood where was written."""


@dataclass(frozen=True, eq=False)
class Case:
    """One run of a sample: which tensors are explained, and their values."""

    sample: Sample
    live: tuple[int, ...]
    seed: int = 0
    n: int = 2
    style: Style = "plain"
    dtype: torch.dtype = torch.float64
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.sample}-{''.join(map(str, self.live))}"

    def tensors(self) -> list[Tensor]:
        """The sample's tensors in this case's style; the live ones require grad."""
        made = self.sample.tensors(self.seed, self.n, self.dtype, self.device)
        generator = torch.Generator().manual_seed(self.seed + 1)
        for i, t in enumerate(made):
            if self.style == "zeros" and self.sample.domain == "real":
                t = t * (torch.rand(t.shape, generator=generator) > 0.4).to(t)
            elif self.style == "cancelling" and self.sample.domain == "real":
                t = torch.where(torch.rand(t.shape, generator=generator).to(t) > 0.5, t, -t.round())
            elif self.style == "noncontiguous" and t.dim():
                t = torch.stack([t, t], -1)[..., 0]
            made[i] = t.detach().requires_grad_(i in self.live)
        return made

    def run(self, rules: Rules, output_relevance: Any = None, **arguments: Any) -> Run:
        """Explain the sample's outputs in terms of the live tensors."""
        tensors, outputs = self.forward()
        return propagate(
            outputs,
            [tensors[i] for i in self.live],
            output_relevance,
            rules=rules,
            allow_unused=True,
            **arguments,
        )

    def forward(self) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The tensors and the outputs that have a gradient, recorded."""
        tensors = self.tensors()
        with record():
            made = self.sample.call(*tensors)
        outputs = made if isinstance(made, tuple | list) else (made,)
        return tensors, tuple(y for y in outputs if isinstance(y, Tensor) and y.requires_grad)

    @property
    def tolerance(self) -> float:
        """Relative tolerance of one op in this dtype."""
        return {torch.float64: 1e-9, torch.float32: 2e-4}.get(self.dtype, 6e-2)


def _close(case: Case, what: str, got: Tensor, expected: Tensor) -> None:
    scale = max(float(expected.abs().nan_to_num(0.0, 0.0).max()) if expected.numel() else 0.0, 1.0)
    assert got.shape == expected.shape, f"{case.sample}: {what}: {got.shape} for {expected.shape}"
    wide = torch.promote_types(torch.promote_types(got.dtype, expected.dtype), torch.float64)
    same = (got == expected) | (got.isnan() & expected.isnan())
    apart = (got.to(wide) - expected.to(wide)).abs().masked_fill(same, 0.0)
    difference = float(apart.max()) if got.numel() else 0.0
    assert difference <= case.tolerance * scale, f"{case.sample}: {what}: off by {difference:.3g}"


def check_forward(case: Case, rules: Rules) -> None:
    """The row's forward on the operands' values gives the true outputs."""
    tensors, outputs = case.forward()
    sweep = sweep_of(case, rules, tensors, outputs)
    for node in sweep.graph.order:
        op = sweep.op(node)
        if op is None or op.row.node != case.sample.node or op.row.forward is None:
            continue
        try:
            made = op.forward(*op.inputs())
        except Unrecoverable:
            assert op.row.node in LOST, f"{case.sample}: an operand of the row cannot be had"
            continue
        results = made if isinstance(made, tuple) else (made,)
        for y in outputs:
            if y.grad_fn is node:
                _close(case, "forward", results[y.output_nr].detach(), y.detach())


def check_saved_names(case: Case, rules: Rules) -> None:
    """What autograd saves under an operand's or result's name is that operand or result."""
    tensors, outputs = case.forward()
    sweep = sweep_of(case, rules, tensors, outputs)
    node = outputs[0].grad_fn
    op = sweep.op(node) if node is not None else None
    if op is None or op.row.node != case.sample.node or op.row.variadic:
        return
    for i, name in enumerate(op.row.operands[: len(op.edges)]):
        value = getattr(op.saved, name, None)
        parent, nr = op.edges[i]
        if isinstance(value, Tensor) and parent is not None and value.numel():
            with hidden_values():
                again = sweep_of(case, rules, tensors, outputs)
                promised = again.values.edge(Address(parent, nr))
            _close(case, f"saved {name}", value.detach(), promised.detach())
    for nr, name in enumerate(op.row.results):
        value = getattr(op.saved, name)
        for y in outputs:
            if y.grad_fn is node and y.output_nr == nr:
                _close(case, f"saved {name}", value.detach().reshape(y.shape), y.detach())


def check_conservation(case: Case, rules: Rules) -> None:
    """What comes in goes out or is booked; ``exact`` rules book nothing."""
    run = case.run(rules, ledger=True)
    books = run.ledger
    assert books is not None
    assert books.closed, f"{case.sample}, inputs {case.live}: not conserved\n{books}"


def check_linearity(case: Case, rules: Rules) -> None:
    """f(a R1 + b R2) = a f(R1) + b f(R2), for relevance in value form, of rules that say they are linear."""
    if not all(rule.linear for rule in _rules_of(case, rules)):
        return
    _, outputs = case.forward()
    generator = torch.Generator().manual_seed(case.seed + 2)
    r1, r2 = (
        [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) * y.detach() for y in outputs]
        for _ in range(2)
    )
    both = case.run(rules, [2 * a - 3 * b for a, b in zip(r1, r2)]).relevance
    apart = zip(case.run(rules, r1).relevance, case.run(rules, r2).relevance)
    for got, (a, b) in zip(both, apart):
        _close(case, "linearity in R", got, 2 * a - 3 * b)


def _rules_of(case: Case, rules: Rules) -> list[Rule]:
    """The rules that the sample's node may get."""
    row = rules.get(case.sample.node)
    return [] if row is None else [rule for _, rule in rules.cases(row)]


def check_zero(case: Case, rules: Rules) -> None:
    """Zero relevance in, zero out."""
    _, outputs = case.forward()
    for r in case.run(rules, [torch.zeros_like(y) for y in outputs]).relevance:
        assert not r.any(), f"{case.sample}: relevance from nothing"


def check_forms(case: Case, rules: Rules) -> None:
    """Seeding with the coefficient 1 and with the value y gives one map."""
    _, outputs = case.forward()
    row = rules.get(case.sample.node)
    masks = row is not None and (row.stands_in or row.family == "moving")
    masks = masks and all(rule.masks for rule in _rules_of(case, rules) if row is not None and row.stands_in)
    if not masks and any(bool((y == 0).any()) for y in outputs):
        return  # terms that cancel to 0 get relevance that only a coefficient can carry
    by_value = case.run(rules, [y.detach() for y in outputs]).relevance
    for got, expected in zip(by_value, case.run(rules).relevance):
        _close(case, "value form == coefficient form", got, expected)


def check_batch(case: Case, rules: Rules) -> None:
    """A batch of n gives what n runs of 1 give."""
    if not case.sample.batched or case.n < 2:
        return
    tensors = case.tensors()
    whole = case.run(rules).relevance
    batched = ["n" in s.split() for s in case.sample.shapes]
    for k in range(case.n):
        one = _Fixed(case.sample, case.live, case.seed, 1, case.style, case.dtype, case.device)
        part = [
            t.detach().narrow(s.split().index("n"), k, 1) if b else t.detach()
            for t, b, s in zip(tensors, batched, case.sample.shapes)
        ]
        object.__setattr__(one, "given", part)
        for i, w, r in zip(case.live, whole, one.run(rules).relevance):
            if batched[i]:
                dim = case.sample.shapes[i].split().index("n")
                _close(case, f"batch, sample {k}", w.narrow(dim, k, 1), r)


def check_promised(case: Case, rules: Rules) -> None:
    """The map is the same when no live operand can be read at its node."""
    with hidden_values():
        promised = case.run(rules).relevance
    for got, expected in zip(promised, case.run(rules).relevance):
        _close(case, "promised == saved", got, expected)


def check_both_forms(case: Case, rules: Rules) -> None:
    """A coefficient and a value that arrive together give what they give one by one."""
    if not all(rule.linear for rule in _rules_of(case, rules)):
        return
    tensors, outputs = case.forward()
    inputs = [tensors[i] for i in case.live]
    generator = torch.Generator().manual_seed(case.seed + 3)
    r = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) * y.detach() for y in outputs]

    def found(of: Sequence[Tensor], seeds: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        return propagate(of, inputs, tuple(seeds), rules=rules, allow_unused=True).relevance

    none = [None] * len(outputs)
    together = found([*outputs, *outputs], [*none, *r])
    for got, a, b in zip(together, found(outputs, none), found(outputs, r)):
        _close(case, "both forms together", got, a + b)


def check_again(case: Case, rules: Rules) -> None:
    """A second run over the same graph gives the same numbers."""
    tensors, outputs = case.forward()
    inputs = [tensors[i] for i in case.live]
    runs = [propagate(outputs, inputs, rules=rules, allow_unused=True) for _ in range(2)]
    for a, b in zip(runs[0].relevance, runs[1].relevance):
        assert torch.equal(a, b), f"{case.sample}: a second run differs"


CHECKS: dict[str, Callable[[Case, Rules], None]] = {
    name.removeprefix("check_"): f for name, f in list(globals().items()) if name.startswith("check_")
}


def check_rule(case: Case, rules: Rules) -> None:
    """All checks on one case. Raises AssertionError naming the sample and what differs."""
    for check in CHECKS.values():
        check(case, rules)


def parametrize_pack(pack: str, n: int = 2) -> list[Case]:
    """One case per sample of an installed pack and per choice of live operands.

    ``pytest.mark.parametrize("case", parametrize_pack("std"), ids=str)``.
    """
    return [
        Case(sample, live, n=n)
        for label, sample in samples((pack,))
        if label.split()[0] == pack
        for live in sample.subsets()
    ]


class _Fixed(Case):
    """A case on given tensors."""

    given: list[Tensor]

    def tensors(self) -> list[Tensor]:
        return [t.clone().requires_grad_(i in self.live) for i, t in enumerate(self.given)]


@contextmanager
def hidden_values() -> Iterator[None]:
    """Pretend that autograd saved no tracked operand and no result: everything must be promised."""
    own, result, found = Op.kept, Values._result, Values._from_consumer

    def hidden_own(op: Op, i: int) -> Tensor | None:
        return own(op, i) if op.edges[i][0] is None else None

    with (
        mock.patch.object(Op, "kept", hidden_own),
        mock.patch.object(Values, "_result", lambda self, op, nr: None),
        mock.patch.object(Values, "_from_consumer", lambda self, node, nr: None),
    ):
        yield
    assert (Op.kept, Values._result, Values._from_consumer) == (own, result, found)


def sweep_of(case: Case, rules: Rules, tensors: list[Tensor], outputs: tuple[Tensor, ...]) -> Sweep:
    graph = Graph([address(y) for y in outputs])
    inputs = [address(tensors[i]) for i in case.live]
    return Sweep(graph, inputs, (), rules, {address(y): y for y in outputs})


__all__ = ["CHECKS", "Case", "Sample", "check_rule", "hidden_values", "parametrize_pack"]
