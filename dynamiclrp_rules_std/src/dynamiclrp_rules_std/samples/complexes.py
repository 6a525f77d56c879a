"""Samples of complex tensors and Fourier transforms."""

from __future__ import annotations

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

NO_HALF = (torch.float64, torch.float32)
PAIRS = ("n 4 2",)
fft = torch.fft


def pairs(a: Tensor) -> Tensor:
    """The last dimension as real and imaginary part."""
    return torch.view_as_complex(a.contiguous())


def turned(a: Tensor) -> Tensor:
    """Complex, from a real tensor by a constant factor."""
    return pairs(a) * (0.5 - 2j)


def negated_view(a: Tensor) -> Tensor:
    return pairs(a).conj().imag


def of(node: str, call: object, *shapes: str, **facts: object) -> Sample:
    return Sample(node, call, shapes or PAIRS, dtypes=NO_HALF, **facts)  # type: ignore[arg-type]


SAMPLES = (
    of("ComplexBackward0", torch.complex, "n 4", "n 4"),
    of("ComplexBackward0", torch.complex, "n 2 3", "3", label="right"),
    of("ViewAsComplexBackward0", pairs),
    of("ViewAsRealBackward0", lambda a: torch.view_as_real(turned(a))),
    of("ConjBackward0", lambda a: pairs(a).conj()),
    of("ViewAsRealBackward0_copy", lambda a: torch.view_as_real_copy(turned(a))),
    of("NegViewBackward0", negated_view, label="wrapped"),
    Sample("PolarBackward0", torch.polar, ("n 4", "n 4"), "positive", dtypes=NO_HALF),
    of("FftR2CBackward0", lambda a: fft.rfft(a), "n 5"),
    of("FftR2CBackward0", lambda a: fft.rfft(a, norm="ortho"), "n 4", label="ortho"),
    of("FftR2CBackward0", lambda a: fft.rfftn(a, dim=(1, 2)), "n 3 4", label="2d-wrapped"),
    of("FftC2CBackward0", lambda a: fft.fft(pairs(a), dim=1)),
    of("FftC2CBackward0", lambda a: fft.ifft(pairs(a), dim=1, norm="ortho"), label="inverse"),
    of("FftC2RBackward0", lambda a: fft.irfft(pairs(a), dim=1)),
    of("FftC2RBackward0", lambda a: fft.irfft(fft.rfft(a) * (1 - 2j), n=5), "n 5", label="filter"),
    # Nodes of other tables, of complex operands.
    of("AddBackward0", lambda a, b: pairs(a) + 2 * pairs(b), "n 4 2", "n 4 2", label="complex"),
    of("MulBackward0", lambda a, b: pairs(a) * pairs(b), "n 4 2", "n 4 2", label="complex"),
    of("MulBackward0", lambda a, b: pairs(a) * b, "n 4 2", "n 4", label="complex-real"),
    of("DivBackward0", lambda a, b: pairs(a) / (pairs(b) + 4), "n 4 2", "n 4 2", label="complex"),
    of("ExpBackward0", lambda a: pairs(a).exp(), label="complex"),
    of("MmBackward0", lambda a, b: pairs(a) @ pairs(b), "n 4 2", "4 3 2", label="complex"),
    of("BmmBackward0", lambda a, b: pairs(a).bmm(pairs(b)), "n 2 3 2", "n 3 4 2", label="complex"),
    of("VdotBackward0", lambda a, b: torch.vdot(pairs(a), pairs(b)), "4 2", "4 2", batched=False,
        label="complex"),
)  # fmt: skip
