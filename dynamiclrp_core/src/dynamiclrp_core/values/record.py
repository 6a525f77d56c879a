"""``record()``: keep what autograd drops for good (scalars and untracked operands).

Note [Recording]
A dispatch mode sees every aten call, also those inside C++ composites (attention, GRU). Autograd has
made the call's node just before, so the node's sequence number is ``_get_sequence_nr() - 1``. These
count per thread and a node does not know its thread, so a recording serves only the thread that made
it. An entry is used only if the node found under its number has the call's name: inner calls of a
custom Function or a reentrant checkpoint have no node of their own and must not match another. What
is kept is the operand itself, not a copy, so its version is kept too and checked when it is read.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import ModifiedInPlace
from ..node import kind
from .versions import Versions

# Calls of which autograd drops an operand or an argument that the forward needs.
_RECORDED = frozenset(
    """add sub rsub where masked_fill constant_pad_nd cat stack addmm baddbmm addbmm addmv addr addcmul
    addcdiv lerp convolution native_batch_norm native_group_norm masked_scatter
    index_fill index_put index_copy index_add scatter scatter_add select_scatter slice_scatter
    diagonal_scatter as_strided_scatter block_diag put _index_put_impl _unsafe_index_put
    _unsafe_masked_index _unsafe_masked_index_put_accumulate _native_batch_norm_legit
    _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update
    _convolution _slow_conv2d_forward slow_conv3d_forward slow_conv_dilated2d slow_conv_dilated3d
    slow_conv_transpose2d slow_conv_transpose3d _nnpack_spatial_convolution mkldnn_convolution
    cudnn_batch_norm miopen_batch_norm conv_depthwise3d _conv_depthwise2d
    threshold nan_to_num remainder fmod igamma igammac special_zeta round copy fill complex polar hypot ldexp
    copysign linalg_solve_ex _linalg_solve_ex linalg_solve_triangular cholesky_solve linalg_lstsq
    linalg_lu_solve _masked_softmax _unique2 fake_quantize_per_tensor_affine_cachemask
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams
    fake_quantize_per_channel_affine_cachemask""".split()
)
# Calls whose result nobody computes again: draws, and comparisons in place (others have no node).
_RESULTS = frozenset(
    """bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal normal_ poisson random_
    uniform_ _standard_gamma _standard_gamma_grad eq_ ge_ gt_ le_ lt_ ne_ embedding_renorm_""".split()
)
# In-place calls that save a clone of what they write over: its node is the latest when the call is seen.
_CLONES_FIRST = frozenset({"ThresholdBackward1"})
_KEPT_RECORDINGS = 8


def _sequence_number() -> int:
    """The number that this thread's next node gets."""
    number: int = torch._C._autograd._get_sequence_nr()
    return number


class _Versioned:
    """A tensor and the version it had in the forward."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.version = None if tensor.is_inference() else tensor._version

    @property
    def changed(self) -> bool:
        return self.version is not None and self.version != self.tensor._version


class Recording:
    """What one ``with record()`` block kept, keyed by autograd's sequence number.

    The last eight recordings stay alive by themselves, older ones as long as you hold them
    (``with record() as kept``). ``kept.clear()`` frees at once.
    """

    def __init__(self) -> None:
        self.first = _sequence_number()
        self.last: int | None = None
        self._calls: dict[int, tuple[str, dict[str, Any]]] = {}
        self.versions = Versions()

    def keep(self, name: str, arguments: dict[str, Any]) -> None:
        """Keep a call's untracked arguments, under the number of the node just made."""
        self._calls.setdefault(_sequence_number() - 1, (name, arguments))

    def version(self, leaf: Tensor, node: Node) -> int | None:
        """The version ``leaf`` had when ``node`` read it, if that was seen."""
        return self.versions.of(leaf) if self.saw(node) else None

    def saw(self, node: Node) -> bool:
        """Whether ``node`` was made inside the block."""
        number = node._sequence_nr()
        return number >= self.first and (self.last is None or number < self.last)

    def argument(self, node: Node, name: str) -> Any:
        """Argument ``name`` of the call that made ``node``; None if it was not kept."""
        entry = self._call(node)
        if entry is None:
            return None
        value = entry[1].get(name)
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, _Versioned) and part.changed:
                raise ModifiedInPlace(
                    f"{kind(node)}: its constant {name!r} (shape {tuple(part.tensor.shape)}), which "
                    "record() holds, was changed in place after the forward.\n"
                    "  cure: run the forward again, or write out of place"
                )
        if isinstance(value, list):
            return [v.tensor if isinstance(v, _Versioned) else v for v in value]
        return value.tensor if isinstance(value, _Versioned) else value

    def _call(self, node: Node) -> tuple[str, dict[str, Any]] | None:
        name, number = kind(node), node._sequence_nr()
        if name == "CopySlices":  # made right after the node of the write that it wraps
            entry = self._calls.get(number - 1)
            return entry if entry is not None and entry[0] in ("Copy", "Add", "Fill") else None
        entry = self._calls.get(number + (name in _CLONES_FIRST))
        return entry if entry is not None and name.startswith(entry[0] + "Backward") else None

    def name(self, node: Node) -> str | None:
        """Name of the call that made ``node``."""
        entry = self._call(node)
        return None if entry is None else entry[0]

    def lacks(self, node: Node, name: str) -> bool:
        """Whether the call that made ``node`` had None for ``name``."""
        entry = self._call(node)
        return entry is not None and name in entry[1] and entry[1][name] is None

    def clear(self) -> None:
        """Drop everything kept."""
        self._calls.clear()

    def __len__(self) -> int:
        return len(self._calls)


