"""Checks of a row and its rule that hold at any values: the first line of each is its documentation.

A check takes a ``Case`` and ``Rules`` and raises AssertionError with what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..api import propagate
from ..errors import Unrecoverable
from ..node import Address, metadata
from ..numerics import fit
from ..op import Op
from ..rule import Entries, Value
from ..table import Rules
from .case import Case, hidden_values, sweep_of

LOST = frozenset({"CopySlices"})
"""Nodes whose constant operands nobody keeps, record() included: what stood where was written."""


def check_saved_names(case: Case, rules: Rules) -> None:
    """What autograd saves under the name of an operand or result is that operand or result."""
    ops, tensors, outputs = case.ops(rules)
    for op in ops:
        if op.node is not outputs[0].grad_fn or op.row.variadic:
            continue
        for i, name in enumerate(op.row.operands[: len(op.edges)]):
            value = getattr(op.saved, name, None)
            parent, nr = op.edges[i]
            if isinstance(value, Tensor) and parent is not None and value.numel():
                with hidden_values():
                    again = sweep_of(case, rules, tensors, outputs)
                    promised = again.values.edge(Address(parent, nr))
                case.same(f"saved {name}", value.detach(), promised.detach())
        for nr, name in enumerate(op.row.results):
            value = getattr(op.saved, name)
            for y in outputs:
                if y.grad_fn is op.node and y.output_nr == nr:
                    case.same(f"saved {name}", value.detach().reshape(y.shape), y.detach())


def check_forward(case: Case, rules: Rules) -> None:
    """The row's forward on the operands' values gives the true outputs."""
    ops, _, outputs = case.ops(rules)
    for op in ops:
        if op.row.forward is None:
            continue
        try:
            made = op.forward(*op.inputs())
        except Unrecoverable:
            assert op.row.node in LOST, f"{case.sample}: an operand of the row cannot be had"
            continue
        results = made if isinstance(made, tuple) else (made,)
        for y in outputs:
            if y.grad_fn is op.node:
                case.same("forward", results[y.output_nr].detach(), y.detach())


def check_entries(case: Case, rules: Rules) -> None:
    """In both forms an entry per operand, which sums to the operand's shape and has a dtype it can take."""
    ops, _, outputs = case.ops(rules)
    for op in ops:
        given = {y.output_nr: y.detach() for y in outputs if y.grad_fn is op.node}
        if not given or not any(op.live):
            continue
        rule = op.sweep.rule_of(op)
        if rule.real and op.dtype.is_complex:
            continue  # the sweep refuses by name
        for form, make in (("coefficient", torch.ones_like), ("value", torch.clone)):
            op.past = None
            arrived = [make(given[nr]) if nr in given else None for nr in range(len(op.metadata))]
            try:
                entries = getattr(rule, form)(op, *arrived)
            except Unrecoverable:
                continue
            _fits(case, op, f"{type(rule).__name__}.{form}", entries)


def _fits(case: Case, op: Op, who: str, entries: Entries) -> None:
    to = op.receivers
    assert len(entries) == len(to.edges), (
        f"{case.sample}: {who} gives {len(entries)} entries for {len(to.edges)} operands"
    )
    for i, entry in enumerate(entries):
        node, nr = to.edges[i]
        t = entry.relevance if isinstance(entry, Value) else entry
        if t is None or node is None or not to.wanted[i]:
            continue
        meta = metadata(node)[nr]
        where = f"{case.sample}: {who}, entry of {op.row.name_of(i)}:"
        assert isinstance(t, Tensor), f"{where} a {type(t).__name__}, not a tensor"
        assert t.is_floating_point() or t.is_complex(), f"{where} {t.dtype} is no dtype of relevance"
        try:
            fit(t, tuple(meta.shape), t.dtype)
        except RuntimeError:
            raise AssertionError(f"{where} {tuple(t.shape)} for an operand of {tuple(meta.shape)}") from None


