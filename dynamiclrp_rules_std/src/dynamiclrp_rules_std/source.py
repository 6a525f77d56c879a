"""Overwritten, drawn, compared: nothing of what stood there is in the output, so nothing passes."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import custom, stopping
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from dynamiclrp_core.writes import CopyInto
from torch import Tensor


def _filled(op: Op, *_: Tensor | None) -> Tensor:
    value = op.constant("value")
    return torch.full(op.shape, value, dtype=op.dtype, device=op.node._input_metadata[0].device)


def _fill(node: str) -> Row:
    """``fill(x, value)`` with a tensor for the value: it is copied everywhere, x is forgotten."""
    return custom(node, CopyInto(), "self value", family="moving", unused=(0,),
        forward=lambda op, x, value: value.expand(op.shape))  # fmt: skip


# The digit is the overload, as autograd numbers them.
DRAWN = """Bernoulli0 Bernoulli1 Bernoulli2 Cauchy0 Exponential0 Geometric0 LogNormal0 Normal0 Normal1 Normal2
    Normal3 Poisson0 Random0 Random1 Random2 Uniform0 StandardGamma0 StandardGammaGrad0""".split()
COMPARED = [f"{name}{n}" for name in "Eq Ge Gt Le Lt Ne".split() for n in (0, 1)]  # x.eq_(y)


def _node(name: str) -> str:
    return f"{name[:-1]}Backward{name[-1]}"


ROWS = (
    stopping("FillBackward0", forward=_filled),
    _fill("FillBackward1"),
    stopping("FillBackward2", forward=_filled),  # fill_ with a number
    _fill("FillBackward3"),  # fill_ with a tensor
    stopping("ZeroBackward0", forward=lambda op, x: torch.zeros_like(x)),
    *(stopping(_node(name)) for name in (*DRAWN, *COMPARED)),
)
