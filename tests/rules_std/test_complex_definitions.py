"""Rules of complex tensors and Fourier transforms against slow definitions."""

from __future__ import annotations

import cmath
import math

import dynamiclrp_core as lrp
import pytest
import torch

from tests.tensors import randn


def test_a_complex_product_is_four_real_ones() -> None:
    a, b = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ((0.7, -1.3), (0.4, 2.1))
    )  # each a real and an imaginary part
    y = torch.view_as_real(torch.view_as_complex(a) * torch.view_as_complex(b))
    ra, rb = lrp.relevance(y, (a, b))
    (u, v), (s, t) = a.tolist(), b.tolist()
    products = {"us": u * s, "vt": -v * t, "ut": u * t, "vs": v * s}  # real: us - vt, imaginary: ut + vs
    for got, letters in ((ra, "uv"), (rb, "st")):
        expected = [sum(p for name, p in products.items() if letter in name) / 2 for letter in letters]
        assert got.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["backward", "ortho"])
def test_fourier_transform_by_its_sum(norm: str) -> None:
    x = randn(5).requires_grad_()
    (r,) = lrp.relevance(torch.fft.rfft(x, norm=norm), x)
    scale = 1 / math.sqrt(5) if norm == "ortho" else 1.0
    for n in range(5):
        terms = [float(x.detach()[n]) * cmath.exp(-2j * math.pi * k * n / 5) * scale for k in range(3)]
        assert float(r[n]) == pytest.approx(sum(t.real + t.imag for t in terms))


def test_a_filter_in_fourier_space_is_a_convolution() -> None:
    x, k = randn(6).requires_grad_(), randn(6, seed=1)
    y = torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(k), n=6)
    (r,) = lrp.relevance(y[2], x)
    expected = [float(x.detach()[n] * k[(2 - n) % 6]) for n in range(6)]
    assert r.tolist() == pytest.approx(expected)
    run = lrp.propagate(y[2], x, ledger=True, dtype=torch.float64)
    assert run.ledger is not None and run.ledger.closed and not run.ledger.absorbed


def test_a_complex_value_seed_is_relevance_part_by_part() -> None:
    a = randn(3, 2).requires_grad_()
    z = torch.view_as_complex(a)
    seed = torch.tensor([1 + 2j, -0.5 + 1j, 3 - 1j], dtype=torch.complex128)
    (r,) = lrp.relevance(z, a, seed)
    torch.testing.assert_close(r, torch.view_as_real(seed))
    (r,) = lrp.relevance((2 * z).conj(), a, seed)
    torch.testing.assert_close(r, torch.view_as_real(seed))
