"""Matrix products and convolutions: affine in one live factor, shared between two."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from dynamiclrp_core.families import affine, custom
from dynamiclrp_core.op import Op
from dynamiclrp_core.rules.defaults import Product
from torch import Tensor

At = Callable[[int], Tensor]


def _mm(op: Op, c: Tensor, i: int, at: At) -> Tensor:
    """Gradient of one factor of a @ b: the other is all it needs."""
    first, second = op.row.factors
    if i != first:
        return at(first).mH @ c
    rows = op.sweep.explained_rows(c)
    if rows is None:
        return c @ at(second).mH
    w = at(second)
    return c.new_zeros(c.shape[0], w.shape[0]).index_copy_(0, rows, c[rows] @ w.mH)


def _added(op: Op, added: Tensor | None, z: Tensor) -> Tensor:
    """beta * added + alpha * z of the add*mm family."""
    alpha, beta = op.saved.alpha, op.saved.beta
    z = z if alpha == 1 else z * alpha
    if added is None:
        return z
    return z + (added if beta == 1 else added * beta)


def _add_shift(op: Op) -> Tensor | None:
    beta = op.saved.beta
    return None if beta == 0 else op.input(0) if beta == 1 else op.input(0) * beta


def _alpha(op: Op) -> float:
    return cast(float, op.saved.alpha)


def _pull_added(op: Op, c: Tensor, i: int, at: At) -> Tensor:
    if i == 0:
        return c * op.saved.beta
    g = _mm(op, c, i, at)
    return g if op.saved.alpha == 1 else g * op.saved.alpha


def _mm_scaled(op: Op, w: Tensor, k: Tensor, inputs: bool) -> Tensor:
    """Channels are the columns of the second factor, which are the outputs, and its rows, the inputs."""
    return w * (k.unsqueeze(1) if inputs else k)


# -- convolution ------------------------------------------------------------------------------------


def _conv(op: Op, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    s = op.saved
    return torch.ops.aten.convolution.default(
        x, w, bias, s.stride, s.padding, s.dilation, s.transposed, s.output_padding, s.groups
    )


def _conv_pull(op: Op, c: Tensor, i: int, at: At) -> Tensor:
    s = op.saved
    if i == 2:
        return c.sum((0, *range(2, c.dim())))
    # The operand asked for gives only its shape: the saved one does.
    x, w = (s.input, at(1)) if i == 0 else (at(0), s.weight)
    made = torch.ops.aten.convolution_backward.default(
        c, x.to(c.dtype), w, None, s.stride, s.padding, s.dilation, s.transposed,
        s.output_padding, s.groups, [i == 0, i == 1, False],
    )  # fmt: skip
    return cast(Tensor, made[i])


def _conv_shift(op: Op) -> Tensor | None:
    bias = op.optional(2)
    return None if bias is None else bias.view(1, -1, *[1] * (len(op.shape) - 2))


def _conv_scaled(op: Op, w: Tensor, k: Tensor, inputs: bool) -> Tensor:
    """Dim 0 of the weights lists all channels of one side, dim 1 those of the other side within a group."""
    s = op.saved
    rest = [1] * (w.dim() - 2)
    if inputs == s.transposed:
        return w * k.view(-1, 1, *rest)
    of_group = k.view(s.groups, 1, w.shape[1]).expand(-1, w.shape[0] // s.groups, -1)
    return w * of_group.reshape(w.shape[0], w.shape[1], *rest)


# -- products of several ----------------------------------------------------------------------------


def _trilinear(op: Op, a: Tensor, b: Tensor, d: Tensor) -> Tensor:
    s = op.saved
    for places in (s.expand1, s.expand2, s.expand3):
        assert places == tuple(sorted(places))
    wide = [_unsqueezed(t, p) for t, p in ((a, s.expand1), (b, s.expand2), (d, s.expand3))]
    return (wide[0] * wide[1] * wide[2]).sum(s.sumdim)


def _unsqueezed(t: Tensor, places: tuple[int, ...]) -> Tensor:
    for place in places:
        t = t.unsqueeze(place)
    return t


ROWS = (
    affine(
        "MmBackward0",
        "self mat2",
        factors=(0, 1),
        columns=True,
        forward=lambda op, a, b: a @ b,
        pull=_mm,
        scaled=_mm_scaled,
    ),
    affine(
        "BmmBackward0",
        "self mat2",
        factors=(0, 1),
        columns=True,
        forward=lambda op, a, b: a @ b,
        pull=_mm,
    ),
    affine(
        "MvBackward0",
        "self vec",
        factors=(0, 1),
        forward=lambda op, a, v: a @ v,
        pull=lambda op, c, i, at: torch.outer(c, at(1).conj()) if i == 0 else at(0).mH @ c,
    ),
    affine(
        "DotBackward0",
        "self tensor",
        factors=(0, 1),
        forward=lambda op, a, b: a @ b,
        pull=lambda op, c, i, at: c * at(1 - i).conj(),
    ),
    affine(
        "AddmmBackward0",
        "self mat1 mat2",
        factors=(1, 2),
        bias=0,
        times=_alpha,
        columns=True,
        forward=lambda op, added, a, b: _added(op, added, a @ b),
        pull=_pull_added,
        shift=_add_shift,
        scaled=_mm_scaled,
    ),
    affine(
        "BaddbmmBackward0",
        "self batch1 batch2",
        factors=(1, 2),
        bias=0,
        times=_alpha,
        columns=True,
        forward=lambda op, added, a, b: _added(op, added, a @ b),
        pull=_pull_added,
        shift=_add_shift,
    ),
    affine(
        "AddmvBackward0",
        "self mat vec",
        factors=(1, 2),
        bias=0,
        times=_alpha,
        forward=lambda op, added, a, v: _added(op, added, a @ v),
        shift=_add_shift,
    ),
    affine(
        "AddbmmBackward0",
        "self batch1 batch2",
        factors=(1, 2),
        bias=0,
        times=_alpha,
        shift=_add_shift,
        forward=lambda op, added, a, b: _added(op, added, (a @ b).sum(0)),
    ),
    affine(
        "AddrBackward0",
        "self vec1 vec2",
        factors=(1, 2),
        bias=0,
        times=_alpha,
        shift=_add_shift,
        forward=lambda op, added, a, b: _added(op, added, torch.outer(a, b)),
    ),
    affine("VdotBackward0", "self other", factors=(0, 1), forward=lambda op, a, b: torch.vdot(a, b)),
    affine(
        "LinalgCrossBackward0",
        "self other",
        factors=(0, 1),
        forward=lambda op, a, b: torch.linalg.cross(a, b, dim=op.saved.dim),
    ),
    # Three factors, of which each live one takes its part (AttnLRP, proposition 3.2).
    custom("TrilinearBackward0", Product(), "i1 i2 i3", factors=(0, 1, 2), forward=_trilinear),
    *(
        affine(
            node,
            "input weight bias",
            factors=(0, 1),
            bias=2,
            optional=(2,),
            forward=_conv,
            pull=_conv_pull,
            shift=_conv_shift,
            scaled=_conv_scaled,
        )
        for node in ("ConvolutionBackward0", "ConvolutionBackward1")
    ),
)
