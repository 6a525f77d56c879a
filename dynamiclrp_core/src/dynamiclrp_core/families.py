"""One-line constructors of rows. Each family is a theorem about a class of operations.

``operands`` names the operands as in the aten schema, one per edge; autograd saves an operand under
that name if it saves it at all. ``forward(op, *operands)`` recomputes the output.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from .errors import BadRule
from .matching.matchers import bilinear, composed, divided, gate, softmax_by_hand, statistic
from .node import kind
from .op import Op
from .rule import Degree, Matcher, Row, Rule
from .rules.defaults import (
    Adding,
    Affine,
    Elementwise,
    Gradient,
    Linear,
    Moving,
    Pass,
    Product,
    Stop,
)
from .rules.euler import Homogeneous, Quotient
from .rules.scalar_function import Held, ScalarFunction
from .subgraph import Composite

SOURCES = {
    "linear": "LRP-0, Bach et al. 2015",
    "affine": "LRP-0, Bach et al. 2015",
    "adding": "ratio rule, Bach et al. 2015",
    "moving": "permutation: exact",
    "elementwise": "secant from 0 (ARCHITECTURE.md)",
    "product": "AttnLRP 2402.05602, propositions 3.2, 3.3",
    "quotient": "all to the numerator (ARCHITECTURE.md)",
    "homogeneous": "Euler's theorem",
    "composite": "the rules of the ops in it",
    "softmax": "AttnLRP 2402.05602, proposition 3.1",
    "attention": "AttnLRP 2402.05602, propositions 3.1, 3.3",
    "norm": "scale held: AttnLRP 2402.05602, proposition 3.4",
}
"""Where the default rule of a family comes from; a row may name another source."""


def _row(node: str, family: str, rule: Rule, operands: str, cases: tuple[Any, ...] = (), **facts: Any) -> Row:
    names = tuple(operands.split())
    variadic = bool(names) and names[0].endswith("*")
    results = tuple(facts.pop("results", "").split())
    facts.setdefault("source", SOURCES.get(family, ""))
    known = set(Row.__dataclass_fields__)
    if unknown := set(facts) - known:
        raise BadRule(f"row {node}: unknown facts {sorted(unknown)}")
    return Row(
        node=node,
        family=family,
        cases=(*cases, (None, rule)),
        operands=tuple(n.rstrip("*") for n in names),
        variadic=variadic,
        results=results,
        **facts,
    )


def constant_part(op: Op) -> Tensor | None:
    """f(0): the op with zeros for its live operands. What is left is constant."""
    if all(op.live) and op.row.variadic:
        return None
    operands = [op.zeros(i) if live else op.optional(i) for i, live in enumerate(op.live)]
    made: Tensor = op.forward(*operands)
    return made


def linear(node: str, operands: str = "self", **facts: Any) -> Row:
    """Linear in its operand with fixed weights (sum, mean, cumsum, pooling, fft). Theorem: Linear."""
    return _row(node, "linear", Linear(), operands, degree=1.0, **facts)


def moving(node: str, operands: str = "self", *, fills: bool = False, **facts: Any) -> Row:
    """Moves or selects entries (view, index, cat, max-pool). ``fills``: constants come in too."""
    if fills:
        facts.setdefault("shift", constant_part)
    facts.setdefault("exact", "inverse" in facts)
    return _row(node, "moving", Moving(), operands, degree=1.0, **facts)


def copying(node: str, operands: str = "self", **facts: Any) -> Row:
    """f(x) = x in other memory, layout or dtype (clone, to). ``inverse=None``: a cast, which may round."""
    facts.setdefault("inverse", lambda op, y: y)
    exact = facts["inverse"] is not None
    return _row(node, "elementwise", Elementwise(), operands, degree=1.0, copies=True, exact=exact, **facts)


def scaling(node: str, operands: str = "self", **facts: Any) -> Row:
    """f(x) = k x with a constant k per entry (negation, dropout). Theorem: Linear, entry by entry."""
    return elementwise(node, operands, degree=1.0, scales=True, **facts)


def elementwise(
    node: str,
    operands: str = "self",
    *,
    cases: tuple[tuple[Matcher, Rule], ...] = (),
    **facts: Any,
) -> Row:
    """f(x) entry by entry. Theorem: Elementwise. ``slope(op)``: (f(x)-f(0))/x; else from forward."""
    if facts.get("degree") != 1.0 or "slope" in facts:  # others are linear or relu-like, and compose
        cases = (*cases, (composed, ScalarFunction()))
    return _row(node, "elementwise", Elementwise(), operands, cases, **facts)


def adding(node: str, operands: str = "self other", **facts: Any) -> Row:
    """A sum of terms, ``weights(op)`` their factors. Theorem: Adding."""
    weights = facts["weights"]

    def forward(op: Op, *terms: Tensor) -> Tensor:
        parts = [t if w == 1 else t * w for w, t in zip(weights(op), terms)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    facts.setdefault("forward", forward)
    return _row(node, "adding", Adding(), operands, **facts)


def product(node: str, operands: str = "self other", **facts: Any) -> Row:
    """An elementwise product. A gate, a statistic times its tensor, or a true product."""
    facts.setdefault("factors", (0, 1))
    cases = (
        (softmax_by_hand, Gradient()),
        (gate, ScalarFunction()),
        (statistic, Held()),
        (divided, Quotient()),
    )
    return _row(node, "product", Product(), operands, cases, **facts)


def quotient(node: str, operands: str = "self other", **facts: Any) -> Row:
    """An elementwise quotient: softmax by hand, a gate, a statistic, or all to the numerator."""
    cases = (
        (softmax_by_hand, Gradient()),
        (gate, ScalarFunction()),
        (composed, ScalarFunction()),
        (statistic, Held()),
    )
    return _row(node, "quotient", Quotient(), operands, cases, **facts)


def affine(node: str, operands: str, *, factors: tuple[int, int], **facts: Any) -> Row:
    """Bilinear in two factors, plus an added term (mm, addmm, conv). Theorem: Affine or Product."""
    facts.setdefault("shift", None)
    return _row(node, "affine", Affine(), operands, ((bilinear, Product()),), factors=factors, **facts)


def norm(node: str, operands: str = "input weight bias", **facts: Any) -> Row:
    """Layer, group, batch norm: only the scale is held constant, so it is affine in its input."""
    facts.setdefault("factors", (0, 1))
    facts.setdefault("bias", 2)
    facts.setdefault("optional", (1, 2))
    return _row(node, "norm", Affine(), operands, ((bilinear, Product()),), **facts)


def homogeneous(node: str, operands: str = "self", *, degree: Degree, **facts: Any) -> Row:
    """f(tx) = t^p f(x), over all operands: norms, std, prod. Theorem: Homogeneous (Euler)."""
    return _row(node, "homogeneous", Homogeneous(), operands, degree=degree, **facts)


def composite(node: str, operands: str = "self", **facts: Any) -> Row:
    """Made of other ops: ``forward`` spells it out, and each op in it gets its own rule."""
    return _row(node, "composite", Composite(), operands, **facts)


def winner(node: str, operands: str = "self", **facts: Any) -> Row:
    """Selects entries by their value (max, sort, max-pool): moves like an index does."""
    return _row(node, "moving", Moving(), operands, degree=1.0, selects=True, **facts)


def softmax(node: str, operands: str = "self", **facts: Any) -> Row:
    """Softmax and its relatives: the plain gradient. Theorem: Gradient (AttnLRP)."""
    return _row(node, "softmax", Gradient(), operands, **facts)


def stopping(node: str, operands: str = "self", **facts: Any) -> Row:
    """No relevance passes: comparisons, sources, indices."""
    return _row(node, "stop", Stop(), operands, **facts)


def custom(node: str, rule: Rule, operands: str = "", *, family: str = "custom", **facts: Any) -> Row:
    """Any other op: name the rule."""
    return _row(node, family, rule, operands, **facts)


def passing_through(node: Node) -> Row:
    """What ``on_missing="pass"`` uses for a node without a row."""
    return _row(kind(node), "missing", Pass(), "")
