"""Reading autograd nodes. Everything torch-specific about a node's Python face stands here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

Edge = tuple[Node | None, int]
_AccumulateGrad: Any = torch._C._functions.AccumulateGrad


class Address(NamedTuple):
    """A tensor of the graph: output number ``output`` of ``node``."""

    node: Node
    output: int


def address(tensor: Tensor) -> Address:
    """Where ``tensor`` stands in the graph. A leaf stands at its AccumulateGrad node."""
    with torch.inference_mode(False):  # a leaf's node is found through a view of it
        edge = torch.autograd.graph.get_gradient_edge(tensor)
    return Address(edge.node, edge.output_nr)


def kind(node: Node) -> str:
    """The name rows are registered under.

    Generated nodes: ``MmBackward0``. Foreach nodes are all of Python type ``CppFunction``, so the
    C++ name decides. Custom ``autograd.Function``: ``module.QualName`` of the Function, because two
    libraries may well use one class name.
    """
    forward_cls = getattr(node, "_forward_cls", None)
    if forward_cls is not None:
        return f"{forward_cls.__module__}.{forward_cls.__qualname__}"
    return node.name().removeprefix("torch::autograd::")


def signed(value: Any) -> Any:
    """Undo the unsigned reading of integer fields (dim -1 reads as 2**64 - 1), also in tuples."""
    if type(value) is int:
        return value - 2**64 if value >= 2**63 else value
    if type(value) is tuple:
        return tuple(signed(v) for v in value)
    return value


def saved(node: Node, name: str) -> Any:
    """Field ``_saved_<name>`` of ``node``, integers signed. Raises AttributeError if there is none."""
    return signed(getattr(node, "_saved_" + name))


def is_packed(node: Node, name: str) -> bool:
    """Whether a saved-tensor hook (checkpoint, offloading) holds the field instead of a tensor."""
    raw = getattr(node, "_raw_saved_" + name, None)
    return raw is not None and not isinstance(raw.data, Tensor | type(None))


def metadata(node: Node) -> Sequence[Any]:
    """Shape, dtype and device of each forward output of ``node``."""
    return cast(Sequence[Any], node._input_metadata)


def leaf(node: Node) -> Tensor | None:
    """The leaf an AccumulateGrad node stands for; None for any other node."""
    # The context of a custom Function may have an attribute of that name too.
    return node.variable if type(node) is _AccumulateGrad else None
