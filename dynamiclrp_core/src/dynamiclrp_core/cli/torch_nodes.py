"""The node types that the installed torch can build, and the fields each one saves.

Read from the header that torch's code generator writes and the wheel installs, so it is the list of this
release, not of the one that this library was written on. Nodes that torch writes by hand (CopySlices,
AccumulateGrad) are few, do not change and are not in it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import torch

HEADER = "include/torch/csrc/autograd/generated/Functions.h"

_STRUCT = re.compile(r"^struct TORCH_API (\w+) : public \w+ \{$(.*?)^\};$", re.M | re.S)
_FIELD = re.compile(r"^  [\w:<>, ]+ (\w+)(?: = [^;]+)?;$", re.M)
_INTERNAL = ("_released_", "_size_")


@lru_cache(maxsize=1)
def generated() -> dict[str, frozenset[str]]:
    """Node type -> names of its saved fields.

    Without the header (a torch built from source and stripped): the nodes with a class in Python, which
    are all but the foreach ones.
    """
    header = Path(torch.__file__).parent / HEADER
    if not header.is_file():
        return _python_classes()
    return {name: _fields(body) for name, body in _STRUCT.findall(header.read_text())}


def _fields(body: str) -> frozenset[str]:
    names = [name for name in _FIELD.findall(body) if not name.endswith(_INTERNAL)]
    return frozenset(name.removesuffix("_") for name in names if name != "retain_variables")


def _python_classes() -> dict[str, frozenset[str]]:
    made = {}
    for name, cls in vars(torch._C._functions).items():
        if isinstance(cls, type) and "Backward" in name:
            fields = (field for field in dir(cls) if field.startswith("_saved_"))
            made[name] = frozenset(field.removeprefix("_saved_") for field in fields)
    return made
