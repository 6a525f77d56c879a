"""The command line: ``dynamiclrp rules list | show | coverage | docs``, ``packs``, ``demo``.

A listing is made of plain records; ``--json`` prints the same records. Exit code 1: a broken pack,
a conflict, a missing rule, or another error of this library, whose message goes to stderr.
"""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import DynamicLRPError, MissingRule
from ..packs import plugins
from .docs import markdown
from .listing import Record, case_record, missing_records, pack_record, row_records, told
from .torch_nodes import generated

app = typer.Typer(
    help="Layer-wise relevance propagation on the autograd graph.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
rules_app = typer.Typer(help="What the installed packs know.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Preset = Annotated[str, typer.Option("--rules", help="Preset whose rules are meant.")]


def main() -> None:
    """Entry point of ``dynamiclrp``."""
    try:
        app()
    except DynamicLRPError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        raise SystemExit(1) from None


# -- rules -----------------------------------------------------------------------------------------


@rules_app.command("list")
def list_rules(
    rules: Preset = "default",
    missing: Annotated[
        bool, typer.Option("--missing", help="The nodes of this torch without a tested rule, and why.")
    ] = False,
    pack: Annotated[str | None, typer.Option("--pack", help="Only rows of this pack.")] = None,
    as_json: AsJson = False,
) -> None:
    """All nodes that have a rule, one line each."""
    table = plugins.preset(rules)
    if missing:
        records = missing_records(table)
        known = len(generated())
        title = f"{known} node types in torch {torch.__version__}, {known - len(records)} with a tested rule"
        _print(as_json, records, (title, records))
        return
    owners = {row.pack.split()[0] for row in table.values()}
    if pack is not None and pack not in owners:
        raise DynamicLRPError(f"no pack {pack!r} with rows; there are: {', '.join(sorted(owners))}")
    nodes = sorted(n for n, row in table.items() if pack in (None, row.pack.split()[0]))
    records = row_records(table, nodes)
    _print(as_json, records, (f"{len(records)} nodes, rules of {rules!r}", records))


@rules_app.command("docs")
def print_docs() -> None:
    """All rules and refusals as Markdown, on the standard output."""
    print(markdown(), end="")


@rules_app.command("show")
def show_rule(node: str, rules: Preset = "default", as_json: AsJson = False) -> None:
    """All about one node: its facts, its rule in each case, and what the presets make of it."""
    table = plugins.preset(rules)
    if node not in table:
        near = difflib.get_close_matches(node, table, n=3)
        raise MissingRule(
            f"no installed pack has a row for {node!r} ({', '.join(table.packs)})"
            + (f"\n  did you mean: {', '.join(near)}" if near else "")
        )
    row = table[node]
    (facts,) = row_records(table, [node])
    cases = [case_record(m, rule) for m, rule in table.cases(row)]
    presets = []
    for name, make in sorted(plugins.presets().items()):
        if needed := plugins.needed(make):
            presets.append({"preset": name, "rule": f"depends on {', '.join(needed)}"})
            continue
        used = plugins.preset(name).cases(row)
        presets.append({"preset": name, "rule": told((m, r.id) for m, r in used)})
    _print(
        as_json,
        {**facts, "cases": cases, "presets": presets},
        (node, [{"fact": name, "value": value} for name, value in facts.items()]),
        (f"cases under {rules!r}: the first that holds is used", cases),
        ("under the presets", presets),
    )


@rules_app.command("coverage")
def show_coverage(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    rules: Preset = "default",
    layer: Annotated[str | None, typer.Option(help="Explain this submodule's output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Which nodes of a model have a rule, which promises the rules make on it, and which values are lost.

    MODEL is MODULE:FACTORY or SCRIPT.py:FACTORY, a local transformers folder, or a config.json of one.
    FACTORY() returns (model, example inputs as a tuple), or an output tensor. Modules of the
    current folder are found too. Token ids need --layer, the name of the embedding; a transformers model
    is built from its config with random weights, and its word embedding is explained. Exit code 1
    if a node has no rule, or a value is lost even under record().
    """
    from .survey import load, survey

    try:
        forward = load(model, layer)
    except ModuleNotFoundError as error:
        raise typer.BadParameter(
            f"{model!r} cannot be loaded, module {error.name} is missing: {error}"
        ) from error
    except (ValueError, ImportError, AttributeError, OSError) as error:
        raise typer.BadParameter(f"{model!r} cannot be loaded: {error}") from error
    found = survey(forward, plugins.preset(rules))
    _print(
        as_json,
        {"rules": rules, **found.as_dict()},
        (f"{found.coverage.fraction:.1%} of the nodes have a rule", found.nodes()),
        (f"promises under {rules!r} with record()", found.statistics()),
        (f"{len(found.lost)} nodes whose rule lacks a value without record()", found.values()),
        ("values", [{"not shown": found.note}] if found.note else []),
    )
    if not found.complete:
        raise typer.Exit(1)


@rules_app.command("check")
def check_rules(
    packs: Annotated[list[str] | None, typer.Argument(metavar="[PACK]...")] = None,
    node: Annotated[list[str] | None, typer.Option(help="Only the row of this node.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance kit on the rows of PACK (all packs, if none is named), on this torch.

    Says exactly which rows no longer fit, and why. Exit code 1 if one does not.
    """
    from .checking import check_packs

    verdicts = list(check_packs(packs or (), node or ()))
    states = Counter(v.state for v in verdicts)
    failed = [v for v in verdicts if v.state in ("fails", "unknown")]
    records = [
        {"node": v.node, "pack": v.pack, "state": v.state, "samples": v.samples, "checks": v.checks,
         "what": "; ".join([*v.failures, *(f"excused from {e}" for e in v.excused)]) or v.note}
        for v in verdicts
    ]  # fmt: skip
    release = ".".join(torch.__version__.split(".")[:2])
    elsewhere = [
        f"{p.name} was run on torch {p.torch}"
        for p in plugins.installed()
        if p.torch and release not in p.torch.split() and (not packs or p.name in packs)
    ]
    told_states = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
    head = "; ".join([f"torch {torch.__version__}: {len(records)} rows, {told_states}", *elsewhere])
    _print(as_json, records, (head, records))
    if failed or not verdicts:
        raise typer.Exit(1)


@rules_app.command("new")
def new_pack(
    name: Annotated[str, typer.Argument(help="Name of the pack, such as my-pack.")],
    into: Annotated[Path, typer.Option(help="Folder to write it into.")] = Path(),
) -> None:
    """Write a pack that installs, is found, and passes ``rules check`` as it is. Then make it yours."""
    from .scaffold import write_pack

    folder = write_pack(name, into)
    for line in (f"written: {folder}", f"  pip install {folder}", f"  dynamiclrp rules check {folder.name}"):
        print(line)


# -- packs, demo -----------------------------------------------------------------------------------


@app.command("packs")
def show_packs(as_json: AsJson = False) -> None:
    """Installed packs, what each brings, and whether they fit together. Exit code 1 if not."""
    records = []
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for pack in plugins.installed():
        facts, brings = pack_record(pack)
        records.append(facts)
        for brought in brings:
            owners[brought].append(pack.label)
    conflicts = [
        {"what": what, "name": name, "packs": packs}
        for (what, name), packs in sorted(owners.items())
        if len(packs) > 1
    ]
    _print(
        as_json,
        {"packs": records, "conflicts": conflicts},
        (f"{len(records)} packs", records),
        ("conflicts: choose packs with DYNAMICLRP_PACKS=name,name", conflicts),
    )
    if conflicts or any(r["error"] for r in records):
        raise typer.Exit(1)


@app.command("demo")
def run_demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo-output"),
    quick: Annotated[bool, typer.Option("--quick", help="Less training, smaller nets.")] = False,
    model: Annotated[Path | None, typer.Option(help="Explain this local transformers folder.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="What to explain with --model; repeat it.")] = None,
) -> None:
    """Train a small CNN on digits and a tiny language model, and explain what they see."""
    try:
        if model is None:
            importlib.import_module("dynamiclrp_core.cli.demo").main(out=out, quick=quick)
        else:
            explain = importlib.import_module("dynamiclrp_core.cli.demo_text").explain_folder
            explain(model, text or [], out / "text.html")
    except ModuleNotFoundError as error:
        raise DynamicLRPError(
            f"the demo needs {error.name}:\n  pip install 'dynamiclrp-core[demo]'"
        ) from error


# -- printing --------------------------------------------------------------------------------------


def _print(as_json: bool, data: Any, *tables: tuple[str, Sequence[Record]]) -> None:
    """``data`` as JSON, or (title, records) as tables; empty ones are left out."""
    if as_json:
        print(json.dumps(data, indent=1, default=sorted))  # a set becomes a list
        return
    for title, records in tables:
        if records:
            rows = [list(records[0]), *([_cell(value) for value in each.values()] for each in records)]
            (_folded if sys.stdout.isatty() else _lines)(title, rows)


def _folded(title: str, rows: list[list[str]]) -> None:
    """A table for the eye: long cells are folded to the width of the terminal."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _lines(title: str, rows: list[list[str]]) -> None:
    """Into a file or a pipe: one record, one line."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    print(title)
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{n} {name}" for name, n in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return " ".join(value) if isinstance(value, list | set) else str(value)
