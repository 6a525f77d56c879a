"""Attributions made of several: averages over noise, integrals along a path; and occlusion, as a check.

All take an ``LRP`` (or anything with its ``attribute``), so that any rules can be used, and call the model
once per sample, step or window.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .captum_like import LRP, Target, _select
from .errors import InvalidInput
from .numerics import quotient


def smooth(
    explainer: LRP,
    inputs: Tensor,
    target: Target = None,
    *,
    samples: int = 20,
    noise: float = 0.1,
    generator: torch.Generator | None = None,
    **arguments: Any,
) -> Tensor:
    """Mean relevance of ``samples`` noisy copies of ``inputs`` (SmoothGrad, Smilkov et al. 2017).

    inputs     a float tensor, batch first; the result has its shape
    noise      standard deviation of the Gaussian noise, as a share of ``max - min`` of each sample
    generator  of the noise, for the same map again
    arguments  for ``explainer.attribute``

    Raises InvalidInput for several inputs, no samples or negative noise, and what ``attribute`` raises.
    """
    _check(explainer, inputs, "samples", samples)
    if noise < 0:
        raise InvalidInput(f"noise={noise}: a standard deviation is not negative")
    flat = inputs.detach().reshape(inputs.shape[0], -1)
    spread = (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (inputs.dim() - 1))
    total = torch.zeros_like(inputs)
    for _ in range(samples):
        drawn = torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype, device=inputs.device)
        total += explainer.attribute(inputs.detach() + noise * spread * drawn, target, **arguments)
    return total / samples


def integrated(
    explainer: LRP,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Tensor | float = 0.0,
    steps: int = 20,
    **arguments: Any,
) -> Tensor:
    """``(x - b)`` times the mean coefficient on the straight path from ``baseline`` b to ``inputs`` x.

    Integrated gradients (Sundararajan et al. 2017, eq. 1, by the midpoint rule) with the rules'
    coefficients for the gradient: with rules that are the gradient the result adds up to ``y(x) - y(b)``.
    Where the rules give relevance as values, the coefficient is ``R / x``, and 0 where x is 0.

    inputs    a float tensor, batch first; the result has its shape
    baseline  a number or a tensor that broadcasts to ``inputs``

    Raises InvalidInput for several inputs, no steps or a baseline that does not fit, and what
    ``explainer.attribute`` raises.
    """
    _check(explainer, inputs, "steps", steps)
    x = inputs.detach()
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
    try:
        difference = x - start.expand(x.shape)
    except RuntimeError:
        raise InvalidInput(f"baseline {tuple(start.shape)} does not fit inputs {tuple(x.shape)}") from None
    total = torch.zeros_like(x)
    for k in range(steps):
        point = x - (1 - (k + 0.5) / steps) * difference
        relevance = explainer.attribute(point, target, **arguments)
        c = explainer.run.coefficients[0] if explainer.run is not None else None
        total += quotient(relevance, point) if c is None else c
    return difference * total / steps


def occlusion(
    model: Callable[[Tensor], Any],
    inputs: Tensor,
    target: Target = None,
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
    value: float = 0.0,
) -> Tensor:
    """How much the output falls when a window of the input is set to ``value`` (Zeiler & Fergus 2014).

    inputs  a float tensor, batch first; the result has its shape. An entry has the mean fall of the windows
            that cover it, per covered entry: a map of an additive model sums to its output
    window  its size in the last dimensions (``(8, 8)`` of images; all channels fall together)
    stride  between windows; None: as ``window``. Windows at the end are cut

    No rule is used: a relevance map and this one should agree on what matters.
    Raises InvalidInput for a window that is no tuple of positive sizes or has more dimensions than the
    inputs, and for a bad target.
    """
    step = window if stride is None else stride
    sizes = (window, step)
    if not all(isinstance(s, tuple | list) and 0 < len(s) == len(window) and min(s) > 0 for s in sizes):
        raise InvalidInput(
            f"window {window} with stride {step}: both are tuples of positive sizes in the last dimensions, "
            "(8, 8) of images"
        )
    x, dims = inputs.detach(), len(window)
    if dims >= x.dim():
        raise InvalidInput(f"window {window} with stride {step} does not fit inputs {tuple(x.shape)}")
    fall, covered = torch.zeros_like(x), torch.zeros_like(x)
    with torch.no_grad():
        whole = _select(model(x), target)
        starts = [range(0, size, s) for size, s in zip(x.shape[-dims:], step)]
        for corner in itertools.product(*starts):
            place: tuple[Any, ...] = (..., *(slice(a, a + w) for a, w in zip(corner, window)))
            hidden = x.clone()
            hidden[place] = value
            change = whole - _select(model(hidden), target)
            entries = hidden[place][0].numel()
            fall[place] += change.view(-1, *[1] * (x.dim() - 1)) / entries
            covered[place] += 1
    return quotient(fall, covered)


def _check(explainer: object, inputs: object, name: str, times: int) -> None:
    if not hasattr(explainer, "attribute"):
        raise InvalidInput(
            f"{type(explainer).__name__} explains nothing.\n  cure: lrp.LRP(model, rules=...) does"
        )
    if not isinstance(inputs, Tensor):
        raise InvalidInput(
            f"inputs is a {type(inputs).__name__}: one tensor, batch first, can be averaged over"
        )
    if times < 1:
        raise InvalidInput(f"{name}={times}: there is nothing to average over")
