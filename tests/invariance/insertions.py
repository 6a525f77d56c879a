"""Ops that change nothing, inserted after any call of a forward without touching it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

NOTHING: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda t: t,
    lambda t: t.clone(),
    lambda t: t.reshape(-1).view(t.shape),
    lambda t: t.unsqueeze(0).squeeze(0),
    lambda t: t[None][0],
    lambda t: t[...],
    lambda t: t.double().to(t.dtype),
    lambda t: t.expand_as(t),
    lambda t: t.flip(-1).flip(-1) if t.dim() else t.clone(),
    lambda t: t.roll(1, -1).roll(-1, -1) if t.dim() else t.clone(),
    lambda t: t.mT.contiguous().mT if t.dim() > 1 else t.clone(),
    lambda t: t.movedim(0, -1).movedim(-1, 0) if t.dim() else t.clone(),
    lambda t: t.contiguous().to(t.device, copy=True),
)


WRITES = ("__setitem__", "__set__", "__get__")  # and what a property reads is asked of the tensor itself


class Inserting(TorchFunctionMode):
    """Around any call, the k-th tensor in or out goes through ``NOTHING[choices[k % len(choices)]]``.

    So two uses of one tensor may be uses of two copies. A tensor that is written to goes in as it is.
    """

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__()
        self.choices = choices
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        writes = name in WRITES or (name.endswith("_") and name[-2:] != "__") or "inplace" in (kwargs or {})
        if not writes:
            args = tuple(self.inserted(a) for a in args)
        return self.inserted(func(*args, **(kwargs or {})))

    def inserted(self, given: Any) -> Any:
        if isinstance(given, Tensor):
            return self.insert(given)
        if type(given) in (tuple, list):
            return type(given)(map(self.inserted, given))
        return given

    def insert(self, t: Tensor) -> Tensor:
        if not (t.requires_grad and t.is_floating_point() and t.numel()):
            return t
        self.calls += 1
        return NOTHING[self.choices[self.calls % len(self.choices)]](t)
