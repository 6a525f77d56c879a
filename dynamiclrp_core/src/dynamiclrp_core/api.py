"""``relevance``, ``propagate``, ``coverage``: what users call."""

from __future__ import annotations

import cmath
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .arguments import (
    Tensors,
    check_settings,
    inputs_of,
    is_empty,
    must_be_unchanged,
    must_reach,
    outputs_of,
    rules_of,
    seeds_of,
)
from .engine import OnMissing, Sweep
from .errors import NonFinite
from .graph import Graph
from .ledger import Ledger, total
from .node import Address, address, inside_backward, kind, metadata
from .numerics import raised, times
from .rule import Rule, Value
from .table import Rules
from .values.statistics import Promises

DEEP = 30_000


@dataclass(frozen=True, eq=False)
class Run:
    """One propagation.

    relevance     a tensor per input, in its shape: how much of the output each entry explains
    coefficients  the c of R = a * c per input; None where relevance arrived (also) in value form
    at            relevance of the tensors named in ``at``
    ledger        where every unit went (with ``ledger=True``)
    promises      the paper's statistics: which forward values were asked for, and where found
    rules_used    {rule: number of nodes}
    """

    relevance: tuple[Tensor, ...]
    coefficients: tuple[Tensor | None, ...]
    at: tuple[Tensor, ...]
    ledger: Ledger | None
    promises: Promises
    _used: list[Rule] = field(default_factory=list, repr=False)

    @cached_property
    def rules_used(self) -> dict[str, int]:
        """{rule: number of nodes}."""
        rules = {id(rule): rule for rule in self._used}
        found: Counter[str] = Counter()
        for key, count in Counter(map(id, self._used)).items():
            found[rules[key].id] += count
        return dict(found)


def relevance(
    outputs: Tensors,
    inputs: Tensors | None = None,
    output_relevance: Tensor | Sequence[Tensor | None] | None = None,
    rules: Rules | str = "default",
    create_graph: bool = False,
) -> tuple[Tensor, ...]:
    """Relevance of ``inputs`` for ``outputs``, called like ``torch.autograd.grad``.

    See ``propagate`` for arguments and errors. Returns a tuple with a tensor per input.
    """
    return propagate(outputs, inputs, output_relevance, rules=rules, create_graph=create_graph).relevance


def propagate(
    outputs: Tensors,
    inputs: Tensors | None = None,
    output_relevance: Tensor | Sequence[Tensor | None] | None = None,
    rules: Rules | str = "default",
    *,
    at: Tensors = (),
    create_graph: bool = False,
    on_missing: OnMissing = "error",
    allow_unused: bool = False,
    ledger: bool = False,
    dtype: torch.dtype | None = None,
) -> Run:
    """Explain ``outputs`` in terms of ``inputs`` by layer-wise relevance propagation.

    outputs           tensors with a graph, any shape; several add up
    inputs            leaves or intermediate tensors. None: the leaves that are not parameters, else
                      the only embedding output. Naming more inputs may change how products are shared
    output_relevance  None: an output explains itself (R = y). A tensor of the output's shape: that
                      relevance, no division by y. A tuple mixes both
    rules             a preset's name or ``Rules``
    at                further tensors to read out (latents, parameters); changes nothing
    create_graph      the result can be differentiated
    on_missing        for a node without a rule: "error", or explicitly "pass" or "stop"
    allow_unused      inputs the outputs do not depend on get zeros instead of an error
    ledger            account for every unit (asks for values: slower)
    dtype             the rules' dtype; None: coefficients in the model's, values at least float32

    Frees nothing and changes nothing: ``y.backward()`` works afterwards; no hook of yours runs.

    Raises NoGraph, InvalidSeed, InvalidInput, UnreachableInput, MissingRule, Unrecoverable, FreedGraph,
    ModifiedInPlace, CompiledGraph, NonFinite; TypeError for ``rules``, ``on_missing`` or ``dtype`` of
    another kind.
    """
    check_settings(on_missing, dtype)
    roots = outputs_of(outputs)
    graph = Graph([address(y) for y in roots])
    if len(graph.order) > DEEP and (depth := graph.depth()) > DEEP:
        warnings.warn(
            f"this graph is {depth} nodes deep: torch destroys such a chain recursively and may "
            "overflow the stack when you drop the output; run in a thread with a larger stack "
            "(threading.stack_size) or shorten the chain by checkpointing",
            stacklevel=2,
        )
    wanted, tensors = inputs_of(inputs, graph, "inputs")
    also, at_tensors = inputs_of(at, graph, "at") if not is_empty(at) else ([], [])
    notes = must_be_unchanged(graph, [*wanted, *also], [*tensors, *at_tensors])
    if not allow_unused:
        must_reach(graph, "inputs", wanted, tensors)
        must_reach(graph, "at", also, at_tensors)
    known = {address(y): y for y in roots}
    known |= {a: t for a, t in zip([*wanted, *also], [*tensors, *at_tensors]) if t is not None}
    table = rules_of(rules)
    seeds = seeds_of(roots, output_relevance, dtype, create_graph)

    def swept(check: bool = False) -> Sweep:
        books = Ledger(unit_roundoff=torch.finfo(dtype or roots[0].dtype).eps / 2) if ledger else None
        sweep = Sweep(
            graph,
            wanted,
            also,
            table,
            known,
            dtype=dtype,
            ledger=books,
            on_missing=on_missing,
            check=check,
        )
        if books is not None:
            _enter(books, roots, seeds, sweep)
        with torch.set_grad_enabled(create_graph), _no_autocast():
            sweep.run(seeds)
        return sweep

    with torch.inference_mode(False):
        sweep = inside_backward(swept)
        with torch.set_grad_enabled(create_graph):
            found = [_result(sweep, a, dtype) for a in wanted]
            found_at = [_result(sweep, a, dtype) for a in also]
        if not all(_finite(r) for r, _ in found):
            inside_backward(lambda: swept(check=True))
            raise NonFinite(
                "relevance is NaN or infinite, and no rule made it so: the seed or the forward value "
                "of an input already is"
            )
    sweep.values.stats.notes |= notes
    books = sweep.ledger
    if books is not None:
        books.inputs = sum(total(r) for r, _ in found)
        books.inputs_abs = sum(float(r.detach().abs().sum(dtype=torch.float64)) for r, _ in found)
    return Run(
        relevance=tuple(r for r, _ in found),
        coefficients=tuple(c for _, c in found),
        at=tuple(r for r, _ in found_at),
        ledger=books,
        promises=sweep.values.stats,
        _used=sweep.used,
    )