class _Own(threading.local):
    """The recordings of this thread. Sequence numbers count per thread, so no other may read them."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Recording] = weakref.WeakSet()
        self.latest: deque[Recording] = deque(maxlen=_KEPT_RECORDINGS)


_own = _Own()


def recordings() -> list[Recording]:
    """All recordings of this thread that are still alive."""
    return list(_own.alive)


def written_since(leaf: Tensor, readers: Iterable[Node]) -> bool | None:
    """Whether ``leaf`` was written to after ``readers`` read it; None where no recording saw them do it.

    A tensor of version 0 was never written to. (What goes through ``.data`` has no version.)
    """
    if not leaf.is_inference() and not leaf._version:
        return False
    seen = {v for r in recordings() for node in readers if (v := r.version(leaf, node)) is not None}
    return leaf._version not in seen if seen else None


class _Plan(NamedTuple):
    """What to keep of one aten function: its node's name, its arguments, the one it writes to."""

    name: str
    arguments: tuple[str, ...]
    defaults: dict[str, Any]
    written: str | None
    overwritten: bool
    result: bool


@cache
def _plan(func: Any) -> _Plan | None:
    if not hasattr(func, "_schema"):
        return None  # a higher-order operator, such as flex_attention
    full = func._schema.name.removeprefix("aten::")
    name = full.rstrip("_")
    result = full in _RESULTS
    if not result and name not in _RECORDED and not name.startswith("_foreach_"):
        return None
    camel = "".join(part[:1].upper() + part[1:] for part in name.removesuffix("_forward").split("_"))
    camel = re.sub(r"\d[a-z]", lambda found: found[0].upper(), camel)  # slow_conv2d: SlowConv2D
    written = "self" if full != name else None
    arguments = tuple(a.name for a in func._schema.arguments)
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    return _Plan(camel, arguments, defaults, written, result or name in ("copy", "fill"), result)


class _Mode(TorchDispatchMode):
    supports_higher_order_operators = True

    @classmethod
    def is_infra_mode(cls) -> bool:
        """It changes nothing, so that torch.compile, which flex_attention calls, may run in it."""
        return True

    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recording = recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        grad = torch.is_grad_enabled()
        writes = func.__name__.partition(".")[0].endswith("_")
        # A parameter is initialised by writes without grad: they read nothing of what it was.
        self._recording.versions.watch(args[1:] if writes and not grad else args, grad)
        plan = _plan(func) if grad else None
        kept = None if plan is None else self._keep(plan, args, kwargs or {})
        made = func(*args, **(kwargs or {}))
        if plan is not None and plan.result and kept is not None:
            kept["result"] = made.clone()
        return made

    def _keep(self, plan: _Plan, args: Any, kwargs: Any) -> dict[str, Any] | None:
        tracked = False
        kept: dict[str, Any] = dict(plan.defaults)
        for name, value in [*zip(plan.arguments, args), *kwargs.items()]:
            if isinstance(value, Tensor):
                if not value.requires_grad:
                    if name != plan.written:
                        kept[name] = _Versioned(value)
                    elif not plan.overwritten:  # the call is about to change it
                        kept[name] = _Versioned(value.clone())
                else:
                    tracked = True
            elif isinstance(value, list) and any(isinstance(v, Tensor) for v in value):
                tracked |= any(isinstance(v, Tensor) and v.requires_grad for v in value)
                kept[name] = [
                    v if not isinstance(v, Tensor) else None if v.requires_grad else _Versioned(v)
                    for v in value
                ]
            else:
                kept[name] = value
        if tracked:
            self._recording.keep(plan.name, kept)
        return kept if tracked else None


@contextmanager
def recorded() -> Iterator[Recording]:
    """``record()``, but kept only as long as the recording is held."""
    recording = Recording()
    _own.alive.add(recording)
    try:
        with _Mode(recording):
            yield recording
    finally:
        recording.last = _sequence_number()


class record:
    """Context manager around a forward: keeps the operands that autograd drops for good.

    Needed only by rules that ask for values, for constants added without grad (``x + mask``,
    ``var + eps``, frozen biases). Changes no result; about 10 microseconds per recorded call.

    >>> with record():
    ...     y = model(x)
    >>> run = propagate(y, x, rules="dynamiclrp")
    """

    def __init__(self) -> None:
        self.recording = Recording()
        self._mode = _Mode(self.recording)

    def __enter__(self) -> Recording:
        _own.alive.add(self.recording)
        _own.latest.append(self.recording)
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self.recording

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._mode.__exit__(exc_type, exc, traceback)  # type: ignore[no-untyped-call]
        self.recording.last = _sequence_number()
