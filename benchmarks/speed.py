"""What relevance costs beside a gradient: ``python benchmarks/speed.py --help``.

The one metric: (forward + relevance) / (forward + torch.autograd.grad(y, x)), same model, input and
seed of ones, runs interleaved in one process. README.md says how to read the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import chains
import models
import transformer_cases
from dynamiclrp_core import record
from kept import Kept, measured, table, write_page
from long_context import long_context
from measuring import (
    FEWEST,
    Found,
    Work,
    circumstances,
    interval,
    paired_ratios,
    peaks,
    sides,
    silenced,
    verdict,
)
from models import Case
from peers import is_peer, peers
from torch import Tensor, nn

CASES: dict[str, Case] = {**models.CASES, **transformer_cases.CASES}
OTHERS = ("chain", "record", "long-context")
RULES = ("default", "epsilon", "epsilon-plus", "gamma", "epsilon-alpha2-beta1", "dynamiclrp")
TEXT_RULES = ("default", "attnlrp", "cp-lrp", "dynamiclrp")

# (time, memory), both over the gradient's
IMAGES = {
    "default": (1.02, 1.1), "epsilon": (1.3, 1.3), "epsilon-plus": (1.7, 1.3), "gamma": (2.7, 1.3),
    "epsilon-alpha2-beta1": (2.7, 1.3), "dynamiclrp": (1.3, 1.3),
}  # fmt: skip
DENSE = dict.fromkeys(("default", "attnlrp", "cp-lrp"), (1.02, 1.05))
BUDGETS: dict[tuple[str, str], tuple[float, float]] = {
    **{(case, rules): both for case in ("vgg16", "resnet50", "efficientnet")
       for rules, both in IMAGES.items()},
    **{(case, rules): both for case in transformer_cases.CASES if not case.endswith("-one")
       for rules, both in DENSE.items()},
    **{(case, "default"): (0.88, 1.05) for case in ("gpt2-one", "gpt2-512-one", "gpt2-1024-one")},
    **{(case, "dynamiclrp"): (1.3, 1.3) for case in ("gpt2", "gpt2-512", "gpt2-1024", "bert", "vit")},
    ("mlp21", "default"): (1.5, 1.1),
    ("mlp21", "epsilon"): (4.0, 1.3),
}  # fmt: skip
PER_NODE = {"walk": 2.5, "walk + scan": 5.0, "beyond the kernels": 6.0}
RECORD_BUDGET = 1.05


# -- measuring -------------------------------------------------------------------------------------


def of(model: nn.Module, x: Tensor, rules: str) -> tuple[Work, Work, Work]:
    """``sides`` of a case; ``rules`` may be a peer's."""
    forward = partial(model, x)
    if is_peer(rules):
        return peers()[rules](model, x), *sides(forward, [x], "default")[1:]
    return sides(forward, [x], rules)


def memory(name: str, weights: str, batch: int | None, rules: Sequence[str]) -> list[Found]:
    """Peaks of each of ``rules``. Runs in a process of its own."""
    model, x = CASES[name].make(trainable=weights == "trainable", batch=batch)
    return [peaks(*of(model, x, rule)) for rule in rules]


def able(model: nn.Module, x: Tensor, rules: str) -> str:
    """Why a peer cannot explain the model, "" if it can."""
    try:
        of(model, x, rules)[0]()
    except Exception as error:  # anything may go wrong in there
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def compared(
    name: str, rules: Sequence[str], weights: Sequence[str], batch: int | None, pairs: int | None
) -> Iterator[Found]:
    """The metric of a case, by weights and rules."""
    case = CASES[name]
    # A process of its own: once it has profiled, all that torch does there is slower.
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=silenced) as other:
        for kind in weights:
            model, x = case.make(trainable=kind == "trainable", batch=batch)
            shared = {"table": "models", "case": name, "batch": len(x), "weights": kind}
            found: list[Found] = [{**shared, "rules": rule} for rule in rules]
            for one in found:
                if is_peer(one["rules"]) and (why := able(model, x, one["rules"])):
                    one["error"] = why[:110]
            good = [one for one in found if "error" not in one]
            taken = other.submit(memory, name, kind, batch, [one["rules"] for one in good]).result()
            for one, peak in zip(good, taken):
                relevance, gradient, _ = of(model, x, one["rules"])
                one |= {"time": interval(paired_ratios(relevance, gradient, pairs or case.pairs)), **peak}
            yield from found


def recorded(name: str, pairs: int | None) -> Iterator[Found]:
    """What ``record()`` adds to a forward."""
    for kind in ("trainable", "frozen"):
        model, x = CASES[name].make(trainable=kind == "trainable")

        def with_record(model: nn.Module = model, x: Tensor = x) -> None:
            with record() as kept:
                model(x)
            kept.clear()

        ratios = paired_ratios(with_record, partial(model, x), pairs or CASES[name].pairs)
        yield {"table": "record", "case": name, "weights": kind, "time": interval(ratios)}


# -- tables ----------------------------------------------------------------------------------------

HEADS: dict[str, tuple[str, int, list[str]]] = {
    "models": ("Relevance beside a gradient", 4, ["case", "batch", "weights", "rules", "ratio",
        "95 % interval", "pairs", "budget", "memory / gradient", "/ kept", "budget", "peak MiB"]),
    "record": ("A forward under record()", 2, ["case", "weights", "ratio", "95 % interval", "budget"]),
    "chain": ("Microseconds per node", 2, ["nodes", "cost", "µs", "95 % interval", "budget"]),
    "long-context": ("Long context: a Llama-style model of 4 layers of 1,024, one explained logit", 2,
        ["checkpoints", "weights", "tokens", "gradient, MiB", "default, MiB", "ratio"]),
}  # fmt: skip


