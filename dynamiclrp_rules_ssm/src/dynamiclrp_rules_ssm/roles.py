"""Which factor of a product is the signal, and which says how it is mixed? Read from the graph.

Note [Roles]
A scan ``h_t = A_t h_{t-1} + D_t B_t u_t, y_t = C_t h_t`` is multilinear in its decay A, step D, key B,
query C and signal u, and however it is spelled (loop, associative, chunked) it stays a sum of such
products. MambaLRP is linear in u alone. One pass over the graph, inputs first, tells the parts apart:

* *control*: Exp, Softplus, Sigmoid of something live, and what scalar functions, moves, sums and products
  make of controls alone: steps, decays, gates in (0, 1).
* *weighted*: a control times a plain tensor (``D B``, ``C B^T decay``, ``D u``), not yet known of what;
  *decayed* if a decay (Exp) was among the controls.
* *state*: a sum of weighted terms, or the product in which a weighting met its signal; and what sums,
  moves and controls make of states. A learned layer, a norm or an activation ends it.
* *plain*: the rest.

Of two live factors the signal is then
1. whatever a control multiplies;
2. the state, where a plain or weighted factor is contracted with it (``C_t h_t``) or the two span
   different dimensions (``k_t (v_t - S k_t)``);
3. of a step-weighted and a decayed one, the former (``(C B^T decay) @ (D u)``);
4. the plain one, where a weighting is contracted with it or it is spread over the weighting's dimensions
   (``(D B) u``);
5. in an outer product that is summed into a state (``k (x) v``), the one that reads of that state leave
   (``states.py``).
Everything else is a true product, so a gate ``y * silu(z)`` is shared. Where the graph does not tell
(a key and a value that meet without a control and are not read by a contraction), ``stop_relevance`` does.
"""

from __future__ import annotations

import math
from typing import Final

from dynamiclrp_core.engine import Sweep
from dynamiclrp_core.graph import collector_paused
from dynamiclrp_core.node import Edge, metadata, signed
from dynamiclrp_core.op import Op
from dynamiclrp_core.table import Kind
from torch.autograd.graph import Node

from .states import Group, Pair, contracted_axes, keeps_axes

# In the order of a product's result: of two roles the lower one is the signal, if there is one.
PLAIN: Final = 0
STATE: Final = 1
WEIGHTED: Final = 2
DECAYED: Final = 3
STEP: Final = 4
DECAY: Final = 5

CONTROLS = {
    "ExpBackward0": DECAY,
    "Exp2Backward0": DECAY,
    "SoftplusBackward0": STEP,
    "SigmoidBackward0": STEP,
    "LogSigmoidBackward0": STEP,
}
SPREADS = ("UnsqueezeBackward0", "ExpandBackward0", "PermuteBackward0", "TransposeBackward0")


def signal(op: Op) -> int | None:
    """Matcher: the operand of ``op`` that carries the signal; None where it is a true product."""
    return op.sweep.once(_signals).get(op.node)


def _signals(sweep: Sweep) -> dict[Node, int]:
    with collector_paused():
        return Roles(sweep).signals


