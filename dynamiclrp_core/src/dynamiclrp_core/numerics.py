"""The only place with an epsilon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def stabilize(z: Tensor, epsilon: float, clip: bool = False, norm_scale: bool = False) -> Tensor:
    """``z + epsilon * sign(z)`` with sign(0) = +1: pushes z away from zero, never across it.

    ``clip``: ``max(|z|, epsilon) * sign(z)`` instead, which leaves larger z as they are. ``norm_scale``:
    epsilon in units of the root mean square of z over all dimensions but the first (zennit's names).
    """
    by = torch.scalar_tensor(epsilon, dtype=z.dtype)
    if norm_scale:
        by = epsilon * z.square().mean(tuple(range(1, z.dim())), keepdim=True).sqrt()
    # Not torch.where, which takes ten times as long. (-0.0 counts as negative: it is no sum but of zeros.)
    if clip:
        return torch.copysign(z.abs().clamp(min=by), z)
    signed = torch.copysign(by, z.detach())
    return signed + z if signed.requires_grad else signed.add_(z)


def spare(t: Tensor, like: Tensor | None = None) -> Tensor | None:
    """``t`` as memory for a result (of the shape and dtype of ``like``), None where a gradient may need it.

    ``torch.div(t, b, out=spare(t))``, for a t that is the caller's own: the peak of a run is at the
    temporaries of its largest layer.
    """
    fits = like is None or (t.shape == like.shape and t.dtype == like.dtype)
    return t if fits and not torch.is_grad_enabled() else None


def where_not_zero(r: Tensor, z: Tensor) -> Tensor:
    """``z`` where r is not 0, else 0."""
    made: Tensor = torch.ops.aten.threshold_backward.default(z, r.abs(), 0)
    return made


def by_sign(x: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """``above`` where x >= 0, ``below`` elsewhere."""
    # Not torch.where, which takes ten times as long.
    gate = torch.ops.aten.threshold_backward.default
    kept: Tensor = gate(above, x, -torch.finfo(x.dtype).tiny)
    return torch.add(kept, gate(below, -x, 0), out=spare(kept))


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """``a / b``, and 0 where b is 0 (differentiable: the discarded branch never divides by 0)."""
    zero = b == 0
    return torch.where(zero, 0.0, a / torch.where(zero, 1.0, b))


def secant(rise: Tensor, x: Tensor, limit: float | Tensor) -> Tensor:
    """``rise / x``, and ``limit`` where x is 0: the slope from (0, f(0)) to (x, f(x))."""
    if isinstance(limit, float) and not x.is_complex():
        # The rise is 0 there too. No comparison, no torch.where and few copies: they would take all the time.
        at_zero = x.detach().sign().square_().neg_().add_(1)
        return torch.add(rise, at_zero, alpha=limit).div_(at_zero.add_(x))
    zero = x == 0
    return torch.where(zero, limit, rise / torch.where(zero, 1.0, x))


def within(x: Tensor, low: float, high: float) -> bool:
    """Whether ``low < x < high`` everywhere (by the smallest and largest: faster than to compare each)."""
    if not x.numel():
        return True
    least, most = x.aminmax()
    return bool((least > low) & (most < high))


def at_least_float32(t: Tensor) -> Tensor:
    """Half precision raised: rules that divide by activations never work below float32."""
    return t if t.dtype is torch.float32 else t.to(torch.promote_types(t.dtype, torch.float32))


def componentwise(f: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """``f(a, b)`` of real tensors; of complex ones, which are pairs of reals here, part by part.

    Note [Complex tensors]
    A complex tensor counts as its real and its imaginary part, two real tensors. Its relevance is
    complex: the parts are the relevances of the parts. Its coefficient is too, as torch's gradients
    are, so that ``J^T c`` is a node's own backward here as well and ``R = a.real * c.real`` and
    ``a.imag * c.imag`` with a total of ``Re(conj(a) c)``.
    """
    a, b = dense(a), dense(b)
    if not a.is_complex():
        return f(a, b)
    return torch.complex(f(a.real, b.real), f(a.imag, b.imag))


def dense(t: Tensor) -> Tensor:
    """``t``; of a sparse tensor the dense one that it stands for, whose relevance its own is."""
    return t if t.layout is torch.strided else t.to_dense()


def times(a: Tensor, c: Tensor) -> Tensor:
    """``R = a * c``. See Note [Complex tensors]."""
    return componentwise(torch.mul, a, c)


def raised(own: torch.dtype, to: torch.dtype | None) -> torch.dtype:
    """The dtype rules use for a tensor of dtype ``own`` where they run in ``to``."""
    if to is None:
        return own
    return to.to_complex() if own.is_complex else to


def dot(a: Tensor, c: Tensor) -> Tensor:
    """``sum(a * c)`` in float64, with inf * 0 counted as 0 (masked logits carry -inf)."""
    a, c = dense(a), dense(c)
    if a.is_complex() or c.is_complex():
        a, c = (torch.view_as_real(t.to(torch.complex128).resolve_conj()) for t in (a, c))
    product = a.detach().double() * c.detach().double()
    return torch.where((c == 0).expand_as(product), 0.0, product).sum()


def vjp(f: Callable[..., Any], *at: Tensor) -> tuple[Any, Callable[[Any], tuple[Tensor, ...]]]:
    """``f(*at)`` and its vjp (torch.func's, whose annotation does not tell the two forms apart)."""
    made: Any = torch.func.vjp(f, *at)
    return made[0], made[1]


def fit(entry: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Undo broadcasting: sum ``entry`` to ``shape``; then cast to ``dtype``."""
    entry = dense(entry)
    if entry.shape != shape:
        entry = entry.sum_to_size(shape)
    if entry.is_complex() and not dtype.is_complex:
        entry = entry.real  # of a real operand, only that part is there
    return entry if entry.dtype == dtype else entry.to(dtype)