def cells(f: Found) -> list[str]:
    """A row of its table."""
    if f["table"] == "long-context":
        return [f["case"], f["weights"], f"{f['tokens']:,}", f"{f['gradient_mib']:.0f}",
            f"{f['peak_mib']:.0f}", f"{f['peak_mib'] / f['gradient_mib']:.2f}"]  # fmt: skip
    if "error" in f:
        return [f["case"], str(f["batch"]), f["weights"], f["rules"], "-", f["error"], *[""] * 6]
    t, digits = f["time"], 2 if f["table"] == "chain" else 3
    ratio = [f"{t['median']:.{digits}f}", f"[{t['low']:.{digits}f}, {t['high']:.{digits}f}]"]
    if f["table"] == "chain":
        return [f["case"], f["cost"], *ratio, verdict(t, PER_NODE.get(f["cost"]))]
    if f["table"] == "record":
        budget = RECORD_BUDGET if f["case"] in ("vgg16", "resnet50") else None
        return [f["case"], f["weights"], *ratio, verdict(t, budget)]
    m, (time, space) = f["memory"], BUDGETS.get((f["case"], f["rules"]), (None, None))
    return [f["case"], str(f["batch"]), f["weights"], f["rules"], *ratio, str(t["pairs"]),
        verdict(t, time), f"{m['over_grad']:.3f}", f"{m['over_kept']:.3f}",
        verdict(m["over_grad"], space), f"{f['peak_mib']:.0f}"]  # fmt: skip


WIDTHS = {
    "rules": 27, "95 % interval": 16, "cost": 18, "case": 15, "weights": 9, "ratio": 6, "budget": 18,
    "checkpoints": 13,
}  # fmt: skip


def show(lines: Iterator[Found], kept: Kept) -> None:
    """Print rows as they are made, and keep them."""
    last = ""
    for found in lines:
        head = HEADS[found["table"]][2]
        if found["table"] != last:
            last = found["table"]
            print("", "  ".join(f"{h:<{WIDTHS.get(h, len(h))}}" for h in head).rstrip(), sep="\n")
        print(
            "  ".join(f"{c:<{WIDTHS.get(h, len(h))}}" for c, h in zip(cells(found), head)).rstrip(),
            flush=True,
        )
        kept.add({**found, **circumstances()})


def page(results: Sequence[Found]) -> Iterator[str]:
    """The tables as they stand in the documentation."""
    names = list(CASES)
    rules = [*RULES, *TEXT_RULES]

    def place(f: Found) -> tuple[int, int, str, int, str]:
        known = f.get("rules") in rules
        return (
            names.index(f["case"]) if f["case"] in names else 0,
            f.get("batch", 0), f.get("weights", "")[::-1],
            rules.index(f["rules"]) if known else len(rules), f.get("rules", ""),
        )  # fmt: skip

    for name, (title, left, head) in HEADS.items():
        rows = [f for f in results if f["table"] == name]
        if rows:
            yield from (f"## {title}", "", measured(rows), "")
            yield from table(head, left, [cells(f) for f in sorted(rows, key=place)])
    yield from ("## Cases", "", *table(["case", ""], 2, [(n, c.title) for n, c in CASES.items()]))


# -- the command -----------------------------------------------------------------------------------


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--case", nargs="*", choices=[*CASES, *OTHERS], metavar="CASE", default=[*CASES, *OTHERS],
        help=f"some of {', '.join([*CASES, *OTHERS])} (default: all)",
    )  # fmt: skip
    parser.add_argument("--rules", nargs="+", metavar="PRESET",
        help=f"default: {' '.join(RULES)}; of transformers {' '.join(TEXT_RULES)}")  # fmt: skip
    parser.add_argument("--weights", nargs="+", default=("trainable", "frozen"), help="default: both")
    parser.add_argument("--batch", nargs="+", type=int, default=[None], help="samples (default: by case)")
    parser.add_argument("--peers", action="store_true", help="zennit, captum, LXT too, where they import")
    parser.add_argument("--pairs", type=int, help="pairs of runs per figure (default: by case)")
    parser.add_argument("--quick", action="store_true", help=f"{FEWEST} pairs, chains up to 10^4 nodes")
    parser.add_argument("--json", type=Path, help="keep results here; other rows stay")
    parser.add_argument("--markdown", type=Path, help="write the tables here, below what stands there")
    args = parser.parse_args()
    pairs = args.pairs or (FEWEST if args.quick else None)
    if pairs is not None and pairs < FEWEST:
        parser.error(f"--pairs: {FEWEST} or more, for an interval of 95 %")
    kept = Kept(args.json, "table", "case", "batch", "weights", "rules", "cost")
    print(circumstances()["machine"] + "; budgets are met if the lower end is within")
    for name in args.case:
        if name in CASES:
            rules = [*(args.rules or (TEXT_RULES if name in transformer_cases.CASES else RULES))]
            if args.peers:
                rules += [peer for peer in peers() if peer.split(" ", 1)[1] in rules]
            for batch in args.batch:
                show(compared(name, rules, args.weights, batch, pairs), kept)
    if "record" in args.case:
        for name in [n for n in args.case if n in CASES] or CASES:
            show(recorded(name, pairs), kept)
    if "long-context" in args.case:
        show(long_context(), kept)
    if "chain" in args.case:
        sizes = chains.SIZES[:3] if args.quick else chains.SIZES
        chains.with_large_stack(lambda: show(chains.chains(sizes, pairs), kept))
    if args.markdown:
        write_page(args.markdown, list(page(kept.results)))


if __name__ == "__main__":
    main()
