"""``dynamiclrp rules coverage``: which nodes of a model have a rule, and which values the rules can have."""

from __future__ import annotations

import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves

from .. import api
from ..arguments import inputs_of, seeds_of
from ..arrivals import Arrived
from ..captum_like import LRP
from ..engine import Sweep
from ..errors import DynamicLRPError, InvalidInput, Unrecoverable
from ..graph import Graph
from ..node import address, inside_backward, kind
from ..refusal import refusal
from ..table import Rules
from ..values.record import record
from ..values.statistics import Promises
from .listing import Record

Forward = Callable[[], tuple[Tensor, Sequence[Tensor] | None]]
"""Gives the tensor to explain, and in terms of what (None: ``propagate`` finds it)."""

MOST_WEIGHTS = 2**28
"""A config of more is built on the meta device: its nodes are seen, its values never are."""


@dataclass(frozen=True)
class Lost:
    """A value that a rule asks for and that the forward did not keep."""

    node: str
    position: int
    what: str
    cured: bool
    """Whether ``record()`` around the forward cures it."""


@dataclass(frozen=True)
class Survey:
    """What ``survey`` found. ``promises`` is None and ``lost`` empty where relevance cannot be passed."""

    coverage: api.Coverage
    refused: dict[str, str]
    promises: Promises | None
    lost: list[Lost]
    note: str = ""

    @property
    def complete(self) -> bool:
        """Whether every node has a rule, and every value can be had, with ``record()`` at least."""
        return not self.coverage.missing and all(lost.cured for lost in self.lost)

    def nodes(self) -> list[Record]:
        """A record per node type, those without a rule first."""
        refused = {node: f"refused: {why}" for node, why in self.refused.items()}
        both = (("missing", self.coverage.missing), ("covered", self.coverage.covered))
        return [
            {"node": node, "nodes": count, "rule": refused.get(node, state)}
            for state, counts in both
            for node, count in sorted(counts.items())
        ]

    def statistics(self) -> list[Record]:
        """The promises, if they could be counted."""
        return [] if self.promises is None else [{**vars(self.promises), "density": self.promises.density}]

    def values(self) -> list[Record]:
        """A record per lost value."""
        told = {True: "cures it", False: "does not"}
        return [
            {"node": v.node, "position": v.position, "value": v.what, "record()": told[v.cured]}
            for v in self.lost
        ]

    def as_dict(self) -> Record:
        """All of it, for JSON."""
        return {
            "fraction": self.coverage.fraction,
            **asdict(self.coverage),
            "refused": self.refused,
            "promises": next(iter(self.statistics()), None),
            "unrecoverable": [asdict(v) for v in self.lost],
            "complete": self.complete,
            "note": self.note,
        }


def survey(forward: Forward, rules: Rules) -> Survey:
    """Run the model's forward without and with ``record()``, and the rules on both graphs.

    Raises what the forward raises, InvalidInput where there is nothing to explain, and errors of rules.
    """
    with torch.enable_grad():
        y, inputs = forward()
    coverage = api.coverage(y, rules, inputs)
    refused = {n: why for n in coverage.missing if n in rules and (why := refusal(rules[n]))}
    if coverage.missing:
        note = "values are looked for only when every node has a rule"
        return Survey(coverage, refused, None, [], note)
    if y.is_meta:
        note = f"more than {MOST_WEIGHTS:,} weights: built on the meta device, which has nodes but no values"
        return Survey(coverage, refused, None, [], note)
    without = _swept(y, inputs, rules)
    del y, inputs
    with torch.enable_grad(), record():
        y, inputs = forward()
    recorded = _swept(y, inputs, rules)
    still = {position for position, _, _ in recorded.lost}
    lost = [Lost(node, at, what, at not in still) for at, node, what in without.lost]
    return Survey(coverage, refused, recorded.values.stats, lost)


def _swept(y: Tensor, inputs: Sequence[Tensor] | None, rules: Rules) -> _DrySweep:
    graph = Graph([address(y)])
    wanted, tensors = inputs_of(inputs, graph, "inputs")
    known = {a: t for a, t in zip(wanted, tensors) if t is not None} | {address(y): y}
    sweep = _DrySweep(graph, wanted, (), rules, known)
    seeds = seeds_of([y], None, None, False)
    with torch.no_grad(), torch.inference_mode(False):
        inside_backward(lambda: sweep.run(seeds))
    return sweep