def top_k(output: Tensor, k: int) -> Tensor:
    """A seed: the k largest entries per sample (last dim) of ``output`` with R = y, the rest 0.

    DynamicLRP's top-k start. Shape of ``output``; raises RuntimeError if k exceeds its last dim.
    """
    values = output.detach()
    top = values.topk(k, dim=-1).indices
    return torch.zeros_like(values).scatter(-1, top, values.gather(-1, top))


@dataclass(frozen=True)
class Coverage:
    """Which nodes between outputs and inputs have a rule.

    ``covered`` and ``missing``: {node type: number of nodes}.
    """

    covered: dict[str, int]
    missing: dict[str, int]

    @property
    def fraction(self) -> float:
        """Share of nodes with a rule."""
        nodes = sum(self.covered.values()) + sum(self.missing.values())
        return sum(self.covered.values()) / nodes if nodes else 1.0


def coverage(outputs: Tensors, rules: Rules | str = "default", inputs: Tensors | None = None) -> Coverage:
    """Which nodes of the graph of ``outputs`` the ``rules`` cover, without propagating anything."""
    graph = Graph([address(y) for y in outputs_of(outputs)])
    wanted, _ = inputs_of(inputs, graph, "inputs")
    table = rules_of(rules)
    sweep = Sweep(graph, wanted, (), table, {})
    covered: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for node in graph.order:
        if any(edge in sweep.live for edge in graph.edges[node]):
            known = sweep.kind(node)
            ruled = known is not None and known.row.family != "refused"  # its rule says why there is none
            (covered if ruled else missing)[kind(node)] += 1
    return Coverage(dict(covered), dict(missing))


def _finite(r: Tensor) -> bool:
    # A sum is one kernel and finite unless an entry is not (or, rarely, it overflows: then look closer).
    seen = r.detach().sum().item()
    return cmath.isfinite(seen) or bool(torch.isfinite(r).all())


def _no_autocast() -> ExitStack:
    stack = ExitStack()
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            stack.enter_context(torch.autocast(device, enabled=False))
    return stack


def _enter(
    books: Ledger, roots: Sequence[Tensor], seeds: Sequence[tuple[Address, Tensor | Value]], sweep: Sweep
) -> None:
    """Enter what the outputs start with; an output that depends on no input is a constant, and ends there."""
    for y, (edge, seed) in zip(roots, seeds):
        r = seed.relevance if isinstance(seed, Value) else y.detach()
        books.seed += total(r)
        books.seed_abs += float(r.detach().abs().sum(dtype=torch.float64))
        if edge not in sweep.live:
            books.book(kind(edge.node), sweep.graph.position[edge.node], "constants", r.sum())


def _result(sweep: Sweep, a: Address, dtype: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
    found = sweep.read_out.get((a.node, a.output))
    if found is None:
        meta = metadata(a.node)[a.output]
        zeros = torch.zeros(tuple(meta.shape), dtype=raised(meta.dtype, dtype), device=meta.device)
        return zeros, zeros
    c, r, value = found
    if not torch.is_grad_enabled():
        value = value.detach()
    if c is None:
        assert r is not None
        return r, None
    own = times(value.to(c.dtype), c)
    return (own, c) if r is None else (own + r, None)