def check_conservation(case: Case, rules: Rules) -> None:
    """What comes in goes out or is booked; a rule that says ``exact`` books nothing."""
    run = case.run(rules, ledger=True)
    books = run.ledger
    assert books is not None
    assert books.closed, f"{case.sample}, inputs {case.live}: not conserved\n{books}"
    exact = [rule.conserves == "exact" for rule in case.rules_of(rules) if rule.id in run.rules_used]
    kept = books.by_op.get(case.sample.node, 0.0) if exact and all(exact) else 0.0
    assert abs(kept) <= books.tolerance, f"{case.sample}: books {kept:.3g} and says that it keeps nothing"


def check_linearity(case: Case, rules: Rules) -> None:
    """f(a R1 + b R2) = a f(R1) + b f(R2), for relevance in value form, of rules that say they are linear."""
    if not all(rule.linear for rule in case.rules_of(rules)):
        return
    _, outputs = case.forward()
    r = case.seeds(outputs, 2)
    s = case.seeds(outputs, 4)
    both = case.run(rules, [2 * a - 3 * b for a, b in zip(r, s)]).relevance
    apart = zip(case.run(rules, r).relevance, case.run(rules, s).relevance)
    for got, (a, b) in zip(both, apart):
        case.same("linearity in R", got, 2 * a - 3 * b)


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
    masks = masks and all(rule.masks for rule in case.rules_of(rules) if row is not None and row.stands_in)
    if not masks and any(bool((y == 0).any()) for y in outputs):
        return  # terms that cancel to 0 get relevance that only a coefficient can carry
    by_value = case.run(rules, [y.detach() for y in outputs]).relevance
    for got, expected in zip(by_value, case.run(rules).relevance):
        case.same("value form == coefficient form", got, expected)


def check_both_forms(case: Case, rules: Rules) -> None:
    """A coefficient and a value that arrive together give what they give one by one."""
    if not all(rule.linear for rule in case.rules_of(rules)):
        return
    tensors, outputs = case.forward()
    inputs = [tensors[i] for i in case.live]
    r = case.seeds(outputs, 3)

    def found(of: Sequence[Tensor], seeds: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        return propagate(of, inputs, tuple(seeds), rules=rules, allow_unused=True).relevance

    none = [None] * len(outputs)
    together = found([*outputs, *outputs], [*none, *r])
    for got, a, b in zip(together, found(outputs, none), found(outputs, r)):
        case.same("both forms together", got, a + b)


def check_batch(case: Case, rules: Rules) -> None:
    """A batch of n gives what n runs of 1 give."""
    if not case.sample.batched or case.n < 2:
        return
    tensors = case.tensors()
    whole = case.run(rules).relevance
    dims = [s.split().index("n") if "n" in s.split() else None for s in case.sample.shapes]
    for k in range(case.n):
        part = [t if d is None else t.narrow(d, k, 1) for t, d in zip(tensors, dims)]
        one = case.but(n=1, given=tuple(part))
        for i, w, r in zip(case.live, whole, one.run(rules).relevance):
            if (d := dims[i]) is not None:
                case.same(f"batch, sample {k}", w.narrow(d, k, 1), r)


def check_promised(case: Case, rules: Rules) -> None:
    """The map is the same when no live operand can be read at its node, and all must be promised."""
    with hidden_values():
        promised = case.run(rules).relevance
    for got, expected in zip(promised, case.run(rules).relevance):
        case.same("promised == saved", got, expected)


def check_again(case: Case, rules: Rules) -> None:
    """A second run over the same graph gives the same numbers."""
    tensors, outputs = case.forward()
    inputs = [tensors[i] for i in case.live]
    runs = [propagate(outputs, inputs, rules=rules, allow_unused=True) for _ in range(2)]
    for a, b in zip(runs[0].relevance, runs[1].relevance):
        assert torch.equal(a, b), f"{case.sample}: a second run differs"


Check = Callable[[Case, Rules], None]

CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): f for name, f in list(globals().items()) if name.startswith("check_")
}

__all__ = ["CHECKS", "Check"]
