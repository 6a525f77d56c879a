"""The relevance sweep: one pass over the graph, outputs first.

Each node is met when everything that consumes its outputs has been passed. Its rule turns what
arrived into entries for its operands; the edge reduces each to the receiver's shape and dtype and
adds it to what is already there. That is all; the rest of this file is what a rule may ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.checkpoint import CheckpointError

from . import node as nodes
from .diagnosis import balance, check_finite, located, missing_rule, translated
from .errors import (
    BadRule,
    CompiledGraph,
    DynamicLRPError,
    Unrecoverable,
)
from .graph import Graph
from .ledger import Ledger
from .node import Address, Edge, inside_backward, kind
from .numerics import fit
from .op import Op
from .promises import Values
from .rule import Entries, Kind, Rule, Rules, Value

OnMissing = Literal["error", "pass", "stop"]


class Arrival:
    """What has arrived at a node: a coefficient and a value per output, either may be missing."""

    __slots__ = ("c", "metadata", "r")

    def __init__(self, node: Node) -> None:
        self.metadata: Sequence[Any] = node._input_metadata
        self.c: list[Tensor | None] = [None] * len(self.metadata)
        self.r: list[Tensor | None] | None = None


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
        self.live = graph.reaching(inputs)
        self.same = not at
        self.wanted = graph.reaching([*inputs, *at]) if at else self.live
        self.targets = frozenset([*inputs, *at])
        self.rules = rules
        self.dtype = dtype
        self.ledger = ledger
        self.on_missing = on_missing
        self.check = check
        self.plain = ledger is None and dtype is None and not check
        self.values = Values(self, known)
        self.held: dict[tuple[Node, str], Any] = {}
        self.assigned: dict[Node, Rule] = {}
        self.read_out: dict[tuple[Node, int], tuple[Tensor | None, Tensor | None, Tensor]] = {}
        self.used: list[Rule] = []
        self._arrived: dict[Node, Arrival] = {}
        self._ops: dict[Node, Op | None] = {}

    # -- the pass -----------------------------------------------------------------------------------

    def run(self, seeds: Sequence[tuple[Address, Tensor | Value]]) -> None:
        """Carry ``seeds`` down to the targets; results are in ``read_out``."""
        for edge, entry in seeds:
            if edge in self.wanted:
                self._arrive(edge, entry)
        arrived, ops, memo = self._arrived, self._ops, self.values.memo
        ends = {target.node for target in self.targets}
        try:
            for node in reversed(self.graph.order):
                here = arrived.pop(node, None)
                if here is not None:
                    if node in ends:
                        self._read(node, here)
                    self._step(node, here)
                if ops:
                    ops.pop(node, None)
                if memo:
                    memo.pop(node, None)
        finally:
            ops.clear()  # an Op and its sweep hold each other: activations would wait for the collector
            memo.clear()

    def _step(self, node: Node, here: Arrival) -> None:
        known = self.rules.kind(node)
        try:
            if known is not None and known.direct and self.plain and here.r is None and node not in self.assigned:
                # The rule is the node's own backward: it needs no view of the node.
                edges = self.graph.edges[node]
                wanted = self.wanted.operands(edges)
                if True in wanted:
                    self.used.append(known.direct)
                    self._send(node, edges, wanted, known.direct, self.call(node, here.c))
                return
            op = self.op(node) or self._missing(node)
            if op is not None and True in op.wanted:
                self._apply(op, here)
        except Unrecoverable as error:
            raise located(self, error) from None
        except (DynamicLRPError, CheckpointError):
            raise
        except RuntimeError as error:
            raise translated(self, error, node) from error

    def _apply(self, op: Op, here: Arrival) -> None:
        """The rule of ``op`` on what has arrived."""
        booked = 0 if self.ledger is None else len(self.ledger.entries)
        rule = (None if self.assigned else op.kind.rule) or self._choose(op)
        self.used.append(rule)
        if here.r is None:
            sent: tuple[Entries, ...] = (rule.coefficient(op, *here.c),)
        else:
            if rule.joins:
                self._join(op, here)
            sent = (rule.value(op, *here.r),)
            if any([c is not None for c in here.c]):
                sent = (*sent, rule.coefficient(op, *here.c))
        for entries in sent:
            self._send(op.node, op.edges, op.wanted, rule, entries)
        if self.check:
            check_finite(self, op, sent)
        if self.ledger is not None:
            balance(self, op, here, sent, booked)

    def _send(
        self, node: Node, edges: Sequence[Edge], wanted: Sequence[bool], rule: Rule, entries: Entries
    ) -> None:
        if len(entries) != len(edges):
            raise BadRule(
                f"{rule.id} returned {len(entries)} entries for {kind(node)}, "
                f"which has {len(edges)} operands"
            )
        for edge, entry, is_wanted in zip(edges, entries, wanted):
            if is_wanted and entry is not None:
                self._arrive(edge, entry)

    def _arrive(self, edge: Edge, entry: Tensor | Value) -> None:
        """Add ``entry`` to what ``edge`` has received, in the receiver's shape and dtype."""
        node, nr = edge
        assert node is not None
        here = self._arrived.get(node)
        if here is None:
            here = self._arrived[node] = Arrival(node)
        meta = here.metadata[nr]
        dtype = self.dtype or meta.dtype
        if type(entry) is Value:
            r = fit(entry.relevance, tuple(meta.shape), torch.promote_types(dtype, torch.float32))
            if here.r is None:
                here.r = [None] * len(here.c)
            have = here.r[nr]
            here.r[nr] = r if have is None else have + r
            return
        c = cast(Tensor, entry)
        if c.dtype != dtype or c.shape != tuple(meta.shape):  # a list, which equals no shape
            c = fit(c, tuple(meta.shape), dtype)
        have = here.c[nr]
        here.c[nr] = c if have is None else have + c

    def _read(self, node: Node, here: Arrival) -> None:
        for nr, c in enumerate(here.c):
            r = None if here.r is None else here.r[nr]
            if (node, nr) in self.targets and not (c is None and r is None):
                value = self.values.edge(Address(node, nr))
                self.read_out[node, nr] = (c, r, value)

    def _join(self, op: Op, here: Arrival) -> None:
        assert here.r is not None
        for i, c in enumerate(here.c):
            if c is not None:
                r = c * op.output(i)
                have = here.r[i]
                here.r[i] = r if have is None else have + r
                here.c[i] = None

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

    def _choose(self, op: Op) -> Rule:
        """The rule a matcher has fixed, or the first of the row whose matcher holds."""
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

    def rule_of(self, op: Op) -> Rule:
        """The rule a node gets, for those that must know how a neighbour behaves."""
        return self._choose(op)

    def assign(self, node: Node, rule: Rule) -> None:
        """Fix the rule of a node still to come (a matcher has seen what it is part of)."""
        self.assigned[node] = rule

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
