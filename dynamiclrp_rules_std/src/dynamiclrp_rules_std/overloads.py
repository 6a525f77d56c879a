"""Overloads with a number for an operand, in-place twins, deprecated spellings, quantisation.

Each is a node type of its own; the maths is that of the op in the other tables.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.families import composite, custom, elementwise, homogeneous, winner
from dynamiclrp_core.numerics import quotient, secant
from dynamiclrp_core.op import Op
from dynamiclrp_core.refusal import Refused
from torch import Tensor

from .activation import rrelu, threshold_at_zero
from .binary import xlog
from .complexes import Conjugate
from .scan import counts, p_norm, p_norm_of_dims

linalg = torch.linalg


# -- linear algebra -----------------------------------------------------------------------------------


def _lu_unpack(op: Op, lu: Tensor) -> tuple[Tensor, Tensor]:
    k = min(lu.shape[-2:])
    left, top = lu[..., :k], lu[..., :k, :]
    return left.tril(-1) + torch.eye(*left.shape[-2:], dtype=lu.dtype, device=lu.device), top.triu()


def _triangular_solve(op: Op, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    s = op.saved
    matrix, upper = (a.mT, not s.upper) if s.transpose else (a, s.upper)
    solved = linalg.solve_triangular(matrix, b, upper=upper, unitriangular=s.unitriangular)
    return solved, a.clone()


def _ormqr(op: Op, a: Tensor, tau: Tensor, other: Tensor) -> Tensor:
    """Q C for Q = H_1 H_2 ... and H_i = 1 - tau_i v_i v_i^T; or Q^T C, C Q, C Q^T."""
    s = op.saved
    c = other if s.left else other.mT
    v = a.tril(-1) + torch.eye(*a.shape[-2:], dtype=a.dtype, device=a.device)
    steps = range(tau.shape[-1])
    for i in steps if s.transpose == s.left else reversed(steps):
        column = v[..., i : i + 1]
        c = c - tau[..., i, None, None] * column @ (column.mT @ c)
    return c if s.left else c.mT


# -- quantisation -------------------------------------------------------------------------------------


def learned_quantisation_is_live(op: Op) -> bool:
    """Matcher: the scale or the zero point depends on an input."""
    return op.live[1] or op.live[2]


def _quantised(op: Op, x: Tensor) -> Tensor:
    point, ends = op.constant("zero_point"), (op.constant("quant_min"), op.constant("quant_max"))
    scale, wide = op.constant("scale"), x.float()
    per_channel = op.row.node.startswith("FakeQuantizePerChannel")
    place = (op.constant("axis"),) if per_channel else ()
    f: Any = torch.fake_quantize_per_channel_affine if per_channel else torch.fake_quantize_per_tensor_affine
    made: Tensor = f(wide, scale, point, *place, *ends)
    return made.to(x.dtype)


def _learned(op: Op, x: Tensor, scale: Tensor, point: Tensor) -> Tensor:
    s = op.saved
    per_channel = op.row.node.startswith("FakeQuantizeLearnablePerChannel")
    f = getattr(torch, f"_fake_quantize_learnable_per_{'channel' if per_channel else 'tensor'}_affine")
    place = (s.axis,) if per_channel else ()
    made: Tensor = f(x.float(), scale.float(), point.float(), *place, s.quant_min, s.quant_max, s.grad_factor)
    return made.to(x.dtype)


def _of_output(op: Op, limit: float = 1.0) -> Tensor:
    """f(x) / x for f(0) = 0. A grid holds 0: torch's zero point is one of its values."""
    return secant(op.output(), op.input(0), limit)


_LIVE_SCALE = Refused(
    reason="the scale or zero point of a quantisation depends on an input",
    cure="detach it: it is a parameter of the grid",
)

