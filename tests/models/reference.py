"""A slow reference: a program is a list of steps, relevance a dictionary of coefficients.

Nothing here looks at autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference_functions  # noqa: F401 (steps register themselves)
from .reference_steps import STEPS, Model

__all__ = ["STEPS", "Model", "Program", "explain", "run"]

Program = list[tuple[str, tuple[int, ...]]]


def run(program: Program, model: Model, x: Tensor) -> list[Tensor]:
    """All tensors of the program; tensor 0 is x. Each is squashed so that nothing overflows."""
    model.rewind()
    made = [x]
    for name, operands in program:
        made.append(STEPS[name][1](model, *(made[i] for i in operands)))
    return made


def explain(program: Program, model: Model, x: Tensor) -> Tensor:
    """Relevance of x for the last tensor, R = y, by the dictionary."""
    with torch.no_grad():
        values = run(program, model, x)
        coefficients: dict[int, Tensor] = {len(program): torch.ones_like(values[-1])}
        used = _constants_used(program, model, x)
        for k in range(len(program), 0, -1):
            c = coefficients.pop(k, None)
            if c is None:
                continue
            name, operands = program[k - 1]
            model._at = used[k - 1]
            entries = STEPS[name][2](model, c, *(values[i] for i in operands))
            for i, entry in zip(operands, entries):
                coefficients[i] = coefficients.get(i, torch.zeros_like(x)) + entry
        return x * coefficients.get(0, torch.zeros_like(x))


def _constants_used(program: Program, model: Model, x: Tensor) -> list[int]:
    model.rewind()
    made, at = [x], []
    for name, operands in program:
        at.append(model._at)
        made.append(STEPS[name][1](model, *(made[i] for i in operands)))
    return at
