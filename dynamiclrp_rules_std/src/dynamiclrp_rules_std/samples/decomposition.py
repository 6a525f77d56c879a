"""Samples of linear algebra. Matrices are well conditioned: close to the identity, or sums of squares."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.samples import Domain, Sample
from torch import Tensor

linalg = torch.linalg
SQUARE = ("n 3 3",)


def near(a: Tensor) -> Tensor:
    """Invertible, its eigenvalues apart."""
    ramp = torch.arange(1, a.shape[-1] + 1, dtype=a.dtype, device=a.device)
    return a / 4 + torch.diag(ramp)[: a.shape[-2]]


def symmetric(a: Tensor) -> Tensor:
    """Symmetric, and positive."""
    made = near(a)
    return made @ made.mT


def lower(a: Tensor) -> Tensor:
    """Lower triangular."""
    return near(a).tril()


def of(node: str, call: Any, *shapes: str, **facts: Any) -> Sample:
    """A sample of linear algebra, which CPUs do not do in half precision."""
    domain: Domain = "unit"
    return Sample(node, call, shapes or SQUARE, domain, dtypes=(torch.float64, torch.float32), **facts)


RIGHT = ("n 3 3", "n 3 2")

SAMPLES = (
    of("LinalgDetBackward0", lambda a: linalg.det(near(a))),
    of("LinalgSlogdetBackward0", lambda a: linalg.slogdet(near(a)).logabsdet),
    of("LinalgInvExBackward0", lambda a: linalg.inv(near(a))),
    of("LinalgPinvBackward0", lambda a: linalg.pinv(near(a))),
    of("LinalgPinvBackward0", lambda a: linalg.pinv(near(a)), "n 2 3", label="wide"),
    of("LinalgCholeskyExBackward0", lambda a: linalg.cholesky(symmetric(a))),
    of("LinalgCholeskyExBackward0", lambda a: linalg.cholesky(symmetric(a), upper=True), label="upper"),
    of("CholeskyInverseBackward0", lambda a: torch.cholesky_inverse(lower(a))),
    of("LinalgQrBackward0", lambda a: linalg.qr(near(a)).R),
    of("LinalgSvdBackward0", lambda a: linalg.svdvals(near(a))),
    of("LinalgSvdBackward0", lambda a: linalg.svd(near(a), full_matrices=False).S, "n 2 3", label="wide"),
    of("LinalgEighBackward0", lambda a: linalg.eigvalsh(symmetric(a))),
    of("LinalgEigBackward0", lambda a: linalg.eigvals(near(a))),
    of("LinalgLuFactorExBackward0", lambda a: linalg.lu_factor(near(a)).LU.triu(), label="wrapped"),
    of("LinalgLuBackward0", lambda a: linalg.lu(near(a)).U),
    of("LinalgMatrixExpBackward0", linalg.matrix_exp),
    of("LinalgHouseholderProductBackward0", linalg.householder_product, "n 3 2", "n 2"),
    of("LinalgSolveExBackward0", lambda a, b: linalg.solve(near(a), b), *RIGHT),
    of("LinalgSolveExBackward0", lambda a, b: linalg.solve(near(a), b, left=False), "n 3 3", "n 2 3",
        label="right"),
    of("LinalgSolveTriangularBackward0",
        lambda a, b: linalg.solve_triangular(near(a).triu(), b, upper=True), *RIGHT),
    of("LinalgSolveTriangularBackward0", lambda a, b: linalg.solve_triangular(
        a / 4, b, upper=False, unitriangular=True), *RIGHT, live=((1,), (0, 1)), label="ones"),
    of("LinalgLstsqBackward0", lambda a, b: linalg.lstsq(near(a), b).solution, *RIGHT),
    of("CholeskySolveBackward0", lambda b, a: torch.cholesky_solve(b, lower(a)), "n 3 2", "n 3 3"),
)  # fmt: skip
