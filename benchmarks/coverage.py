"""Published models: is every node covered, what was promised, where did relevance go, at what price?

``python benchmarks/coverage.py --model gpt2 vit-b16 --json found.json --markdown table.md``. A process per
model; results are kept in the JSON file, so a table can be made in several sittings. README.md says how
to read it.
"""

from __future__ import annotations

import argparse
import gc
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from chains import with_large_stack
from dynamiclrp_core import DynamicLRPError, coverage, propagate, record
from dynamiclrp_core.packs.plugins import presets
from kept import Kept, measured, row, table, write_page
from measuring import FEWEST, Found, circumstances, interval, paired_ratios, peaks, sides, silenced
from published import MODELS, Call
from torch import Tensor

PRESETS = tuple(p for p in ("default", "attnlrp", "cp-lrp", "dynamiclrp") if p in presets())


# -- measuring -------------------------------------------------------------------------------------


def examined(name: str, rules: Sequence[str], timed: Sequence[str], pairs: int | None) -> list[Found]:
    """Everything the table says of one model, per preset. Runs in a process of its own."""
    warnings.filterwarnings("ignore", message=".*nodes deep.*")
    case = MODELS[name]
    model, call = case.make()
    with record() as kept:
        y = case.explained(model, call)
    weights = sum(p.numel() for p in model.parameters())
    made = [{"model": name, "parameters": weights, **_examined(y, call, r), **circumstances()} for r in rules]
    kept.clear()
    del y
    gc.collect()
    good = [found for found in made if "error" not in found and found["preset"] in timed]
    explained, inputs = partial(case.explained, model, call), [t for t in call.values() if t.requires_grad]
    for found in good:
        relevance, gradient, _ = sides(explained, inputs, found["preset"])
        found["time"] = interval(paired_ratios(relevance, gradient, pairs or case.pairs))
    silenced()  # profiling chats on stderr, and what it slows stays slow: it comes last
    for found in good:
        found |= peaks(*sides(explained, inputs, found["preset"]))
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


def titled(found: Found) -> str:
    """The model, and the length of its input where it is measured at several."""
    case = MODELS[found["model"]]
    several = [m.title for m in MODELS.values()].count(case.title) > 1
    return f"{case.title}, {case.given}" if several else case.title


def promised(found: Found) -> tuple[object, ...]:
    """A line of the first table."""
    f, title = found, titled(found)
    start = (title, f["preset"], f["nodes"], f"{f['covered'] / f['nodes']:.2%}", f["ops"])
    if "error" in f:
        return (*start, "error: " + f["error"].splitlines()[0], "", "", "", "", "")
    sources = ", ".join(f"{k} {n}" for k, n in sorted(f["sources"].items())) or "none asked for"
    return (*start, f["promises"], f["internal"], f["delta"], f"{f['rho']:.3f}", f["depth"], sources)


def conserved(found: Found) -> tuple[object, ...]:
    """A line of the second table."""
    f, title = found, titled(found)
    if "error" in f:
        return (title, f["preset"], *["-"] * 7)
    share = {k: v / f["seed"] for k, v in f["causes"].items()}
    absorbed = ", ".join(f"{k} {v:.1%}" for k, v in sorted(share.items()) if abs(v) >= 0.0005)
    state = "yes" if f["closed"] else f"no ({f['unattributed']} unattributed)"
    t, m = f.get("time"), f.get("memory")
    return (
        title, f["preset"], absorbed or "-", f"{f['inputs'] / f['seed']:.1%}",
        f"{abs(f['residue'] / f['seed']):.0e} ({state})", f"{f['amplification']:.3g}",
        "-" if t is None else f"{t['median']:.2f} [{t['low']:.2f}, {t['high']:.2f}]",
        "-" if m is None else f"{m['over_grad']:.2f} / {m['over_kept']:.2f}",
        f"{f['peak_mib']:.0f}" if m else "-",
    )  # fmt: skip


def page(results: Sequence[Found]) -> list[str]:
    """The tables as they stand in the documentation."""
    order = {name: i for i, name in enumerate(MODELS)}
    presets = list(dict.fromkeys([*PRESETS, *(f["preset"] for f in results)]))
    known = [f for f in results if f["model"] in order]
    done = sorted(known, key=lambda f: (order[f["model"]], presets.index(f["preset"])))
    size = {f["model"]: f["parameters"] for f in done}
    models = [(MODELS[n].title, MODELS[n].given, f"{size[n] / 1e6:.1f} M") for n in size]
    return [
        measured(done), "", *table(["model", "called with", "weights"], 2, models),
        "## Nodes and promises", "",
        *table(["model", "preset", "nodes", "covered", "ops", "promises", "internal nodes", "δ", "ρ", "depth",  # noqa: RUF001
            "values by source"], 2, map(promised, done)),
        "## Conservation, time, memory", "",
        *table(["model", "preset", "absorbed", "at the inputs", "residue / seed (ledger closed)",
            "Σ\\|R\\| / \\|seed\\|", "time over gradient", "memory / gradient, / kept", "peak MiB"],
            3, map(conserved, done)),
    ]  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="*", choices=list(MODELS), default=list(MODELS), metavar="MODEL",
        help=f"some of {', '.join(MODELS)} (default: all)")  # fmt: skip
    parser.add_argument("--preset", nargs="+", default=PRESETS, help=f"default: {' '.join(PRESETS)}")
    parser.add_argument("--timed", nargs="*", metavar="PRESET",
        help="measure time and memory of these only; of none if none is named (default: all)")  # fmt: skip
    parser.add_argument("--pairs", type=int, help="pairs of runs per time")
    parser.add_argument("--json", type=Path, help="keep results here; those of other models stay")
    parser.add_argument("--markdown", type=Path, help="write the tables here, below what stands there")
    args = parser.parse_args()
    if args.pairs is not None and args.pairs < FEWEST:
        parser.error(f"--pairs: {FEWEST} or more, for an interval of 95 %")
    timed = args.preset if args.timed is None else args.timed
    kept = Kept(args.json, "model", "preset")
    for name in args.model:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            work = partial(examined, name, args.preset, timed, args.pairs)
            made = process.submit(with_large_stack, work).result()
        for found in made:
            print(row(*promised(found)), row(*conserved(found)), sep="\n", flush=True)
        kept.add(*made)
    if args.markdown:
        write_page(args.markdown, page(kept.results))


if __name__ == "__main__":
    main()
