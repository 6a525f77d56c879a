"""Rules for a part of a model, named as the model names its parameters and modules.

A node does not know its module. It does know the parameters it computed with: its edges lead to them
through views and casts, and where a parameter is frozen, so that there is no edge, the node saved a
tensor that lies in the parameter's memory. That holds for functional calls and shared layers alike.

An op without parameters (softmax, a product of two) belongs to the modules that hold all the layers that feed
it: attention to the module of its projections.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from weakref import ref

from torch import Tensor, nn
from torch.autograd.graph import Node

from ..engine import Sweep
from ..errors import BadRule
from ..node import leaf
from ..op import Op
from ..rule import Matcher


def matcher_of(when: Matcher | str | type[nn.Module], model: nn.Module | None) -> Matcher:
    """The matcher that ``Rules.where`` is given, or that of a name or a class of modules of ``model``.

    Raises BadRule for what is none of these, or without the model that names and classes need.
    """
    if isinstance(when, str | type):
        if model is None:
            raise BadRule(f"where({when!r}, ...): names and classes belong to a model: add model=model")
        return named(when, model) if isinstance(when, str) else of_class(when, model)
    if isinstance(when, nn.Module) or not callable(when):
        what = type(when).__name__
        raise BadRule(
            f"where(): {what} is no name, class or function of an op.\n"
            '  cure: the module\'s name, where("layer1.0", ..., model=model)'
        )
    return when


def named(glob: str, model: nn.Module) -> Matcher:
    """Matcher: ops that compute with a parameter or buffer whose name, or whose module's, fits ``glob``.

    ``features.0`` and ``features.0.*`` are the ops of that module, ``*.query.weight`` those that read such
    a parameter; ``*`` matches dots too, ``[ab]`` and ``?`` as in a shell. Ops without parameters have the
    names of modules that hold more than one layer, all that feed them included (nearest, by live
    operands): attention weights that of their block, a residual sum that of the stack of blocks.

    Raises BadRule where nothing in ``model`` is named so, with names that are near.
    """
    names = {name for full in _tensors(model) for name in _with_modules(full)}
    if not any(fnmatchcase(name, glob) for name in names):
        near = difflib.get_close_matches(glob.replace("*", "").rstrip("."), names, 3, 0.4)
        raise BadRule(
            f"where({glob!r}): {type(model).__name__} has no parameter and no module with parameters of "
            f"that name" + (f"; near it: {', '.join(sorted(near))}" if near else "")
        )
    return _matcher(glob, model, lambda name: fnmatchcase(name, glob))


def of_class(cls: type, model: nn.Module) -> Matcher:
    """Matcher: the ops of the modules of class ``cls``, told as by ``named``.

    Raises BadRule where ``model`` has no such module, or none of them has a parameter to tell it by.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {name for name, module in modules.items() if isinstance(module, cls)}
    if not any(found.intersection(_with_modules(full)) for full in _tensors(model)):
        owners = {full.rpartition(".")[0] for full in _tensors(model)}
        known = {type(m).__name__ for name, m in modules.items() if name in owners}
        raise BadRule(
            f"where({cls.__name__}): {type(model).__name__} has no {cls.__name__} with parameters, by which "
            f"its ops are told; it has: {', '.join(sorted(known)) or 'none'}.\n"
            "  cure: for ops without parameters their node type, override(ReluBackward0=...)"
        )
    return _matcher(cls.__name__, model, found.__contains__)


def _matcher(title: str, model: nn.Module, fits: Callable[[str], bool]) -> Matcher:
    known = ref(model)

    def matcher(op: Op) -> bool:
        return any(fits(name) for name in _names(op, known()))

    matcher.__name__ = title
    return matcher


