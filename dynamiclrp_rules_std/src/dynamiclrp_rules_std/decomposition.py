"""Linear algebra: Euler's rule with the degree of each output, and solutions by their right side.

What only turns when the matrix is scaled (Q of QR, singular vectors, eigenvectors, L of LU) has degree 0:
relevance that arrives there is refused (see Homogeneous), unless the output is detached. The matrix of
Cholesky and eigh counts as the symmetric one that torch's gradient takes it for.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from dynamiclrp_core.errors import MissingRule
from dynamiclrp_core.families import custom, homogeneous
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Conserves, Entries, Row, Rule
from dynamiclrp_core.rules.secants import Ray
from torch import Tensor

linalg = torch.linalg


class Solved(Rule):
    """``A^-1 B``: all to the right side B, in which it is linear, as to a numerator.

    If A alone is live, Euler's theorem with its ``degree``. A triangular matrix with a diagonal of ones
    that are not read has none, and is refused. Of an A that is given as ``factors`` L and U in one tensor,
    U has the degree; L has a diagonal of ones, so 0, and gets nothing.
    """

    above: int = 1
    degree: float = -1.0
    factors: bool = False
    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        below = 1 - self.above
        entries = list(op.backward(self.only(c), *c[1:]))
        matrix = entries[below]
        if op.live[self.above]:
            entries[below] = None
        elif matrix is not None:
            if getattr(op.saved, "unitriangular", False):
                raise MissingRule(
                    f"{op.row.node}: relevance of a matrix with an implied diagonal of ones, which scaling "
                    "does not change, has no rule.\n  cure: detach it, or write the ones into it"
                )
            entries[below] = (matrix.triu() if self.factors else matrix) / self.degree
        return entries


class LogDeterminant(Rule):
    """``log|det A|`` is a log of an f of degree n: ``c_A = c log|det A| A^-T / n``.

    The secant of the log, f(x)/x (it has a pole at 0), times Euler's rule for the determinant, without its
    overflow. The sign has degree 0.
    """

    conserves: ClassVar[Conserves] = "exact"

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        if c[0] is not None and bool(c[0].any()):
            raise MissingRule(
                f"{op.row.node}: relevance arrived at the sign of the determinant, a constant nearly "
                "everywhere.\n  cure: detach the sign"
            )
        if c[1] is None:
            return [None]
        return op.backward(None, c[1] * op.output(1) / max(1, op.operand_shape(0)[-1]))


def _solved(node: str, operands: str, rule: Solved, **facts: object) -> Row:
    return custom(node, rule, operands, family="solved", **facts)


def _lu_degree(op: Op) -> Tensor:
    """U on and above the diagonal, L below it."""
    return torch.ones(op.shape, device=op.saved.LU.device).triu()


def _lstsq(op: Op, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    made = linalg.lstsq(a, b)
    return made[0], made[1]


def _lu_solve(op: Op, lu: Tensor, b: Tensor) -> Tensor:
    s = op.saved
    return linalg.lu_solve(lu, s.pivots, b, left=s.left, adjoint=s.adjoint)


def _triangular(op: Op, a: Tensor, b: Tensor) -> Tensor:
    s = op.saved
    return linalg.solve_triangular(a, b, upper=s.upper, left=s.left, unitriangular=s.unitriangular)


ROWS = (
    # -- one matrix ---------------------------------------------------------------------------------
    homogeneous("LinalgDetBackward0", "A", degree=lambda op: max(1.0, op.operand_shape(0)[-1]),
        results="result", reduces=True, forward=lambda op, x: linalg.det(x)),
    custom("LinalgSlogdetBackward0", LogDeterminant(), "A", results="sign",
        forward=lambda op, x: tuple(linalg.slogdet(x))),
    homogeneous("LinalgInvExBackward0", "A", degree=-1.0, results="inverse",
        forward=lambda op, x: linalg.inv(x)),
    homogeneous("LinalgPinvBackward0", degree=-1.0, results="result",
        forward=lambda op, x: linalg.pinv(x)),
    homogeneous("LinalgCholeskyExBackward0", degree=0.5, results="L",
        forward=lambda op, x: linalg.cholesky(x, upper=op.saved.upper)),
    homogeneous("CholeskyInverseBackward0", degree=-2.0, results="result",
        forward=lambda op, x: torch.cholesky_inverse(x, op.saved.upper)),
    homogeneous("LinalgQrBackward0", "A", degree=(0.0, 1.0), results="Q R",
        forward=lambda op, x: tuple(linalg.qr(x, op.saved.mode))),
    homogeneous("LinalgSvdBackward0", "A", degree=(0.0, 1.0, 0.0), results="U S Vh",
        forward=lambda op, x: tuple(linalg.svd(x, op.saved.full_matrices))),
    homogeneous("LinalgEighBackward0", "A", degree=(1.0, 0.0), results="eigenvalues eigenvectors",
        forward=lambda op, x: tuple(linalg.eigh(x))),
    homogeneous("LinalgEigBackward0", degree=(1.0, 0.0), results="eigenvalues eigenvectors",
        forward=lambda op, x: tuple(linalg.eig(x))),
    homogeneous("LinalgLuFactorExBackward0", "A", degree=_lu_degree, results="LU",
        forward=lambda op, x: linalg.lu_factor(x, pivot=op.saved.pivot)[0]),
    homogeneous("LinalgLuBackward0", "A", degree=(0.0, 1.0), results="L U",  # P has no gradient
        forward=lambda op, x: tuple(linalg.lu(x, pivot=op.saved.pivot))[1:]),
    # -- secants of what mixes entries; the identity, their value at 0, absorbs ---------------------
    custom("LinalgMatrixExpBackward0", Ray(), forward=lambda op, x: linalg.matrix_exp(x),
        operands="self"),
    custom("LinalgHouseholderProductBackward0", Ray(), "input tau", results="result",
        forward=lambda op, x, tau: linalg.householder_product(x, tau)),
    # -- solutions ----------------------------------------------------------------------------------
    _solved("LinalgSolveExBackward0", "A B", Solved(), results="result",
        forward=lambda op, a, b: linalg.solve(a, b, left=op.saved.left)),
    _solved("LinalgLuSolveBackward0", "LU B", Solved(factors=True), results="result", forward=_lu_solve),
    _solved("LinalgSolveTriangularBackward0", "self B", Solved(), results="result",
        forward=_triangular),
    _solved("LinalgLstsqBackward0", "self b", Solved(), results="solution", forward=_lstsq),
    _solved("CholeskySolveBackward0", "self input2", Solved(above=0, degree=-2.0), results="result",
        forward=lambda op, b, a: torch.cholesky_solve(b, a, upper=op.saved.upper)),
)  # fmt: skip
