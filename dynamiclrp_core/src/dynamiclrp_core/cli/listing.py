"""Plain records of rows, cases and packs: what the command line lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import DynamicLRPError
from ..packs import plugins
from ..packs.plugins import Pack
from ..refusal import refusal
from ..rule import Matcher, Row, Rule
from ..table import Rules
from .torch_nodes import generated

Record = dict[str, Any]


def told(cases: Iterable[tuple[Matcher | None, str]]) -> str:
    """``gate: A; statistic: B; C``: what is used where a matcher holds, and otherwise."""
    return "; ".join(text if m is None else f"{m.__name__}: {text}" for m, text in cases)


def _form(rule: Rule) -> str:
    """The form of relevance that the rule is written in; the base class converts the other."""
    own = type(rule)
    forms = ("coefficient", "value")
    return " ".join(f for f in forms if getattr(own, f) is not getattr(Rule, f))


def row_records(rules: Rules, nodes: Sequence[str]) -> list[Record]:
    """What ``rules list`` tells of each node: a flat record per row."""
    tested = {sample.node for _, sample in plugins.samples()}
    installed = plugins.load_rules()
    records = []
    for row in (rules[node] for node in nodes):
        cases = rules.cases(row)
        otherwise = cases[-1][1]
        held = {rule.conserves for _, rule in cases}
        facts = {
            "node": row.node,
            "family": row.family,
            "rule": told((m, type(rule).__name__) for m, rule in cases),
            "forward": row.forward is not None,
            "operands": [name + "*" * row.variadic for name in row.operands],
            "results": list(row.results),
            "form": _form(otherwise),
            # What holds in every case is the weakest of the promises.
            "conserves": next(c for c in ("none", "absorbed", "exact") if c in held),
            "pack": row.pack,
            "source": row.source or f"{type(otherwise).__module__}.{type(otherwise).__name__}",
            "tested": row.node in tested,
            "shadows": _shadowed(row, rules, installed),
        }
        records.append(facts)
    return records


def _shadowed(row: Row, rules: Rules, installed: Rules) -> str:
    """The pack's row, or its rules, that the table ``rules`` puts others in the place of."""
    own = installed.get(row.node)
    if own is None or (own.pack == row.pack and rules.cases(row) == own.cases):
        return ""
    return f"{own.pack}: {told((m, type(rule).__name__) for m, rule in own.cases)}"


def missing_records(rules: Rules) -> list[Record]:
    """Node types of the installed torch without a tested rule, and why: a flat record per type.

    ``refused`` (relevance does not pass), ``not executable here`` (a rule, but no CPU builds the node),
    ``untested`` (a rule without a sample), ``no row``. In that order of reasons.
    """
    tested = {sample.node for _, sample in plugins.samples()}
    records = []
    for node in sorted(generated().keys() - tested):
        row = rules.get(node)
        state, reason = "no row", "MissingRule names it when a model contains it"
        if row is not None:
            reason = refusal(row) or row.unexecuted or "its pack has no sample that builds it"
            state = "refused" if refusal(row) else "not executable here" if row.unexecuted else "untested"
        records.append({"node": node, "state": state, "reason": reason, "pack": row.pack if row else ""})
    return sorted(records, key=lambda r: (r["state"], r["reason"], r["node"]))


def case_record(matcher: Matcher | None, rule: Rule) -> Record:
    """One case of a row: when it holds, which rule it uses, and what that rule states."""
    return {
        "case": "otherwise" if matcher is None else matcher.__name__,
        "rule": rule.id,
        "form": _form(rule),
        "conserves": rule.conserves,
        "what it does": (type(rule).__doc__ or "").strip().split("\n\n")[0],
    }


def pack_record(pack: Pack) -> tuple[Record, list[tuple[str, str]]]:
    """A pack's record, and the rules and presets it brings as ("rule" or "preset", name).

    It is loaded alone (core is always there), so that a conflict does not hide the rest.
    """
    rules: list[str] = []
    presets: set[str] = set()
    samples, error = 0, pack.error
    if error is None:
        try:
            table = plugins.load_rules([pack.name])
            rules = [node for node, row in table.items() if row.pack == pack.label]
            presets = set(plugins.presets([pack.name]))
            presets -= set(plugins.presets(["core"])) if pack.name != "core" else set()
            samples = sum(label == pack.label for label, _ in plugins.samples([pack.name]))
        except DynamicLRPError as broken:
            error = str(broken)
    facts = {
        "pack": pack.name,
        "version": pack.version,
        "status": "broken" if error else "ok",
        "rules": len(rules),
        "presets": sorted(presets),
        "samples": samples,
        "torch": pack.torch,
        "error": error or "",
    }
    return facts, [("rule", r) for r in rules] + [("preset", p) for p in sorted(presets)]