def _with_modules(name: str) -> list[str]:
    """``a.b.weight``, ``a.b``, ``a``."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    made: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    return made | dict(model.named_buffers(remove_duplicate=False))


class _Names:
    """The tensors of a model by memory, for one run: a model may be moved between runs."""

    def __init__(self, model: nn.Module) -> None:
        self.tensors = _tensors(model)
        self.of_node: dict[Node, frozenset[str]] = {}
        self.holding: dict[Node, frozenset[str]] = {}
        self.by_storage: dict[int, list[str]] = {}
        self.by_size: dict[int, list[str]] = {}
        for name, t in self.tensors.items():
            self.by_storage.setdefault(t.untyped_storage().data_ptr(), []).append(name)
            self.by_size.setdefault(t.numel(), []).append(name)

    def of(self, t: Tensor) -> list[str]:
        """Names of the tensors in whose memory ``t`` lies, or of which it is a copy in lower precision."""
        if not t.numel():
            return []
        here = t.data_ptr()
        found = []
        for name in self.by_storage.get(t.untyped_storage().data_ptr(), ()):
            start = self.tensors[name].data_ptr()
            if start <= here < start + self.tensors[name].nbytes:
                found.append(name)
        if found or t.dtype.itemsize != 2:
            return found
        return [name for name in self.by_size.get(t.numel(), ()) if _is_cast(t, self.tensors[name])]


def _names_in(sweep: Sweep, model: nn.Module) -> _Names:
    return _Names(model)


def _is_cast(t: Tensor, of: Tensor) -> bool:
    # Autocast makes a copy of a frozen weight that nothing links to it but its entries.
    if of.dtype == t.dtype or of.device != t.device:
        return False
    cast = of.detach().to(t.dtype)
    return any(v.shape == t.shape and bool(v.equal(t)) for v in (cast, cast.mT if cast.dim() == 2 else cast))


def _names(op: Op, model: nn.Module | None) -> frozenset[str]:
    """Names of the parameters that ``op`` computed with and of their modules, or of those it is in."""
    if model is None:
        raise BadRule("where(..., model=model): the model is gone; keep it as long as the rules")
    names = op.sweep.once(_names_in, model)
    own = _own(op, names)
    return frozenset(name for full in own for name in _with_modules(full)) or _holding(op, names)


def _own(op: Op, names: _Names) -> frozenset[str]:
    """Full names of the parameters that ``op`` computed with."""
    found = names.of_node.get(op.node)
    if found is None:
        found = names.of_node[op.node] = frozenset(name for t in _parameters(op) for name in names.of(t))
    return found


def _holding(op: Op, names: _Names) -> frozenset[str]:
    """Modules that hold the nearest layers that feed ``op``, all of them; with and without a dot behind."""
    known, sweep = names.holding, op.sweep
    stack = [op.node]
    while stack:
        at = sweep.op(stack[-1])
        own = frozenset[str]() if at is None else _own(at, names)
        feeding = [] if at is None or own else [e for e, live in zip(at.edges, at.live) if live]
        below = [None if e in sweep.live.targets else e[0] for e in feeding]
        waiting = [n for n in below if n is not None and n not in known]
        if waiting:
            stack += waiting
        elif own:  # without the parameter itself and the module that it is a parameter of
            known[stack.pop()] = frozenset(
                n + dot for f in own for n in _with_modules(f)[2:] for dot in ("", ".")
            )
        else:
            held = [frozenset[str]() if n is None else known[n] for n in below]
            known[stack.pop()] = frozenset.intersection(*held) if held else frozenset()
    return known[op.node]


def _parameters(op: Op) -> list[Tensor]:
    """Tensors that may be parameters: leaves behind views and casts, and what the node saved."""
    sweep, made = op.sweep, []
    for i, edge in enumerate(sweep.graph.edges[op.node]):
        if edge in sweep.live:
            continue
        kept = op.kept(i)
        if kept is not None:
            made.append(kept)
        node = edge[0]
        while node is not None:
            variable = leaf(node)
            if variable is not None:
                made.append(variable)
                break
            known, below = sweep.kind(node), sweep.graph.edges[node]
            if known is None or len(below) != 1 or not (known.row.family == "moving" or known.row.copies):
                break
            node = below[0][0]
    for field in _buffers(type(op.node)):
        value = getattr(op.saved, field)
        if isinstance(value, Tensor):
            made.append(value)
    return made


@cache
def _buffers(kind: type[Node]) -> tuple[str, ...]:
    """Running statistics: all that names a batch norm without weights."""
    return tuple(f for f in ("running_mean",) if hasattr(kind, "_saved_" + f))
