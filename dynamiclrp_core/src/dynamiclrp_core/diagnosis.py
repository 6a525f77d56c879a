"""What went wrong, and where: errors that name node, path, cause and cure; one node's own books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch.autograd.graph import Node

from .errors import BadRule, FreedGraph, MissingRule, ModifiedInPlace, NonFinite, Unrecoverable
from .ledger import total
from .node import Address, kind, metadata
from .numerics import dot, fit
from .op import Op, Receivers
from .rule import Entries, Value

if TYPE_CHECKING:
    from .arrivals import Arrived
    from .engine import Sweep

AMPLIFIED = 1e3


def missing_rule(sweep: Sweep, node: Node, why: str) -> MissingRule:
    path = sweep.graph.path(node)
    shown = " -> ".join(kind(n) for n in path[-6:])
    packs = ", ".join(sweep.rules.packs) or "none"
    name = kind(node)
    return MissingRule(
        f"{name}: {why} (node {sweep.graph.position[node]} of {len(sweep.graph.order)}, "
        f"output shape {tuple(metadata(node)[0].shape)})\n"
        f"  reached from the output through: {shown}\n"
        f"  packs loaded: {packs} ({len(sweep.rules)} rows)\n"
        f"  cure: rules | Rules.of(elementwise({name!r}, forward=lambda op, x: ...)), or the family "
        "that fits\n  (linear, moving, homogeneous, ... in dynamiclrp_core.families; see CONTRIBUTING.md)\n"
        '  or choose explicitly: on_missing="pass" (relevance goes on unchanged) or "stop"'
    )


def translated(sweep: Sweep, error: RuntimeError, node: Node) -> Exception:
    text = str(error)
    where = f"{kind(node)} (output shape {tuple(metadata(node)[0].shape)})"
    if "backward through the graph a second time" in text or "already been freed" in text:
        return FreedGraph(
            f"{where}: the graph was freed by an earlier backward.\n"
            "  cure: explain before y.backward(), or call y.backward(retain_graph=True)"
        )
    if "modified by an inplace operation" in text:
        return ModifiedInPlace(
            f"{where}: a tensor it saved was changed in place after the forward.\n"
            f"  cure: run the forward again, or write out of place. torch says: {text}"
        )
    head, *_ = text.splitlines() or [""]
    if "sparse" in head.lower() or "_nnz" in head:
        return MissingRule(
            f"{where}: its rule is written for dense tensors, and one here is sparse.\n"
            f"  cure: call to_dense() before it. torch says: {head}"
        )
    if isinstance(error, NotImplementedError):
        return error
    path = " -> ".join(kind(n) for n in sweep.graph.path(node)[-6:])
    return BadRule(f"the rule of {where} failed: {text}\n  reached through: {path}")


def located(sweep: Sweep, error: Unrecoverable) -> Unrecoverable:
    if error.position < 0:
        return error
    path = " -> ".join(kind(n) for n in sweep.graph.path(sweep.graph.order[error.position])[-6:])
    head, _, cure = str(error).partition("\n")
    return Unrecoverable(f"{head}\n  reached from the output through: {path}\n{cure}")


Sent = tuple[Receivers, Entries]
"""What a rule made of one of the two forms, and where it went."""


def check_finite(sweep: Sweep, op: Op, sent: Sequence[Sent]) -> None:
    for to, entries in sent:
        for i, entry in enumerate(entries):
            t = entry.relevance if isinstance(entry, Value) else entry
            if t is not None and to.wanted[i] and not bool(torch.isfinite(t).all()):
                path = " -> ".join(kind(n) for n in sweep.graph.path(op.node)[-6:])
                raise NonFinite(
                    f"{kind(op.node)} is the first node whose rule gives NaN or inf, for operand "
                    f"{i} ({op.row.name_of(i)}).\n  reached through: {path}\n"
                    "  cure: check the forward for inf, or use a rule with a larger epsilon"
                )


def balance(sweep: Sweep, op: Op, c: Arrived, r: Arrived | None, sent: Sequence[Sent], booked: int) -> None:
    """Balance one node's own books, where the values to do so can be had."""
    ledger = sweep.ledger
    assert ledger is not None
    try:
        arrived = 0.0
        size = 0.0
        for nr, ci in enumerate(c):
            ri = None if r is None else r[nr]
            if ci is not None:
                value = sweep.values.output(op, nr)
                arrived += float(dot(value, ci))
                size += float(dot(value.abs(), ci.abs()))
            if ri is not None:
                arrived += total(ri)
                size += float(ri.abs().sum(dtype=torch.float64))
        gone = 0.0
        for to, entries in sent:
            for i, entry in enumerate(entries):
                if entry is None or not to.live[i]:
                    continue
                if isinstance(entry, Value):
                    gone += total(entry.relevance)
                    size += float(entry.relevance.abs().sum(dtype=torch.float64))
                    continue
                value = sweep.values.edge(Address(*cast(Address, to.edges[i])))
                fitted = fit(entry, value.shape, entry.dtype)
                gone += float(dot(value, fitted))
                size += float(dot(value.abs(), fitted.abs()))
    except Unrecoverable:
        return
    absorbed = sum(float(amount) for *_, amount in ledger.entries[booked:])
    where = (kind(op.node), sweep.graph.position[op.node])
    ledger.residues[where] = arrived - gone - absorbed
    ledger.scale += size
    if ledger.amplified_at is None and size > AMPLIFIED * max(ledger.seed_abs, 1e-300):
        ledger.amplified_at = f"{kind(op.node)} (output shape {tuple(op.shape)})"
