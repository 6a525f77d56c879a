"""Reading autograd nodes. Everything torch-specific about a node's Python face stands here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.autograd.variable import Variable
from torch.utils.checkpoint import CheckpointError

T = TypeVar("T")
Edge = tuple[Node | None, int]
_functions: Any = torch._C._functions
CHECKPOINT = "torch.utils.checkpoint"


class Address(NamedTuple):
    """A tensor of the graph: output number ``output`` of ``node``."""

    node: Node
    output: int


def address(tensor: Tensor) -> Address:
    """Where ``tensor`` stands in the graph. A leaf stands at its AccumulateGrad node."""
    if tensor.grad_fn is not None:
        return Address(tensor.grad_fn, tensor.output_nr)
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


INTEGERS = (int, tuple)


def signed(value: Any) -> Any:
    """Undo the unsigned reading of integer fields (dim -1 reads as 2**64 - 1), also in tuples."""
    if type(value) is int:
        return value - 2**64 if value >= 2**63 else value
    if type(value) is tuple:
        return tuple(signed(v) for v in value)
    return value


def saved(node: Node, name: str) -> Any:
    """Field ``_saved_<name>`` of ``node``, integers signed. Raises AttributeError if there is none."""
    value = getattr(node, "_saved_" + name)
    return signed(value) if type(value) in INTEGERS else value


def packing(node: Node, name: str) -> str:
    """Who holds the field: "" the node itself, "checkpoint" a non-reentrant one, "hook" another hook."""
    raw = getattr(node, "_raw_saved_" + name, None)
    held = None if raw is None else raw.data
    if held is None or isinstance(held, Tensor):
        return ""
    return "checkpoint" if type(held).__module__ == CHECKPOINT else "hook"


def function_tensors(node: Node) -> tuple[Any, ...]:
    """What a custom Function saved; anew where a checkpoint has handed it out before (Note [Checkpoints])."""
    function: Any = node
    try:
        return cast("tuple[Any, ...]", function.saved_tensors)
    except CheckpointError:
        return inside_backward(lambda: function.saved_tensors)


def modified_since(node: Node, t: Tensor) -> bool | None:
    """Whether torch says that ``t``, which ``node`` saved, was written to since. None if it saved another."""
    told = None
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            try:
                held = getattr(node, name).data
                if isinstance(held, Tensor) and held.data_ptr() == t.data_ptr():
                    getattr(node, name.removeprefix("_raw"))
                    told = False
            except (RuntimeError, AttributeError) as error:
                if "modified by an inplace operation" in str(error):
                    return True
    return told


def metadata(node: Node) -> Sequence[Any]:
    """Shape, dtype and device of each forward output of ``node``."""
    return cast(Sequence[Any], node._input_metadata)


def leaf(node: Node) -> Tensor | None:
    """The leaf an AccumulateGrad node stands for; None for any other node."""
    # The context of a custom Function may have an attribute of that name too.
    held: Any = node
    return held.variable if type(node) is _functions.AccumulateGrad else None


class _Backward(threading.local):
    """A graph of one node per thread, and what its backward is to do: a stack, for a run within a run."""

    def __init__(self) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            self.end = torch.zeros((), requires_grad=True, device="cpu").view(())
            self.one = torch.ones((), device="cpu")
        self.todo: list[Callable[[], None]] = []
        todo = self.todo
        self.end.register_hook(lambda _: todo[-1]())


_backward = _Backward()


def inside_backward(f: Callable[[], T]) -> T:
    """Run ``f`` inside a small backward of its own.

    Note [Checkpoints]
    Outside of a running backward a non-reentrant checkpoint re-runs its region for every saved field
    that is read; inside one it re-runs once, but hands out each field once only. So the sweep is one
    backward, and the resolver's scan, which reads the same fields, another: one re-run per region
    under coefficient rules, two under rules that ask for values. A backward of our own, and not the
    model's, so that the user's backward still works afterwards.
    """
    box: list[T] = []
    mine = _backward
    mine.todo.append(lambda: box.append(f()))
    try:
        # torch.autograd.backward(end) at a third of its price. Not autograd.grad(end, start): naming
        # inputs makes every node called inside skip its outputs.
        Variable._execution_engine.run_backward(
            (mine.end,), (mine.one,), True, False, (), allow_unreachable=True, accumulate_grad=True
        )
    finally:
        mine.todo.pop()
    return box[0]