class _DrySweep(Sweep):
    """Goes on with zeros where a value is lost, to find all of them. Its numbers mean nothing."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.lost: list[tuple[int, str, str]] = []

    def _step(self, node: Node, c: Arrived, r: Arrived | None) -> None:
        try:
            super()._step(node, c, r)
        except Unrecoverable as error:
            self.lost.append((self.graph.position[node], kind(node), str(error).splitlines()[0]))
            for edge in self.graph.edges[node]:
                if edge in self.wanted and edge[0] is not None:
                    to = edge[0]._input_metadata[edge[1]]
                    self.arrivals.add(edge, torch.zeros(tuple(to.shape), dtype=to.dtype, device=to.device))


# -- what to survey ----------------------------------------------------------------------------------------


def load(source: str, layer: str | None = None) -> Forward:
    """The forward of ``MODULE:FACTORY``, ``SCRIPT.py:FACTORY``, a transformers folder or its config.json.

    A factory gives (model, example inputs as a tuple) or an output tensor; ``layer`` names the submodule
    whose output is explained. A config gives its model with random weights.

    Raises ImportError, AttributeError, OSError or ValueError for what is not there.
    """
    path = Path(source)
    if path.name == "config.json" or (path / "config.json").is_file():
        return _of_config(path, layer)
    script, _, name = source.rpartition(":")
    if script.endswith(".py"):
        sys.path.insert(0, str(Path(script).parent))
        spec = importlib.util.spec_from_file_location(Path(script).stem, script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        make = getattr(module, name)
    else:
        sys.path.insert(0, "")
        make = pkgutil.resolve_name(source)
    return _of_factory(make, layer)


def _of_factory(make: Callable[[], Any], layer: str | None) -> Forward:
    made = make()
    if isinstance(made, Tensor):
        first = [made]
        return lambda: (first.pop() if first else make(), None)  # an output made anew has its own graph
    model, examples = made

    def forward() -> tuple[Tensor, Sequence[Tensor] | None]:
        if layer is not None:
            through = LRP(model, layer=model.get_submodule(layer))._through_layer
            return through(tuple(examples), (), _first_tensor)
        leaves = [
            x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
            for x in examples
        ]
        return _first_tensor(model(*leaves)), None

    return forward


def _of_config(path: Path, layer: str | None) -> Forward:
    """A transformers model with random weights on an example of its main input."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    built_for = getattr(transformers, (config.architectures or ["AutoModel"])[0], transformers.AutoModel)
    build = getattr(built_for, "_from_config", None) or built_for.from_config
    with torch.device("meta"):
        model: Any = build(config).eval()
    weights = sum(p.numel() for p in model.parameters())
    device = "meta" if weights > MOST_WEIGHTS else "cpu"
    if device == "cpu":
        model = build(config).eval()
    if model.main_input_name == "pixel_values":
        size = config.image_size
        size = tuple(size) if isinstance(size, list | tuple) else (size, size)
        pixels = torch.randn(1, config.num_channels, *size, device=device)
        return _of_factory(lambda: (model, (pixels,)), layer)
    if model.main_input_name != "input_ids":
        raise InvalidInput(
            f"no example is known for {model.main_input_name!r}, what {type(model).__name__} takes.\n"
            "  cure: a factory in a script of yours that gives (model, inputs): coverage script.py:factory"
        )
    given = {name: t.to(device) for name, t in model.dummy_inputs.items() if isinstance(t, Tensor)}
    words = model.get_submodule(layer) if layer else _word_embeddings(model)
    through = LRP(partial(model, **given), layer=words)._through_layer
    return lambda: through((), (), _first_tensor)


def _word_embeddings(model: Any) -> list[torch.nn.Module]:
    """The module that embeds token ids; of an encoder-decoder those of both sides, which may be one."""
    if not model.config.is_encoder_decoder:
        return [model.get_input_embeddings()]
    sides = [model.get_encoder(), model.get_decoder()]
    return list(dict.fromkeys(side.get_input_embeddings() for side in sides))


def _first_tensor(output: Any) -> Tensor:
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            return leaf
    raise DynamicLRPError(f"the model gave a {type(output).__name__} without a tensor in it")


__all__ = ["Lost", "Survey", "load", "survey"]
