"""The table of rows (``Rules``), what replaces their rules (``Override``), what a node type is (``Kind``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch.autograd.graph import Node

from .errors import BadRule, DuplicateRule
from .node import kind
from .rule import Matcher, Row, Rule

if TYPE_CHECKING:
    from torch import nn

    from .op import Op


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

    def __repr__(self) -> str:
        return f"Rules({self.name!r}: {len(self.rows)} rows, {len(self.overrides)} overrides)"

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
                        + "\n  cure: a family (affine: all layers; norm, linear, adding, ...), a "
                        "node type (ConvolutionBackward0), or a class of modules: "
                        "where(nn.Conv2d, override(affine=...), model=model)"
                    )
        return Rules(
            rows=rows,
            overrides=self.overrides + other.overrides,
            name=f"{self.name} | {other.name}" if other.overrides or other.rows else self.name,
            packs=self.packs + other.packs,
        )

    def where(
        self, when: Matcher | str | type[nn.Module], other: Rules, model: nn.Module | None = None
    ) -> Rules:
        """``self``, with the overrides of ``other`` only where ``when`` holds. The later one wins.

        when   a function of the ``Op`` (``lrp.first_layer``, ``lambda op: op.shape[-1] > 7``), or the name
               of parameters or modules of ``model``, with ``*``: ``where("layer1.*", other, model=model)``,
               or a class of its modules: ``where(nn.Conv2d, other, model=model)``
        other  ``override(...)`` or a preset, whose rows are not used

        Raises BadRule for a name or class that nothing in ``model`` has, for overrides that name no row,
        and for arguments of another kind.
        """
        from .rules.scope import matcher_of  # it needs the engine, which needs this module

        if not isinstance(other, Rules):
            raise BadRule(
                f"where(..., {other!r}): it takes rules, lrp.override(affine={other!r}), or a preset"
            )
        holds = matcher_of(when, model)
        return self | Rules(
            overrides=tuple(replace(o, when=_both(holds, o.when)) for o in other.overrides), name=other.name
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

    def separate(self, node: Node) -> bool:
        """Whether each output of ``node`` depends on operands of its own (``Row.separate``)."""
        known = self.kind(node)
        return known is not None and known.row.separate

    def cases(self, row: Row) -> tuple[tuple[Matcher | None, Rule], ...]:
        """The (matcher, rule) pairs to try for a node of ``row``, overrides applied."""
        # For each case its rules with their scopes, the last one given first. A rule of all cases is not told
        # which it is, but what its own scope found.
        by_case: list[tuple[Matcher | None, str | None, list[tuple[Matcher | None, Rule, bool]]]] = [
            (m, None if m is None else m.__name__, [(None, rule, False)]) for m, rule in row.cases
        ]
        for o in self.overrides:
            if o.key in (row.node, row.family):
                for _, case, scoped in by_case:
                    if o.case in ("*", case):
                        scoped[:] = [(o.when, o.rule, o.case == "*"), *(scoped if o.when else ())]
        # Where all cases have the same rules, which it is need not be asked.
        if all(scoped == by_case[-1][2] for _, _, scoped in by_case):
            del by_case[:-1]
        return tuple(
            (_both(when, m, first_tells=every), rule)
            for m, _, scoped in by_case
            for when, rule, every in scoped
        )


def _both(a: Matcher | None, b: Matcher | None, first_tells: bool = False) -> Matcher | None:
    """Holds where both do, and says what the second has found, or the first."""
    if a is None or b is None:
        return a or b

    def both(op: Op) -> Any:
        first = a(op)  # 0 is a match: operand number 0
        if first is None or first is False:
            return None
        second = b(op)
        return second if second is None or second is False or not first_tells else first

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
