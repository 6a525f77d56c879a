"""Published models: is every node covered, what was promised, where did relevance go, at what price?

``python benchmarks/coverage.py --model gpt2 vit-b16 --json found.json --markdown table.md``. A process per
model; results are kept in the JSON file, so a table can be made in several sittings. README.md says how
to read it.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from dynamiclrp_core import DynamicLRPError, coverage, preset, propagate, record
from dynamiclrp_core.plugins import presets
from published import MODELS, Call, Published
from speed import FEWEST, Work, interval, paired_ratios, peak_bytes, silenced
from torch import Tensor, nn

PRESETS = tuple(p for p in ("default", "attnlrp", "cp-lrp", "dynamiclrp") if p in presets())
Found = dict[str, Any]


# -- measuring -------------------------------------------------------------------------------------


def sides(case: Published, model: nn.Module, call: Call, rules: str) -> tuple[Work, Work, Work]:
    """Forward and relevance; forward and gradient; the same with ``retain_graph=True``.

    The forward is recorded where rules may ask for what autograd drops, as ``LRP.attribute`` does it.
    """
    table, inputs = preset(rules), [t for t in call.values() if t.requires_grad]
    needs_values = rules == "dynamiclrp"

    def relevance() -> object:
        with record() if needs_values else nullcontext() as kept:
            y = case.explained(model, call)
        found = propagate(y, inputs, rules=table).relevance
        if kept is not None:
            kept.clear()
        return found

    def gradient(keep: bool = False) -> object:
        return torch.autograd.grad(case.explained(model, call), inputs, retain_graph=keep)

    return relevance, gradient, lambda: gradient(keep=True)


def examined(name: str, rules: Sequence[str], pairs: int | None, quick: bool) -> list[Found]:
    """Everything the table says of one model, per preset. Runs in a process of its own."""
    warnings.filterwarnings("ignore", message=".*nodes deep.*")
    case = MODELS[name]
    model, call = case.make()
    with record() as kept:
        y = case.explained(model, call)
    weights = sum(p.numel() for p in model.parameters())
    made = [{"model": name, "parameters": weights, **_examined(y, call, r)} for r in rules]
    kept.clear()
    del y
    gc.collect()
    good = [] if quick else [found for found in made if "error" not in found]
    for found in good:
        relevance, gradient, _ = sides(case, model, call, found["preset"])
        middle, low, high = interval(paired_ratios(relevance, gradient, pairs or case.pairs))
        found["time"] = {"median": middle, "low": low, "high": high, "pairs": pairs or case.pairs}
    silenced()  # profiling chats on stderr, and what it slows stays slow: it comes last
    for found in good:
        relevance, frees, keeps = sides(case, model, call, found["preset"])
        peak = peak_bytes(relevance)
        found["peak_mib"] = peak / 2**20
        found["memory"] = {"over_grad": peak / peak_bytes(frees), "over_kept": peak / peak_bytes(keeps)}
    return made


def _examined(y: Tensor, call: Call, rules: str) -> Found:
    """What one run on the graph of ``y`` says, and one with a ledger, which asks for values of its own."""
    inputs = [t for t in call.values() if t.requires_grad]
    found: Found = {"preset": rules}
    covered = coverage(y, rules, inputs)
    nodes = sum(covered.covered.values()) + sum(covered.missing.values())
    found |= {"nodes": nodes, "covered": sum(covered.covered.values()), "missing": covered.missing,
        "ops": len({*covered.covered, *covered.missing})}  # fmt: skip
    try:
        run = propagate(y, inputs, rules=rules)
        books = propagate(y, inputs, rules=rules, ledger=True).ledger
    except DynamicLRPError as error:
        return found | {"error": str(error)}
    assert books is not None
    p = run.promises
    return found | {
        "promises": p.promises, "internal": p.internal_nodes, "delta": p.path_length, "rho": p.density,
        "depth": p.max_depth, "sources": dict(p.sources), "notes": sorted(p.notes),
        "finite": all(bool(torch.isfinite(r).all()) for r in run.relevance),
        "seed": books.seed, "inputs": books.inputs, "causes": books.by_cause, "residue": books.residue,
        "tolerance": books.tolerance, "closed": books.closed, "unattributed": len(books.unattributed),
        "amplification": books.amplification,
    }  # fmt: skip


# -- tables ----------------------------------------------------------------------------------------


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(c) for c in cells) + " |"


def promised(found: Found) -> str:
    """A line of the first table."""
    f, title = found, MODELS[found["model"]].title
    start = (title, f["preset"], f["nodes"], f"{f['covered'] / f['nodes']:.2%}", f["ops"])
    if "error" in f:
        return _row(*start, "error: " + f["error"].splitlines()[0], "", "", "", "", "")
    sources = ", ".join(f"{k} {n}" for k, n in sorted(f["sources"].items())) or "none asked for"
    return _row(*start, f["promises"], f["internal"], f["delta"], f"{f['rho']:.3f}", f["depth"], sources)


def conserved(found: Found) -> str:
    """A line of the second table."""
    f, title = found, MODELS[found["model"]].title
    if "error" in f:
        return _row(title, f["preset"], *["-"] * 7)
    share = {k: v / f["seed"] for k, v in f["causes"].items()}
    absorbed = ", ".join(f"{k} {v:.1%}" for k, v in sorted(share.items()) if abs(v) >= 0.0005)
    state = "yes" if f["closed"] else f"no ({f['unattributed']} unattributed)"
    t, m = f.get("time"), f.get("memory")
    return _row(
        title, f["preset"], f"{f['inputs'] / f['seed']:.1%}", absorbed or "-",
        f"{abs(f['residue'] / f['seed']):.0e} ({state})", f"{f['amplification']:.3g}",
        "-" if t is None else f"{t['median']:.2f} [{t['low']:.2f}, {t['high']:.2f}]",
        "-" if m is None else f"{m['over_grad']:.2f} / {m['over_kept']:.2f}",
        f"{f['peak_mib']:.0f}" if m else "-",
    )  # fmt: skip


def page(results: Sequence[Found], machine: str) -> str:
    """The tables as a page of the documentation."""
    done = sorted((f for f in results if f["model"] in MODELS), key=lambda f: list(MODELS).index(f["model"]))
    used = list(dict.fromkeys(f["model"] for f in done))
    size = {f["model"]: f["parameters"] for f in done}
    lines = [
        "# Coverage of published models", "",
        "Made by `python benchmarks/coverage.py --json docs/coverage.json --markdown docs/coverage.md`; "
        "[benchmarks](../benchmarks/README.md) says how to read it.",
        f"Random weights, float32, batch 1, weights trainable. {machine}. Dash: not measured.", "",
        _row("model", "weights", "called with"), _row("---", "---:", "---"),
        *[_row(MODELS[n].title, f"{size[n] / 1e6:.1f} M", MODELS[n].given) for n in used], "",
        "## Nodes and promises", "",
        _row("model", "preset", "nodes", "covered", "ops", "promises", "internal nodes", "δ", "ρ", "depth",  # noqa: RUF001
            "values by source"),
        _row(*["---"] * 2, *["---:"] * 8, "---"), *[promised(f) for f in done], "",
        "## Conservation, time, memory", "",
        _row("model", "preset", "at the inputs", "absorbed", "residue / seed (ledger closed)",
            "Σ\\|R\\| / \\|seed\\|", "time over gradient", "memory / gradient, / kept", "peak MiB"),
        _row(*["---"] * 3, "---", *["---:"] * 5), *[conserved(f) for f in done], "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="*", choices=list(MODELS), default=list(MODELS), metavar="MODEL",
        help=f"some of {', '.join(MODELS)} (default: all)")  # fmt: skip
    parser.add_argument("--preset", nargs="+", default=PRESETS, help=f"default: {' '.join(PRESETS)}")
    parser.add_argument("--pairs", type=int, help="pairs of runs per time")
    parser.add_argument("--quick", action="store_true", help="no times, no memory")
    parser.add_argument("--json", type=Path, help="keep results here; those of other models stay")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    args = parser.parse_args()
    if args.pairs is not None and args.pairs < FEWEST:
        parser.error(f"--pairs: {FEWEST} or more, for an interval of 95 %")
    machine = (
        f"torch {torch.__version__}, {os.environ.get('OMP_NUM_THREADS', torch.get_num_threads())} threads, "
        f"{platform.machine()}, Python {platform.python_version()}"
    )
    results: list[Found] = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    for name in args.model:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            made = process.submit(examined, name, args.preset, args.pairs, args.quick).result()
        again = {(f["model"], f["preset"]) for f in made}
        results = [f for f in results if (f["model"], f["preset"]) not in again] + made
        for found in made:
            print(promised(found), conserved(found), sep="\n", flush=True)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.markdown:
        args.markdown.write_text(page(results, machine))


if __name__ == "__main__":
    main()
