"""``docs/rules.md``, made from the installed packs: what each node's rule is, and which nodes have none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import torch

from ..packs import plugins
from .listing import Record, missing_records, row_records
from .torch_nodes import generated

_HEAD = """# Rules

Made by `make docs` (`dynamiclrp rules docs`) on torch {version}; do not edit. A test fails when it is stale.

This torch has {known} generated node types. {tested} have a rule that samples execute in the tests,
{elsewhere} have one that no CPU can execute, {refused} refuse relevance on purpose, {rest} have no row
or no sample. Below is the preset `default`; `dynamiclrp rules show NODE` tells what the others make of it.
"""


def markdown() -> str:
    """The rules of the preset ``default`` of all installed packs, and the rest, as Markdown."""
    rules = plugins.preset("default")
    missing = missing_records(rules)
    states = [record["state"] for record in missing]
    head = _HEAD.format(
        version=release(),
        known=len(generated()),
        tested=len(generated()) - len(missing),
        elsewhere=states.count("not executable here"),
        refused=states.count("refused"),
        rest=states.count("no row") + states.count("untested"),
    )
    tested = [r for r in row_records(rules, sorted(rules)) if r["tested"]]
    tested.sort(key=lambda r: (r["pack"], r["family"], r["node"]))
    parts = [head]
    for pack, records in groupby(tested, key=lambda r: str(r["pack"]).split()[0]):
        columns = ("node", "family", "rule", "operands", "conserves", "source")
        parts.append(f"## {pack}\n\n{_table(columns, records)}")
    for state, records in groupby(missing, key=lambda r: str(r["state"])):
        parts.append(f"## {state.capitalize()}\n\n{_by_reason(records)}")
    return "\n".join(parts)


def release() -> str:
    """torch's version without the build."""
    return str(torch.__version__).split("+")[0]


def _table(columns: Sequence[str], records: Iterable[Record]) -> str:
    rows = [[_cell(record[name]) for name in columns] for record in records]
    lines = [list(columns), ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _by_reason(records: Iterable[Record]) -> str:
    groups = groupby(records, key=lambda r: str(r["reason"]))
    return "".join(f"* {reason}: {', '.join(r['node'] for r in found)}\n" for reason, found in groups)


def _cell(value: object) -> str:
    text = " ".join(value) if isinstance(value, list) else str(value)
    return text.replace("|", "\\|").replace("*", "\\*")
