"""Complex tensors, which count as pairs of reals (Note [Complex tensors] in core), and Fourier transforms."""

from __future__ import annotations

import torch
from dynamiclrp_core.families import composite, custom, moving, scaling
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Row, Value
from dynamiclrp_core.rules.defaults import Elementwise, Linear
from torch import Tensor

aten = torch.ops.aten


class Conjugate(Elementwise):
    """The imaginary part changes its sign; relevance, part by part, does not."""

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        return [Value(self.only(r))]


def _transform(node: str, **facts: object) -> Row:
    # A family of its own: its weights have both signs, so no rule for sums of one sign applies.
    return custom(node, Linear(), "self", family="transform", degree=1.0, **facts)


ROWS = (
    moving("ComplexBackward0", "real imag", fills=True, forward=lambda op, a, b: torch.complex(a, b)),
    moving("ViewAsRealBackward0", forward=lambda op, z: torch.view_as_real(z.resolve_conj()),
        inverse=lambda op, y: torch.view_as_complex(y.contiguous())),
    moving("ViewAsComplexBackward0", forward=lambda op, x: torch.view_as_complex(x.contiguous()),
        inverse=lambda op, y: torch.view_as_real(y.resolve_conj())),
    custom("ConjBackward0", Conjugate(), "self", family="elementwise", degree=1.0,
        forward=lambda op, z: z.conj(), inverse=lambda op, y: y.conj()),
    scaling("NegViewBackward0", forward=lambda op, x: -x, inverse=lambda op, y: -y),
    composite("PolarBackward0", "abs angle", results="result",
        forward=lambda op, r, angle: torch.complex(r * angle.cos(), r * angle.sin())),
    _transform("FftR2CBackward0", forward=lambda op, x: aten._fft_r2c(
        x, op.saved.dim, op.saved.normalization, op.saved.onesided)),
    _transform("FftC2CBackward0", forward=lambda op, z: aten._fft_c2c(
        z, op.saved.dim, op.saved.normalization, op.saved.forward)),
    _transform("FftC2RBackward0", forward=lambda op, z: aten._fft_c2r(
        z, op.saved.dim, op.saved.normalization, op.shape[op.saved.dim[-1]])),
)  # fmt: skip
