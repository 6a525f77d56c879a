"""What an operation is (``Row``), how relevance passes through it (``Rule``), and the table of both.

Note [Forms of relevance]
Relevance of a tensor ``a`` travels as a coefficient ``c``, as a value ``R``, or as one of each:
``R_total = a * c + R``. A rule has a method per form. Both return one entry per operand: a Tensor is
a coefficient, a ``Value`` a relevance value, ``None`` nothing. The base class converts between the
forms, so a rule writes only the one that is natural to it and asks for an activation only there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.autograd.graph import Node

from .errors import BadRule, DuplicateRule
from .node import kind
from .numerics import componentwise, quotient, times

if TYPE_CHECKING:
    from .op import Op


class Value:
    """An entry in value form: this much relevance, whatever the operand's activation is."""

    __slots__ = ("relevance",)

    def __init__(self, relevance: Tensor) -> None:
        self.relevance = relevance


Entry = Tensor | Value | None
Entries = Sequence[Entry]
Matcher = Callable[["Op"], Any]
Conserves = Literal["exact", "absorbed", "none"]
Degrees = float | Tensor | tuple["float | Tensor", ...] | None
Degree = Degrees | Callable[["Op"], Degrees]


class Rule(BaseModel):
    """How relevance passes through one node. Parameters are fields: typed, bounded, no extras.

    ``conserves`` is a promise the conformance test holds the rule to: ``exact`` (what comes in goes
    out), ``absorbed`` (equal after adding what the rule books in the ledger), ``none``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conserves: ClassVar[Conserves] = "absorbed"
    masks: ClassVar[bool] = False
    """Whether the coefficient sent on is 0 wherever the activation's output is 0 but its input not."""
    real: ClassVar[bool] = False
    """Whether the rule compares or bounds values. On complex tensors, which have no order, the row's own
    default is used then, and named in ``run.rules_used``."""
    joins: ClassVar[bool] = False
    """Whether the rule must see both forms added up (not linear in relevance, or redirecting)."""
    linear: ClassVar[bool] = True
    """Whether the entries are linear in the relevance that arrives."""

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        """Entries for coefficients ``c``, one per output of the node (None: nothing arrived)."""
        return self.value(op, *(None if ci is None else times(op.output(i), ci) for i, ci in enumerate(c)))

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        """Entries for relevance values ``r``, one per output. Relevance of a zero output is booked."""
        c: list[Tensor | None] = []
        for i, ri in enumerate(r):
            if ri is None:
                c.append(None)
                continue
            output = op.output(i)
            if op.ledger is not None:
                op.book("zero output", componentwise(lambda r, y: r * (y == 0), ri, output).sum())
            c.append(componentwise(quotient, ri, output))
        return self.coefficient(op, *c)

    def is_backward(self, row: Row) -> bool:
        """Whether ``coefficient`` is the node's own backward for the operands that are wanted, books aside.

        True only for the very method it speaks of: a subclass may override that and inherit this.
        """
        return False

    @staticmethod
    def only(c: Sequence[Tensor | None]) -> Tensor:
        """What arrived at output 0, for rules that know no other output."""
        first = c[0]
        if first is None or (len(c) > 1 and any(ci is not None for ci in c[1:])):
            raise BadRule("relevance arrived at an output that the rule does not know (not output 0)")
        return first

    @property
    def id(self) -> str:
        """``Name(param=value, ...)``: identifies the rule in ``run.rules_used``."""
        return repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation. Families (``families.py``) build rows; ``op`` is the node's ``Op`` view.

    node       autograd's name of the node, or ``module.QualName`` of a custom Function
    family     the theorem that gives the default rule; presets replace rules by family
    cases      (matcher or None, rule): the first whose matcher holds is used
    operands   schema names of the operands, one per edge; autograd saves an operand as ``_saved_<name>``.
               ``"tensors*"``: any number of edges
    results    names of saved fields that hold the forward outputs, by output number
    forward    ``(op, *operands) -> output`` (a tuple if there are several)
    pull       ``(op, c, i, at)``: gradient of operand i alone, so that no other is computed; ``at(j)``
               is the value of operand j
    inverse    ``(op, output) -> operand 0``
    exact      whether ``inverse`` loses nothing (a move), not even digits
    part       ``forward`` is a view of a part of its operand: what comes back can be added to that part
    slope      ``(op) -> (f(x) - f(0)) / x``; None: computed from ``forward``, or for degree 1 (relu,
               casts) the derivative, which is that slope
    at_zero    f(0), a number or ``(op) -> number``; infinite where f has a pole or no finite limit;
               None: 0 with a slope or degree 1, else computed from ``forward``
    copies     f(x) = x in other memory, layout or dtype
    degree     degree of homogeneity in all operands: a number, a tensor where entries differ, a tuple
               where outputs do, or ``(op)`` -> one of these (None: unknown)
    straight   numbers of the outputs in which the op is linear (the mean of var_mean)
    reduces    whether elements are summed or selected over a dimension
    selects    which entries move depends on their values (max, sort)
    weights    ``(op) -> factor of each term`` of a sum
    factors    which operands are multiplied with each other
    columns    a matrix product of the factors: columns of the output need no others of the second factor
    bias       which operand is an added term
    optional   operands that a call may lack (the weight and bias of a norm)
    unused     operands that the forward ignores (what stood where something is written)
    shift      ``(op) -> f(0)``: what is constant in an affine op (bias, padding), for the ledger
    stands_in  a relu-like gate: output == input wherever the output is not 0
    scaled     of a layer, ``(op, w, k, inputs)``: weights that are those of ``w`` times ``k`` per output
               channel, or with ``inputs`` per input channel
    channelwise  ``(op) -> k, t``: the op is ``k x + t`` with constants per channel (batch norm)
    unexecuted why no sample can build the node on a CPU ("needs CUDA"): its field names are checked
               against torch's headers, its formula on stand-ins
    """

    node: str
    family: str
    cases: tuple[tuple[Matcher | None, Rule], ...]
    operands: tuple[str, ...] = ()
    variadic: bool = False
    results: tuple[str, ...] = ()
    forward: Callable[..., Any] | None = None
    pull: Callable[..., Tensor] | None = None
    inverse: Callable[[Op, Tensor], Tensor] | None = None
    exact: bool = False
    part: bool = False
    slope: Callable[[Op], Tensor] | None = None
    at_zero: float | Callable[[Op], float] | None = None
    copies: bool = False
    degree: Degree = None
    straight: tuple[int, ...] = ()
    reduces: bool = False
    selects: bool = False
    weights: Callable[[Op], tuple[float, ...]] | None = None
    factors: tuple[int, ...] = ()
    columns: bool = False
    bias: int | None = None
    optional: tuple[int, ...] = ()
    unused: tuple[int, ...] = ()
    shift: Callable[[Op], Tensor | None] | None = None
    stands_in: bool = False
    scaled: Callable[[Op, Tensor, Tensor, bool], Tensor] | None = None
    channelwise: Callable[[Op], tuple[Tensor, Tensor]] | None = None
    unexecuted: str = ""
    pack: str = ""
    source: str = ""

    def degree_of(self, op: Op, output: int = 0) -> float | None:
        """The degree of one output, if that is one number."""
        degree = self.degree(op) if callable(self.degree) else self.degree
        own = degree[output] if isinstance(degree, tuple) else degree
        return None if isinstance(own, Tensor) else own

    def name_of(self, operand: int) -> str:
        """Schema name of an operand."""
        if self.variadic:
            return f"{'/'.join(self.operands)}[{operand}]"
        return self.operands[operand] if operand < len(self.operands) else f"operand {operand}"


class Kind:
    """What a table knows of one node type: its row, its cases, where autograd saves its operands.

    ``fields``: for each operand of the row the saved field, or None. ``rule``: the rule, where there
    is no choice. ``direct``: that rule, if all it does is to call the node's own backward. ``single``:
    the rule where one operand alone is live, if all it does then is to pull that operand's gradient.
    """

    __slots__ = ("cases", "direct", "fields", "row", "rule", "single")

    def __init__(self, node: Node, row: Row, rules: Rules) -> None:
        self.row = row
        self.cases = rules.cases(row)
        last, rule = self.cases[-1]
        others = [None if m is None else m.__name__ for m, _ in self.cases[:-1]]
        backward = last is None and rule.is_backward(row)
        self.rule = rule if last is None and not others else None
        self.direct = rule if backward and not others and row.pull is None else None
        self.single = rule if backward and others in ([], ["bilinear"]) and row.pull is not None else None
        names = () if row.variadic else row.operands
        self.fields = tuple(n if hasattr(type(node), "_saved_" + n) else None for n in names)


@dataclass(frozen=True, slots=True)
class Override:
    """Replace a rule: ``key`` is a node type or a family, ``case`` a matcher's name, None or ``"*"``."""

    key: str
    case: str | None
    rule: Rule
    when: Matcher | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rules(Mapping[str, Row]):
    """An immutable table: node type -> row, with overrides on top. Compose with ``|``.

    ``rules | Rules.of(elementwise("SinhBackward0", ...))`` adds a row,
    ``rules | override(affine=Epsilon(epsilon=1e-6))`` replaces a family's rule. The right side wins:
    you wrote it last. Packs, which nobody writes in an order, are joined by ``joined`` instead.
    """

    rows: Mapping[str, Row] = field(default_factory=dict)
    overrides: tuple[Override, ...] = ()
    name: str = "rules"
    packs: tuple[str, ...] = ()
    _kinds: dict[object, Kind] = field(default_factory=dict, init=False, repr=False)

    @staticmethod
    def of(*rows: Row, name: str = "rules") -> Rules:
        """A table of ``rows``. Raises DuplicateRule if two rows name one node."""
        table: dict[str, Row] = {}
        for row in rows:
            if row.node in table:
                raise DuplicateRule(f"two rows for {row.node} in one table: remove one of them")
            table[row.node] = row
        return Rules(rows=table, name=name)

    @staticmethod
    def joined(packs: Mapping[str, Iterable[Row]]) -> Rules:
        """The tables of all packs (label "name version"). Raises DuplicateRule naming both packs."""
        table: dict[str, Row] = {}
        for label, rows in packs.items():
            for row in rows:
                if row.node in table:
                    first = table[row.node].pack
                    others = [n for n in (p.split()[0] for p in packs) if n != "core"]
                    lines = [
                        f"  DYNAMICLRP_PACKS={','.join(n for n in others if n != left_out)}"
                        for left_out in (label.split()[0], first.split()[0])
                    ]
                    raise DuplicateRule(
                        f"{row.node} has a rule in two packs: {first} and {label}.\n"
                        "Order of installation must not decide a number, so neither is used. "
                        "Choose one set of packs; these lines do, or lrp.load_rules(packs=(...)):\n"
                        + "\n".join(lines)
                    )
                table[row.node] = replace(row, pack=label)
        return Rules(rows=table, name="default", packs=tuple(packs))

    def __getitem__(self, node: str) -> Row:
        return self.rows[node]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __or__(self, other: Rules) -> Rules:
        if not isinstance(other, Rules):
            return NotImplemented
        rows = {**self.rows, **other.rows}
        if rows:
            known = {*rows, *(row.family for row in rows.values())}
            for o in other.overrides:
                if o.key not in known:
                    near = difflib.get_close_matches(o.key, known, 3)
                    raise BadRule(
                        f"override({o.key}=...): no node and no family of that name is loaded"
                        + (f"; did you mean {', '.join(near)}?" if near else "")
                    )
        return Rules(
            rows=rows,
            overrides=self.overrides + other.overrides,
            name=f"{self.name} | {other.name}" if other.overrides or other.rows else self.name,
            packs=self.packs + other.packs,
        )

    def where(self, when: Matcher | str, other: Rules, model: nn.Module | None = None) -> Rules:
        """``self``, with the overrides of ``other`` only where ``when`` holds. The later one wins.

        when   a function of the ``Op`` (``lrp.first_layer``, ``lambda op: op.shape[-1] > 7``), or the name
               of parameters or modules of ``model``, with ``*``: ``where("layer1.*", other, model=model)``
        other  ``override(...)`` or a preset, whose rows are not used

        Raises BadRule for a name that nothing in ``model`` has, and for overrides that name no row.
        """
        if isinstance(when, str):
            if model is None:
                raise BadRule(f"where({when!r}, ...): names belong to a model: add model=model")
            from .scope import named  # it needs the engine, which needs this module

            when = named(when, model)
        return self | Rules(
            overrides=tuple(replace(o, when=_both(when, o.when)) for o in other.overrides), name=other.name
        )

    def kind(self, node: Node) -> Kind | None:
        """What the table knows of the node's type; None without a row. Worked out once per table."""
        return self._kinds.get(type(node)) or self._new_kind(node)

    def _new_kind(self, node: Node) -> Kind | None:
        name = kind(node)
        found = self._kinds.get(name)
        if found is None and name in self.rows:
            found = self._kinds[name] = Kind(node, self.rows[name], self)
        if found is not None and type(node).__name__ == name:
            # Not so for foreach nodes, all of one Python type, and for custom Functions, which may be
            # made anew in every call: the table must not keep them.
            self._kinds[type(node)] = found
        return found

    def cases(self, row: Row) -> tuple[tuple[Matcher | None, Rule], ...]:
        """The (matcher, rule) pairs to try for a node of ``row``, overrides applied."""
        # With each pair the name of its case: a scoped rule stands for the case it was scoped from.
        named = [(m, rule, None if m is None else m.__name__) for m, rule in row.cases]
        for o in self.overrides:
            if o.key not in (row.node, row.family):
                continue
            if o.case == "*":
                replaced: list[tuple[Matcher | None, Rule, str | None]] = [(None, o.rule, None)]
            else:
                replaced = [(m, o.rule if case == o.case else rule, case) for m, rule, case in named]
            rest = [] if o.when is None else named
            named = [(_both(o.when, m), rule, case) for m, rule, case in replaced] + rest
        return tuple((m, rule) for m, rule, _ in named)


def _both(a: Matcher | None, b: Matcher | None) -> Matcher | None:
    if a is None or b is None:
        return a or b

    def both(op: Op) -> Any:
        first = a(op)  # 0 is a match: operand number 0
        return None if first is None or first is False else b(op)

    both.__name__ = b.__name__
    return both


def override(name: str = "override", **rules: Rule | Mapping[str, Rule]) -> Rules:
    """Overrides by family or node type: ``override(affine=Gamma(gamma=0.25), ConvolutionBackward0=ZPlus())``.

    ``product__gate=...`` replaces one case, ``product__all=...`` every case.
    """
    made: list[Override] = []
    for key, rule in rules.items():
        target, _, case = key.partition("__")
        if not isinstance(rule, Rule):
            raise BadRule(f"override({key}=...) takes a Rule, not {type(rule).__name__}")
        made.append(Override(target, {"": None, "all": "*"}.get(case, case), rule))
    return Rules(overrides=tuple(made), name=name)
