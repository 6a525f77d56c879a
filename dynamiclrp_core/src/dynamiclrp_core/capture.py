"""Getting hold of tensors inside a model, to name them in ``at=``. The model is not changed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from .errors import InvalidInput


@contextmanager
def capture(model: nn.Module, *names: str, inputs: bool = False) -> Iterator[dict[str, Any]]:
    """What modules make, by name, for calls of ``model`` inside the block.

    names    names of submodules as ``model.named_modules()`` has them; ``*`` and ``?`` stand for any part
             of one component: ``"layers.*"`` are the layers, ``"layers.*.mlp"`` their MLPs
    inputs   keep the module's first argument instead of what it returns

    A tuple that a module returns is kept as it is. A module called again overwrites what it made before.
    The hooks go when the block ends.

    Raises InvalidInput for a name that no module has, with the nearest ones.
    """
    known = dict(model.named_modules())
    chosen: dict[str, nn.Module] = {}
    for name in names:
        found = {n: m for n, m in known.items() if _matches(n, name)}
        if not found:
            near = difflib.get_close_matches(name, known, 3, 0.3)
            raise InvalidInput(f"no module {name!r}; near: {', '.join(near) or 'none'}")
        chosen |= found
    kept: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], made: Any) -> None:
            if inputs and not (args or kwargs):
                raise InvalidInput(f"{name} was called without arguments: nothing to capture")
            kept[name] = (*args, *kwargs.values())[0] if inputs else made

        return hook

    handles = [m.register_forward_hook(keep(n), with_kwargs=True) for n, m in chosen.items()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _matches(name: str, pattern: str) -> bool:
    if not name or not pattern:
        return name == pattern  # the model itself has no name
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
