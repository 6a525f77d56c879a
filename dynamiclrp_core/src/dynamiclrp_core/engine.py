"""The relevance sweep: one pass over the graph, outputs first.

Each node is met when everything that consumes its outputs has been passed. Its rule turns what
arrived into entries for its operands; the edge reduces each to the receiver's shape and dtype and
adds it to what is already there. That is all; the rest of this file is what a rule may ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.checkpoint import CheckpointError

from . import node as nodes
from .arrivals import Arrivals, Arrived
from .diagnosis import Sent, balance, check_finite, located, missing_rule, translated
from .errors import (
    BadRule,
    CompiledGraph,
    DynamicLRPError,
    Unrecoverable,
)
from .graph import Graph
from .ledger import Ledger
from .node import Address, Edge, inside_backward, kind
from .numerics import times
from .op import Op
from .reruns import Reruns, sequence_nr
from .rule import Entries, Rule, Value
from .table import Kind, Rules
from .values.promises import Values
from .zero_rows import ExplainedRows

OnMissing = Literal["error", "pass", "stop"]
T = TypeVar("T")


class Sweep:
    """One run over one graph. Holds everything the run knows; nothing outlives it."""

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Address],
        at: Sequence[Address],
        rules: Rules,
        known: dict[Address, Tensor],
        *,
        dtype: torch.dtype | None = None,
        ledger: Ledger | None = None,
        on_missing: OnMissing = "error",
        check: bool = False,
    ) -> None:
        self.graph = graph
        self.live = graph.reaching(inputs, rules.separate)
        self.same = not at
        self.wanted = graph.reaching([*inputs, *at], rules.separate) if at else self.live
        self.targets = frozenset([*inputs, *at])
        self.rules = rules
        self.dtype = dtype
        self.ledger = ledger
        self.on_missing = on_missing
        self.check = check
        self.plain = ledger is None and dtype is None and not check
        self.explained_rows = ExplainedRows()
        self.values = Values(self, known)
        self.held: dict[tuple[Node, str], Any] = {}
        self.assigned: dict[Node, Rule] = {}
        self.read_out: dict[tuple[Node, int], tuple[Tensor | None, Tensor | None, Tensor]] = {}
        self.used: list[Rule] = []
        self.arrivals = Arrivals(dtype)
        self._ops: dict[Node, Op | None] = {}
        self._once: dict[Hashable, Any] = {}

    # -- the pass -----------------------------------------------------------------------------------

    def run(self, seeds: Sequence[tuple[Address, Tensor | Value]]) -> None:
        """Carry ``seeds`` down to the targets; results are in ``read_out``."""
        for edge, entry in seeds:
            if edge in self.wanted:
                self.arrivals.add(edge, entry)
        coefficients, values = self.arrivals.coefficients, self.arrivals.values
        ops, memo = self._ops, self.values.memo
        ends = {target.node for target in self.targets}
        order = self.graph.inner[::-1]
        reruns, number = Reruns(order, self.values.stats.notes), sequence_nr()
        try:
            for i, node in enumerate(order):
                c = coefficients.pop(node, None)
                if c is not None:
                    r = values.pop(node, None) if values else None
                    if node in ends:
                        self._read(node, c, r)
                    self._step(node, c, r)
                if ops:
                    ops.pop(node, None)
                if memo:
                    memo.pop(node, None)
                if sequence_nr() != number:
                    reruns.passed(i)
            for node, c in coefficients.items():  # leaves
                self._read(node, c, values.get(node))
        finally:
            ops.clear()  # an Op and its sweep hold each other: activations would wait for the collector
            memo.clear()

    def _step(self, node: Node, c: Arrived, r: Arrived | None) -> None:
        known = self.rules.kind(node)
        try:
            if known is None:
                op = self._missing(node)
            elif r is None and self.plain and node not in self.assigned and self._backward(node, known, c):
                return
            else:
                op = self.op(node)
            if op is not None and True in op.wanted:
                self._apply(op, c, r)
        except Unrecoverable as error:
            raise located(self, error) from None
        except (DynamicLRPError, CheckpointError):
            raise
        except RuntimeError as error:
            raise translated(self, error, node) from error

    def _backward(self, node: Node, known: Kind, c: Arrived) -> bool:
        """The short way of rules that are the node's own backward: no choice, and mostly no ``Op``."""
        edges = self.graph.edges[node]
        if known.direct is not None:
            wanted = self.wanted.operands(edges)
            if True in wanted:
                self.used.append(known.direct)
                op = self.op(node) if known.row.part and self.arrivals.has_sum_at(edges[0]) else None
                if op is not None:
                    self.arrivals.add_part(edges[0], op, cast(Tensor, c[0]))
                else:
                    self._send(edges, wanted, self.call(node, c))
            return True
        if known.single is None or not self.same or len(c) != 1:
            return False
        op = cast(Op, self.op(node))
        if op.live.count(True) != 1:
            return False
        i = op.live.index(True)
        self.used.append(known.single)
        self.arrivals.add(edges[i], op.pull(cast(Tensor, c[0]), i))
        return True

    def _apply(self, op: Op, c: Arrived, r: Arrived | None) -> None:
        """The rule of ``op`` on what has arrived."""
        booked = 0 if self.ledger is None else len(self.ledger.entries)
        rule = self.rule_of(op)
        if rule.real and op.dtype.is_complex:
            rule = op.row.cases[-1][1]
        self.used.append(rule)
        if r is not None and rule.joins:
            self._join(op, c, r)
        sent: list[Sent] = []
        for form, arrived in ((rule.value, r), (rule.coefficient, c)):
            if arrived is None or (r is not None and not any([a is not None for a in arrived])):
                continue
            op.past = None
            entries, to = form(op, *arrived), op.receivers
            if len(entries) != len(to.edges):
                raise BadRule(
                    f"{rule.id} returned {len(entries)} entries for {kind(op.node)}, "
                    f"which has {len(to.edges)} operands"
                )
            self._send(to.edges, to.wanted, entries)
            sent.append((to, entries))
        if self.check:
            check_finite(self, op, sent)
        if op.ledger is not None:
            balance(self, op, c, r, sent, booked)

    def _send(self, edges: Sequence[Edge], wanted: Sequence[bool], entries: Entries) -> None:
        for edge, entry, is_wanted in zip(edges, entries, wanted):
            if is_wanted and entry is not None:
                self.arrivals.add(edge, entry)

    def _read(self, node: Node, c: Arrived, r: Arrived | None) -> None:
        for nr, ci in enumerate(c):
            ri = None if r is None else r[nr]
            if (node, nr) in self.targets and not (ci is None and ri is None):
                value = self.values.edge(Address(node, nr))
                self.read_out[node, nr] = (ci, ri, value)

    def _join(self, op: Op, c: Arrived, r: Arrived) -> None:
        for i, ci in enumerate(c):
            if ci is not None:
                ri = r[i]
                own = times(op.output(i), ci)
                r[i] = own if ri is None else ri + own
                c[i] = None

    def inside(
        self,
        seeds: Sequence[tuple[Address, Tensor | Value]],
        inputs: Sequence[Address],
        at: Sequence[Address],
        known: dict[Address, Tensor],
    ) -> dict[tuple[Node, int], tuple[Tensor | None, Tensor | None, Tensor]]:
        """Sweep another graph with the same rules: one that a node of this graph hides."""
        graph = Graph([edge for edge, _ in seeds])
        inner = Sweep(
            graph, inputs, at, self.rules, known, dtype=self.dtype, ledger=self.ledger,
            on_missing=self.on_missing, check=self.check,
        )  # fmt: skip
        inner.run(seeds)
        self.used += inner.used
        return inner.read_out

    # -- rules --------------------------------------------------------------------------------------

    def kind(self, node: Node) -> Kind | None:
        """What is known of the node's type; None without a row."""
        return self.rules.kind(node)

    def op(self, node: Node) -> Op | None:
        """The ``Op`` view of ``node``, made once per run; None without a row."""
        ops = self._ops
        if node in ops:
            return ops[node]
        found = self.rules.kind(node)
        made = ops[node] = None if found is None else Op(node, found, self)
        return made

    def rule_of(self, op: Op) -> Rule:
        """The rule of a node: the one a matcher has fixed, or the first of its row whose matcher holds."""
        if self.assigned and op.node in self.assigned:
            return self.assigned[op.node]
        known = op.kind
        if known.rule is not None:
            return known.rule
        for matcher, rule in known.cases:
            if matcher is None:
                op.match = None
                return rule
            op.match = matcher(op)
            if op.match is not None and op.match is not False:
                return rule
        raise missing_rule(self, op.node, "none of the matchers of its row holds")

    def assign(self, node: Node, rule: Rule) -> None:
        """Fix the rule of a node still to come (a matcher has seen what it is part of)."""
        self.assigned[node] = rule

    def once(self, find: Callable[..., T], *args: Hashable) -> T:
        """``find(sweep, *args)``, found once per run: what a matcher learns in one pass over the graph.

        ``find`` may not return what holds the sweep: graph and activations would wait for the collector.
        """
        key = (find, args)
        if key not in self._once:
            self._once[key] = find(self, *args)
        return cast(T, self._once[key])

    def _missing(self, node: Node) -> Op | None:
        if not any([edge in self.wanted for edge in self.graph.edges[node]]):
            return None  # nothing further is asked for: an input, a read-out
        name = kind(node)
        if "CompiledFunction" in name:
            raise CompiledGraph(
                f"{name}: this part of the forward was compiled into one node, its operations are "
                "gone.\n  cure: explain the eager model (model._orig_mod, or torch.compiler."
                "set_stance('force_eager') around the forward)"
            )
        if self.on_missing == "error":
            raise missing_rule(self, node, "no rule for it")
        if self.ledger is not None:
            self.ledger.book_unknown(kind(node), f"missing rule ({self.on_missing})")
        if self.on_missing == "stop":
            return None
        from .families import passing_through

        return Op(node, Kind(node, passing_through(node), self.rules), self)

    # -- reading nodes ------------------------------------------------------------------------------

    def read(self, node: Node, name: str) -> Any:
        """A saved field. One unpacked before in this backward by a checkpoint is run again."""
        held = self.held
        if held and (node, name) in held:
            return held[node, name]
        try:
            return nodes.saved(node, name)
        except CheckpointError:
            return inside_backward(lambda: nodes.saved(node, name))
        except RuntimeError as error:
            raise translated(self, error, node) from error

    def call(self, node: Node, c: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """The node's own backward: no hooks, no broadcast undone, nothing cast."""
        run: Any = node if callable(node) else node.apply  # type: ignore[attr-defined]
        try:
            result = run(*c)
        except CheckpointError:
            result = inside_backward(lambda: run(*c))
        return result if isinstance(result, tuple) else (result,)