ROWS = (
    # -- linear algebra -----------------------------------------------------------------------------
    homogeneous("CholeskyBackward0", degree=0.5, results="result",
        forward=lambda op, x: linalg.cholesky(x, upper=op.saved.upper)),
    composite("LuUnpackBackward0", "LU_data", forward=_lu_unpack),
    composite("TriangularSolveBackward0", "self A", results="solution", forward=_triangular_solve),
    composite("OrmqrBackward0", "self input2 input3", results="result", forward=_ormqr),
    # -- quantisation -------------------------------------------------------------------------------
    elementwise("FakeQuantizePerTensorAffineCachemaskTensorQparamsBackward0", forward=_quantised,
        slope=_of_output, at_zero=0.0),
    elementwise("FakeQuantizePerChannelAffineCachemaskBackward0", forward=_quantised,
        slope=_of_output, at_zero=0.0),
    elementwise("FakeQuantizeLearnablePerTensorAffineBackward0", "self scale zero_point",
        cases=((learned_quantisation_is_live, _LIVE_SCALE),),
        forward=_learned, slope=_of_output, at_zero=0.0),
    elementwise("FakeQuantizeLearnablePerChannelAffineBackward0", "self scale zero_point",
        cases=((learned_quantisation_is_live, _LIVE_SCALE),),
        forward=_learned, slope=_of_output, at_zero=0.0),
    elementwise("RoundBackward1", slope=lambda op: _of_output(op, 0.0), at_zero=0.0,
        forward=lambda op, x: torch.round(x, decimals=op.constant("decimals"))),
    # -- in place -----------------------------------------------------------------------------------
    elementwise("CeluBackward1", results="result", at_zero=0.0, slope=_of_output,
        forward=lambda op, x: F.celu(x, op.saved.alpha)),
    elementwise("RreluWithNoiseBackward1", results="result", degree=1.0, forward=rrelu),
    elementwise("ThresholdBackward1", at_zero=threshold_at_zero,
        forward=lambda op, x: F.threshold(x, op.saved.threshold, op.constant("value")),
        slope=lambda op: secant(op.output() - threshold_at_zero(op), op.input(0),
            float(op.saved.threshold < 0))),
    elementwise("PolygammaBackward1", at_zero=math.inf,
        forward=lambda op, x: torch.polygamma(op.saved.n, x),
        slope=lambda op: quotient(op.output(), op.input(0))),
    *(custom(node, Conjugate(), "self", family="elementwise", degree=1.0,
        forward=lambda op, z: z.conj(), inverse=lambda op, y: y.conj())
        for node in ("ConjPhysicalBackward0", "ConjPhysicalBackward1")),
    # -- a number for an operand --------------------------------------------------------------------
    elementwise("CopysignBackward1", results="result", degree=1.0,
        forward=lambda op, x: torch.copysign(x, op.constant("other"))),
    composite("DivBackward3", forward=lambda op, x: getattr(x / op.saved.other, op.saved.rounding_mode)()),
    composite("XlogyBackward1", "other", forward=lambda op, y: op.saved.self * y.log()),
    composite("SpecialXlog1PyBackward1", "other", forward=lambda op, y: op.saved.self * y.log1p()),
    composite("XlogyBackward2", forward=lambda op, x: xlog(torch.log)(op, x, x.new_tensor(op.saved.other))),
    composite("SpecialXlog1PyBackward2",
        forward=lambda op, x: xlog(torch.log1p)(op, x, x.new_tensor(op.saved.other))),
    elementwise("SpecialZetaBackward1", "other", at_zero=math.inf,
        forward=lambda op, q: torch.special.zeta(op.saved.self, q),
        slope=lambda op: quotient(op.output(), op.input(0))),
    elementwise("MvlgammaBackward0", at_zero=math.inf, forward=lambda op, x: torch.mvlgamma(x, op.saved.p),
        slope=lambda op: quotient(op.output(), op.input(0))),
    # -- selections and norms -----------------------------------------------------------------------
    winner("NanmedianBackward0", reduces=True, results="result",
        forward=lambda op, x: x.reshape(-1).nanmedian()),
    homogeneous("NormBackward2", degree=counts, reduces=True, results="result", forward=p_norm),
    homogeneous("NormBackward3", degree=counts, reduces=True, results="result", forward=p_norm_of_dims),
)  # fmt: skip
