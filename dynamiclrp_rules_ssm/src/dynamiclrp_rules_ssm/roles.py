"""Which factor of a product is the signal, and which says how it is mixed? Read from the graph.

Note [Roles]
A scan ``h_t = A_t h_{t-1} + D_t B_t u_t, y_t = C_t h_t`` is multilinear in its decay A, step D, key B,
query C and signal u, and however it is spelled (loop, associative, chunked) it stays a sum of such
products. MambaLRP is linear in u alone. One pass over the graph, inputs first, tells the parts apart:

* *control*: Exp, Softplus, Sigmoid of something live, and what scalar functions, moves, sums and products
  make of controls alone: steps, decays, gates in (0, 1). A decay (Exp) outranks a step.
* *weighted*: a control times a plain tensor (``D B``, ``C B^T decay``, ``D u``). Not yet known of what.
* *state*: a sum over time of weighted terms, or the product in which a weighting met its signal; and what
  sums, moves and controls make of states. A learned layer, a norm or an activation ends it.
* *plain*: the rest.

Of two live factors the signal is then: whatever a control multiplies; the state, where a plain factor
is contracted with it or spans other dimensions (``C_t h_t``, ``k (v - S k)``); of two weighted ones that
with the lesser weight (``(C B^T decay) @ (D u)``); the plain one where a weighting is contracted with it
or it is spread over the weighting's dimensions (``(D B) u``). Everything else is a true product, so a
gate ``y * silu(z)`` is shared. Where the graph cannot tell, ``stop_relevance`` says it.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from dynamiclrp_core.engine import Kind, Sweep
from dynamiclrp_core.node import Edge, metadata
from dynamiclrp_core.op import Op
from torch.autograd.graph import Node

Role = int
PLAIN: Final = 0
STATE: Final = 1
WEIGHTED: Final = 2
DECAYED: Final = 3  # weighted by a decay
STEP: Final = 4
DECAY: Final = 5

CONTROLS = {
    "ExpBackward0": DECAY,
    "Exp2Backward0": DECAY,
    "SoftplusBackward0": STEP,
    "SigmoidBackward0": STEP,
    "LogSigmoidBackward0": STEP,
}
JOINED = ("moving", "CopySlices")  # moves and writes of several tensors


def signal(op: Op) -> int | None:
    """Matcher: the operand of ``op`` that carries the signal, None if it is a true product or has one."""
    if op.live_factors < 2:
        return None
    roles = _known.get(op.sweep)
    if roles is None:
        roles = _known[op.sweep] = Roles(op.sweep)
    return roles.signals.get(op.node)


class Roles:
    """``signals``: the signal's operand number, for each product of a sweep that has one."""

    def __init__(self, sweep: Sweep) -> None:
        self.graph = sweep.graph
        self.live = sweep.live
        self.kind = sweep.kind
        self.role: dict[Node, Role] = {}
        self.origin: dict[Node, Edge] = {}
        self.signals: dict[Node, int] = {}
        self.summed: set[Node] = set()
        kinds: list[tuple[Node, Kind]] = []
        for node in self.graph.order:
            if node in self.live.nodes and (kind := self.kind(node)) is not None:
                kinds.append((node, kind))
                if kind.row.family == "linear" and kind.row.reduces:
                    self._mark_summed(self.graph.edges[node][0])
        for node, kind in kinds:
            self._visit(node, kind)

    def _mark_summed(self, edge: Edge) -> None:
        """A product under this sum, seen through moves, is a contraction."""
        while (node := edge[0]) is not None and (kind := self.kind(node)) is not None:
            if kind.row.family == "product":
                self.summed.add(node)
            edges = self.graph.edges[node]
            if len(edges) != 1 or not (kind.row.family == "moving" or kind.row.copies):
                return
            edge = edges[0]

    def _visit(self, node: Node, kind: Kind) -> None:
        row, edges = kind.row, self.graph.edges[node]
        live = [(i, e) for i, e in enumerate(edges) if e in self.live]
        roles = [self.role.get(e[0], PLAIN) if e[0] is not None else PLAIN for _, e in live]
        family = row.family
        made = PLAIN
        factors = [k for k, (i, _) in enumerate(live) if i in row.factors]
        if len(factors) == 2 and family in ("product", "affine"):
            a, b = factors
            made = self._product(node, family, live[a], live[b], roles[a], roles[b])
        elif row.node in CONTROLS:
            made = CONTROLS[row.node]
        elif family == "product" or (family == "quotient" and live[0][0] == 0) or row.copies:
            made = roles[0]
            if family == "quotient" and len(roles) == 2 and made >= STEP:
                made = PLAIN if self._sums(edges[1]) else made  # a softmax by hand
        elif family in ("adding", *JOINED) or row.node in JOINED:
            made = self._joined(roles, family == "adding" and len(live) > 1)
        elif family == "linear":
            made = STATE if roles[0] in (WEIGHTED, DECAYED) and not row.reduces else roles[0]
        elif family in ("elementwise", "homogeneous", "quotient"):
            made = roles[0] if roles[0] >= STEP or row.degree == 1.0 else PLAIN
        if made != PLAIN:
            self.role[node] = made
        scalar = family in ("elementwise", "product", "quotient", "adding")
        if scalar or (family == "moving" and len(edges) == 1 and _size(node) == _size(edges[0][0])):
            starts = {self.origin.get(e[0], e) if e[0] is not None else e for _, e in live}
            if len(starts) == 1:
                self.origin[node] = starts.pop()

    @staticmethod
    def _joined(roles: list[Role], added: bool) -> Role:
        if STATE in roles:
            return STATE
        weighted = [r for r in roles if r in (WEIGHTED, DECAYED)]
        if weighted:
            return STATE if added else max(weighted)
        return max(roles) if min(roles) >= STEP else PLAIN

    def _product(
        self, node: Node, family: str, first: tuple[int, Edge], second: tuple[int, Edge], a: Role, b: Role
    ) -> Role:
        """The role of a product of two live factors; notes its signal."""
        if a > b:  # so that b says how, if either does
            first, second, a, b = second, first, b, a
        (i, x), (_, w) = first, second
        contracted = family == "affine" or node in self.summed
        if a >= STEP:
            return b
        if b >= STEP:
            self.signals[node] = i
            if x[0] is not None and w[0] is not None and self.origin.get(x[0], x) == self.origin.get(w[0], w):
                return PLAIN  # a gate by hand: a function of one tensor
            if a == PLAIN:
                return STATE if contracted else WEIGHTED if b == STEP else DECAYED
            return max(a, WEIGHTED if b == STEP else DECAYED) if a != STATE else STATE
        if b == PLAIN or a == b == STATE:
            return PLAIN
        spread, other = self._spread(node, x), self._spread(node, w)
        if b == STATE:  # a is plain: read or corrected by it
            if not contracted and not (spread and other):
                return PLAIN
            self.signals[node] = second[0]
            return STATE
        if a == STATE:
            if not contracted and not (spread and other):
                return PLAIN
            self.signals[node] = i
            return STATE
        if a == b:
            return a
        if a == PLAIN and not contracted and not spread:
            return PLAIN
        self.signals[node] = i
        return STATE

    def _spread(self, node: Node, edge: Edge) -> bool:
        """Whether the operand at ``edge`` is repeated over some dimension of the product."""
        wanted, at = _size(node), edge[0]
        for _ in range(8):
            if at is None or _size(at) < wanted:
                return True
            kind, edges = self.kind(at), self.graph.edges[at]
            if kind is None or kind.row.family != "moving" or len(edges) != 1:
                return False
            at = edges[0][0]
        return False

    def _sums(self, edge: Edge) -> bool:
        """Whether ``edge`` is a sum, seen through moves and casts."""
        while (node := edge[0]) is not None and (kind := self.kind(node)) is not None:
            if kind.row.family == "linear" and kind.row.reduces:
                return True
            edges = self.graph.edges[node]
            if len(edges) != 1 or not (kind.row.family == "moving" or kind.row.copies):
                return False
            edge = edges[0]
        return False


def _size(node: Node | None) -> int:
    if node is None:
        return 0
    size = 1
    for n in metadata(node)[0].shape:
        size *= n
    return size


_known: WeakKeyDictionary[Sweep, Roles] = WeakKeyDictionary()
