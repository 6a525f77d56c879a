"""Samples of what overwrites, draws or compares."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten: Any = torch.ops.aten

WIDE = (torch.float64, torch.float32)  # no kernel in bfloat16
TWO = ("n 4", "")
PAIR = ("n 4", "n 4")


def drawn(node: str, name: str, *arguments: float) -> Sample:
    """A tensor overwritten by random numbers: ``a.uniform_()``."""
    return Sample(node, lambda a: getattr(a.clone(), name)(*arguments))


def compared(name: str) -> tuple[Sample, Sample]:
    """``a.eq_(0)`` and ``a.eq_(b)``."""
    node = f"{name.capitalize()}Backward"
    return (
        Sample(f"{node}0", lambda a: getattr(a.clone(), name + "_")(0.5)),
        Sample(f"{node}1", lambda a, b: getattr(a.clone(), name + "_")(b), PAIR, live=((0,), (0, 1))),
    )


def chance(a: Tensor) -> Tensor:
    """Probabilities."""
    return a.detach().sigmoid()


SAMPLES = (
    # -- overwritten -------------------------------------------------------------------------------
    Sample("FillBackward0", lambda a: aten.fill(a, 0.5)),
    Sample("FillBackward1", lambda a, v: aten.fill(a, v), TWO),
    Sample("FillBackward2", lambda a: a.clone().fill_(0.5)),
    Sample("FillBackward3", lambda a, v: a.clone().fill_(v), TWO),
    Sample("ZeroBackward0", lambda a: a.clone().zero_()),
    # -- drawn -------------------------------------------------------------------------------------
    Sample("BernoulliBackward0", lambda a: torch.bernoulli(a.sigmoid())),
    Sample("BernoulliBackward1", lambda a: a.clone().bernoulli_(chance(a))),
    drawn("BernoulliBackward2", "bernoulli_"),
    drawn("CauchyBackward0", "cauchy_"),
    drawn("ExponentialBackward0", "exponential_"),
    drawn("GeometricBackward0", "geometric_", 0.5),
    drawn("LogNormalBackward0", "log_normal_"),
    drawn("NormalBackward0", "normal_"),
    Sample("NormalBackward1", lambda a: torch.normal(a, 1.0)),
    Sample("NormalBackward2", lambda a: torch.normal(0.0, a), domain="positive"),
    Sample("NormalBackward3", lambda a, b: torch.normal(a, b), PAIR, "positive"),
    Sample("PoissonBackward0", lambda a: torch.poisson(a), domain="positive"),
    drawn("RandomBackward0", "random_", 1, 5),
    drawn("RandomBackward1", "random_", 5),
    drawn("RandomBackward2", "random_"),
    drawn("UniformBackward0", "uniform_"),
    Sample("StandardGammaBackward0", lambda a: torch._standard_gamma(a), domain="positive",
        dtypes=WIDE),
    Sample("StandardGammaGradBackward0", lambda a: torch._standard_gamma_grad(a, a.detach()),
        domain="positive", dtypes=WIDE),
    # -- compared ----------------------------------------------------------------------------------
    *(sample for name in "eq ge gt le lt ne".split() for sample in compared(name)),
)  # fmt: skip