class Roles:
    """``signals``: the signal's operand number, for each product of a sweep that has one."""

    def __init__(self, sweep: Sweep) -> None:
        graph, live = sweep.graph, sweep.live
        self.edges = graph.edges
        self.live = live
        self.kind = sweep.kind
        self.role: dict[Node, int] = {}
        self.origin: dict[Node, Edge] = {}
        self.groups: dict[Node, Group] = {}
        self.summed: dict[Node, Node] = {}
        self.constants: dict[Node, int] = {}
        self.signals: dict[Node, int] = {}
        kinds = [(n, k) for n in graph.order if n in live.nodes and (k := sweep.kind(n)) is not None]
        for node, kind in kinds:
            if kind.row.family == "linear" and kind.row.reduces:
                self._mark_summed(node)
        for node, kind in kinds:
            self._visit(sweep, node, kind)
        for group in {g.root() for g in self.groups.values()}:
            self.signals |= group.signals()

    def _mark_summed(self, total: Node) -> None:
        """A product right under this sum is a contraction; a sum of everything is no read of a state."""
        if not hasattr(total, "_saved_dim"):
            return
        node = self._through_moves(self.edges[total][0])[0][0]
        if node is not None and (kind := self.kind(node)) is not None and kind.row.family == "product":
            self.summed[node] = total

    def _visit(self, sweep: Sweep, node: Node, kind: Kind) -> None:
        row, edges = kind.row, self.edges[node]
        live = [(i, e) for i, e in enumerate(edges) if e in self.live]
        if not live:
            return  # a named input
        family = row.family
        roles = [self.role.get(e[0], PLAIN) for _, e in live if e[0] is not None]
        factors = [k for k, (i, _) in enumerate(live) if i in row.factors]
        made = PLAIN
        if len(factors) == 2 and family in ("product", "affine"):
            a, b = sorted(factors, key=roles.__getitem__)
            made = self._product(sweep, node, family == "affine", (live[a], live[b]), roles[a], roles[b])
        elif row.node in CONTROLS:
            made = CONTROLS[row.node]
        elif family == "product" or row.copies:
            made = roles[0]
            self._pass_group(node, live[0][1])
            if made >= STEP and len(row.factors) == 2:
                self.constants[node] = 1 - live[0][0]
        elif family == "quotient":
            made = self._quotient(live, roles)
        elif family == "adding":
            made = self._sum(node, live, roles)
        elif family == "moving" or row.node == "CopySlices":
            made = self._joined(roles)
            if len(edges) == 1 and edges[0][0] is not None and keeps_axes(node, edges[0]):
                self._pass_group(node, edges[0])
        elif family == "linear":
            made = STATE if roles[0] in (WEIGHTED, DECAYED) and not row.reduces else roles[0]
        elif family in ("elementwise", "homogeneous"):
            made = roles[0] if roles[0] >= STEP or row.degree == 1.0 else PLAIN
        if made != PLAIN:
            self.role[node] = made
        scalar = family in ("elementwise", "product", "quotient", "adding")
        if scalar or (family == "moving" and len(edges) == 1 and _size(node) == _size(edges[0][0])):
            starts = {self._origin(e) for _, e in live}
            if len(starts) == 1:
                self.origin[node] = starts.pop()

    # -- the role of what an op makes ---------------------------------------------------------------

    def _quotient(self, live: list[tuple[int, Edge]], roles: list[int]) -> int:
        if live[0][0] == 1:  # only the divisor is live
            return roles[0] if roles[0] >= STEP else PLAIN
        if len(live) == 2 and roles[0] >= STEP:
            below = self._through_moves(live[1][1])[0][0]
            kind = None if below is None else self.kind(below)
            if kind is not None and kind.row.reduces:
                return PLAIN  # a softmax by hand
        return roles[0]

    def _sum(self, node: Node, live: list[tuple[int, Edge]], roles: list[int]) -> int:
        groups = [g.root() for _, e in live if e[0] is not None and (g := self.groups.get(e[0]))]
        made = self._joined(roles)
        if len(live) > 1 and (made in (WEIGHTED, DECAYED) or (groups and max(roles) >= STEP)):
            made = STATE
        if made == STATE:
            for _, e in live:
                below = self._through_moves(e)[0][0]
                if below in self.constants and self.role[below] >= STEP:
                    self.signals[below] = self.constants[below]
        if groups:
            group = groups[0]
            for other in groups[1:]:
                group = group.merge(other)
            group.recurrent |= made == STATE
            self.groups[node] = group
        return made

    @staticmethod
    def _joined(roles: list[int]) -> int:
        if STATE in roles:
            return STATE
        weighted = [r for r in roles if r in (WEIGHTED, DECAYED)]
        if weighted:
            return max(weighted)
        return max(roles) if min(roles) >= STEP else PLAIN

    def _product(self, sweep: Sweep, node: Node, matrix: bool, pair: Pair, a: int, b: int) -> int:
        """The role of a product of two live factors, of roles ``a <= b``; notes its signal."""
        (i, x), (j, w) = pair
        if a >= STEP:
            return b
        if b >= STEP:
            self.signals[node] = i
            self._pass_group(node, x)
            if self._origin(x) == self._origin(w):
                return PLAIN  # a gate by hand: a function of one tensor
            weight = WEIGHTED if b == STEP else DECAYED
            return STATE if a == STATE or (a == PLAIN and matrix) else max(a, weight)
        if STATE in (a, b):
            apart = self._spread(node, x) and self._spread(node, w)
            if a == b or not (matrix or apart or node in self.summed):
                return PLAIN
            k, state = (j, w) if b == STATE else (i, x)
            self.signals[node] = k
            self._read(sweep, node, matrix, k, k == min(i, j), state)
            return STATE
        outer = self._outer(node, matrix, pair)
        if outer and a == PLAIN:
            self.groups[node] = Group(outer=[(node, pair)])
            return STATE if b else PLAIN
        if a == b:
            if matrix or node in self.summed:
                for k, e in pair:
                    self._read(sweep, node, matrix, k, k == min(i, j), e)
            return a
        if a == PLAIN and not (matrix or node in self.summed or self._spread(node, x)):
            return PLAIN
        self.signals[node] = i
        return STATE

    # -- states -------------------------------------------------------------------------------------

    def _read(self, sweep: Sweep, node: Node, matrix: bool, operand: int, first: bool, edge: Edge) -> None:
        """Note that ``node`` contracts what stands at ``edge``, if that is in a group."""
        state, moves = self._through_moves(edge, stop_at_groups=True)
        if state[0] is None or state[0] not in self.groups:
            return
        group = self.groups[state[0]].root()
        group.reads.append((node, operand))
        if group.axes:
            return
        if matrix:
            dims: tuple[int, ...] = (-1,) if first else (-2,)
        else:
            total = self.summed[node]
            wanted = signed(getattr(total, "_saved_dim"))  # noqa: B009
            rank = len(metadata(node)[0].shape)
            dims = tuple(d - rank if d >= 0 else d for d in (wanted if type(wanted) is tuple else (wanted,)))
        group.axes = contracted_axes(sweep, state, moves, dims)

    def _pass_group(self, node: Node, edge: Edge) -> None:
        if edge[0] is not None and (group := self.groups.get(edge[0])) is not None:
            self.groups[node] = group

    def _outer(self, node: Node, matrix: bool, pair: Pair) -> bool:
        """Whether the factors span different dimensions, so that nothing is contracted."""
        if matrix:
            shapes = [metadata(e[0])[e[1]].shape for _, e in pair if e[0] is not None]
            return all(1 in s[-2:] for s in shapes) and node.name() == "BmmBackward0"
        return node not in self.summed and all(self._spread(node, e) for _, e in pair)

    def _spread(self, node: Node, edge: Edge) -> bool:
        """Whether the operand at ``edge`` is repeated over some dimension of the product."""
        wanted, rank, at = _size(node), len(metadata(node)[0].shape), edge
        for _ in range(8):
            if at[0] is None:
                return False
            shape = metadata(at[0])[at[1]].shape
            if math.prod(shape) < wanted or len(shape) < rank:
                return True
            edges = self.edges[at[0]]
            if at[0].name() not in SPREADS:
                return False
            at = edges[0]
        return False

    # -- the graph ----------------------------------------------------------------------------------

    def _origin(self, edge: Edge) -> Edge:
        """The furthest tensor of which ``edge`` is a function entry by entry."""
        return edge if edge[0] is None else self.origin.get(edge[0], edge)

    def _through_moves(self, edge: Edge, stop_at_groups: bool = False) -> tuple[Edge, list[Node]]:
        """What ``edge`` is a move or copy of, and those moves, the first first."""
        moves: list[Node] = []
        while edge[0] is not None and len(moves) < 8:
            edges, kind = self.edges[edge[0]], self.kind(edge[0])
            if (stop_at_groups and edge[0] in self.groups) or kind is None or len(edges) != 1:
                break
            if kind.row.family != "moving" and not kind.row.copies:
                break
            moves.append(edge[0])
            edge = edges[0]
        return edge, moves[::-1]


def _size(node: Node | None) -> int:
    return 0 if node is None else math.prod(metadata(node)[0].shape)
