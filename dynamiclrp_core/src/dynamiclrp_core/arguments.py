"""Checking what users pass: outputs, inputs, seeds. Errors say what to pass instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import (
    DynamicLRPError,
    InvalidInput,
    InvalidSeed,
    ModifiedInPlace,
    NoGraph,
    UnreachableInput,
)
from .graph import Graph
from .node import Address, address, kind, leaf, metadata, modified_since
from .numerics import raised
from .packs.plugins import preset
from .rule import Value
from .table import Rules
from .values.record import written_since
from .values.statistics import ASSUMED

Tensors = Tensor | Sequence[Tensor]


def is_empty(tensors: Tensors) -> bool:
    return isinstance(tensors, Sequence) and len(tensors) == 0


def _listed(given: Any, name: str, error: type[DynamicLRPError]) -> list[Any]:
    if isinstance(given, Tensor):
        return [given]
    if not isinstance(given, Iterable):
        raise error(
            f"{name} is a {type(given).__name__}, not a tensor or a sequence of tensors.\n"
            f"  cure: {name}=tensor, or a tuple of them"
        )
    return list(given)


def outputs_of(outputs: Tensors) -> list[Tensor]:
    given = _listed(outputs, "outputs", NoGraph)
    if not given:
        raise NoGraph("outputs is empty.\n  cure: pass at least one tensor")
    for i, y in enumerate(given):
        if not isinstance(y, Tensor):
            raise NoGraph(
                f"output {i} is a {type(y).__name__}, not a tensor.\n  cure: pick one, e.g. out.logits"
            )
        if not y.requires_grad:
            cause = (
                "it was computed in inference mode"
                if y.is_inference()
                else "it was computed under no_grad, detached, or from tensors without grad"
            )
            raise NoGraph(
                f"output {i} (shape {tuple(y.shape)}) has no grad_fn: {cause}.\n"
                "  cure: run the forward with grad enabled on an input with x.requires_grad_()"
            )
    return given


def inputs_of(inputs: Tensors | None, graph: Graph, name: str) -> tuple[list[Address], list[Tensor | None]]:
    if inputs is None:
        return _found_inputs(graph)
    given = _listed(inputs, name, InvalidInput)
    if not given:
        raise InvalidInput(f"{name} is empty.\n  cure: pass the tensors to explain, or None")
    for i, x in enumerate(given):
        if not isinstance(x, Tensor):
            raise InvalidInput(
                f"{name}[{i}] is a {type(x).__name__}, not a tensor.\n"
                "  cure: pass tensors that the forward used, with x.requires_grad_() before it"
            )
        if x.layout != torch.strided and x.grad_fn is None:
            raise InvalidInput(
                f"{name}[{i}] (shape {tuple(x.shape)}) is a leaf of layout {x.layout}: relevance belongs to "
                "entries, and a sparse tensor has only some.\n"
                "  cure: explain the dense x, and make the sparse one of it in the forward"
            )
        if not (x.is_floating_point() or x.is_complex()):
            raise InvalidInput(
                f"{name}[{i}] has dtype {x.dtype} (token ids?): relevance needs a tensor with a gradient."
                "\n  cure: LRP(model, layer=model.get_input_embeddings()), or inputs_embeds"
            )
        if name == "inputs" and isinstance(x, torch.nn.Parameter):
            raise InvalidInput(
                f"inputs[{i}] is a Parameter (shape {tuple(x.shape)}): it would change how products are "
                "shared.\n  cure: read it out with at=[parameter]"
            )
        if not x.requires_grad:
            raise InvalidInput(
                f"{name}[{i}] (shape {tuple(x.shape)}) does not require grad, so the graph does not reach "
                "it.\n  cure: x.requires_grad_() before the forward"
            )
    return [address(x) for x in given], list(given)


def _found_inputs(graph: Graph) -> tuple[list[Address], list[Tensor | None]]:
    leaves = [(n, v) for n in graph.order if (v := leaf(n)) is not None]
    data = [(n, v) for n, v in leaves if not isinstance(v, torch.nn.Parameter)]
    if data:
        return [Address(n, 0) for n, _ in data], [v for _, v in data]
    embeddings = [n for n in graph.order if kind(n) == "EmbeddingBackward0"]
    if len(embeddings) == 1:
        return [Address(embeddings[0], 0)], [None]
    shapes = "\n".join(
        f"    embedding output, shape {tuple(metadata(n)[0].shape)}" for n in embeddings
    ) or "\n".join(f"    parameter, shape {tuple(v.shape)}" for _, v in leaves[:8])
    raise InvalidInput(
        "inputs=None: no leaf but parameters, and not exactly one embedding. Candidates:\n"
        f"{shapes}\n  cure: propagate(y, inputs=x) with x.requires_grad_() set before the forward, or "
        "LRP(model, layer=...)"
    )


def must_reach(graph: Graph, name: str, wanted: Sequence[Address], tensors: Sequence[Tensor | None]) -> None:
    for i, (a, t) in enumerate(zip(wanted, tensors)):
        if not graph.reaches(a):
            shape = tuple(metadata(a.node)[a.output].shape) if t is None else tuple(t.shape)
            raise UnreachableInput(
                f"{name}[{i}] (shape {shape}, {kind(a.node)}) is not reached from the outputs: they do "
                "not depend on it, or it was detached or replaced (x = x.to(...)) before use.\n"
                "  cure: pass the tensor the forward used, or allow_unused=True for zeros"
            )


def must_be_unchanged(graph: Graph, wanted: Sequence[Address], tensors: Sequence[Tensor | None]) -> set[str]:
    """Raises ModifiedInPlace for a leaf that was written to after the forward, where anything can tell.

    Relevance is ``x * c`` with the x of the forward, and the caller's x is all there is. A version above 0
    is a reason to look: what ``record()`` saw, and what the nodes that read x saved of it. Returns notes
    on the leaves of which nothing tells.
    """
    notes = set()
    for i, (a, t) in enumerate(zip(wanted, tensors)):
        if t is None or t.grad_fn is not None or t.is_inference() or not t._version:
            continue
        readers = [n for n in graph.inner if any([child is a.node for child, _ in graph.edges[n]])]
        told = [written_since(t, readers), *[modified_since(n, t) for n in readers]]
        if True in told:
            raise ModifiedInPlace(
                f"input {i} (shape {tuple(t.shape)}) was changed in place after the forward.\n"
                "  cure: run the forward again, or write out of place"
            )
        if False not in told:
            notes.add(ASSUMED)
    return notes


def seeds_of(
    roots: Sequence[Tensor],
    given: Tensor | Sequence[Tensor | None] | None,
    dtype: torch.dtype | None,
    create_graph: bool,
) -> list[tuple[Address, Tensor | Value]]:
    seeds: list[Any] = [None] * len(roots)
    if given is not None:
        seeds = _listed(given, "output_relevance", InvalidSeed)
    if len(seeds) != len(roots):
        raise InvalidSeed(
            f"{len(seeds)} seeds for {len(roots)} outputs.\n  cure: pass one each, None for R = y"
        )
    made: list[tuple[Address, Tensor | Value]] = []
    for i, (y, seed) in enumerate(zip(roots, seeds)):
        if seed is None:
            one = 1 + 1j if y.is_complex() else 1  # a complex output: both of its parts
            made.append((address(y), torch.full_like(y, one, dtype=raised(y.dtype, dtype)).detach()))
            continue
        if not isinstance(seed, Tensor):
            raise InvalidSeed(
                f"output_relevance[{i}] is a {type(seed).__name__}, not a tensor.\n"
                "  cure: a tensor of the output's shape (zeros but for what you ask for), or None for R = y"
            )
        for what, of_seed, of_y in (
            ("shape", tuple(seed.shape), tuple(y.shape)),
            ("device", seed.device, y.device),
            ("layout", seed.layout, y.layout),
        ):
            if of_seed != of_y:
                raise InvalidSeed(
                    f"output_relevance[{i}] has {what} {of_seed}, its output {of_y}.\n"
                    "  cure: make it with torch.zeros_like(output)"
                )
        if not (seed.is_floating_point() or (seed.is_complex() and y.is_complex())):
            raise InvalidSeed(
                f"output_relevance[{i}] has dtype {seed.dtype}: relevance is a floating point number.\n"
                "  cure: seed.to(output.dtype)"
            )
        made.append((address(y), Value(seed if create_graph else seed.detach())))
    return made


def rules_of(rules: Rules | str) -> Rules:
    """The table that ``rules`` names."""
    if isinstance(rules, str):
        return preset(rules)
    if not isinstance(rules, Rules):
        raise TypeError(
            f"rules is a {type(rules).__name__}, not a preset's name or Rules.\n"
            '  cure: rules="default", or lrp.load_rules() | lrp.override(...)'
        )
    if rules.overrides and not rules.rows:
        raise TypeError(
            f"rules is {rules!r}: overrides, and nothing that they override.\n"
            "  cure: lrp.load_rules() | these, or a preset | these"
        )
    return rules


def check_settings(on_missing: str, dtype: torch.dtype | None) -> None:
    """Raises TypeError for what no run can be made with."""
    if on_missing not in ("error", "pass", "stop"):
        raise TypeError(f"on_missing={on_missing!r}.\n  cure: 'error', 'pass' or 'stop'")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype={dtype}: rules divide.\n  cure: a floating point dtype, or None")
