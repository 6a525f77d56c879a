"""What looks like a gate, a softmax, a statistic or a reciprocal and is not: true products and quotients.

Expected maps are written out entry by entry from the rules: a product of two live tensors gives half to
each, a quotient all to its numerator, f(x) of one tensor ``f(x) - f(0)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor

from .slow import N, Rows, check, sigmoid, square, zeros

# -- not a gate -------------------------------------------------------------------------------------


def test_halves_of_one_tensor() -> None:
    """x[:, :d] * sigmoid(x[:, d:]): half to the signal, half to the gate, whose sigmoid(0) absorbs."""

    def slow(w: Rows, x: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            for j in range(2):
                a, b = x[i][j], x[i][j + 2]
                r[i][j] = w[i][j] * a * sigmoid(b) / 2
                r[i][j + 2] = w[i][j] * a * (sigmoid(b) - 0.5) / 2
        return [r]

    for f in (
        lambda x: x[:, :2] * x[:, 2:].sigmoid(),
        lambda x: x[:, :2] * (1 / (1 + (-x[:, 2:]).exp())),
        lambda x: (lambda a, b: torch.sigmoid(b) * a)(*x.split(2, 1)),
    ):
        check(f, slow, square())


@pytest.mark.parametrize(
    ("f", "partner"),
    [
        pytest.param(lambda x: x * x.flip(-1), lambda i, j: (i, N - 1 - j), id="flip"),
        pytest.param(lambda x: x * x.roll(1, -1), lambda i, j: (i, (j - 1) % N), id="roll"),
        pytest.param(lambda x: x * x.t(), lambda i, j: (j, i), id="transpose"),
        pytest.param(lambda x: x * x[[1, 0, 3, 2]], lambda i, j: (i ^ 1, j), id="permuted rows"),
        pytest.param(lambda x: x * x[:1], lambda i, j: (0, j), id="first row"),
    ],
)
def test_products_with_other_entries(
    f: Callable[..., Tensor], partner: Callable[..., tuple[int, int]]
) -> None:
    def slow(w: Rows, x: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            for j in range(N):
                p, q = partner(i, j)
                share = w[i][j] * x[i][j] * x[p][q] / 2
                r[i][j] += share
                r[p][q] += share
        return [r]

    check(f, slow, square())


def test_outer_product() -> None:
    def slow(w: list[Rows], x: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            for j in range(N):
                for k in range(N):
                    share = w[i][j][k] * x[i][j] * x[i][k] / 2
                    r[i][j] += share
                    r[i][k] += share
        return [r]

    check(lambda x: x.unsqueeze(2) * x.unsqueeze(1), slow, square())


def test_gate_of_another_tensor() -> None:
    """z * sigmoid(x), also with the sigmoid by hand: no gate of one tensor."""

    def slow(w: Rows, x: Rows, z: Rows) -> list[Rows]:
        rx, rz = zeros(), zeros()
        for i in range(N):
            for j in range(N):
                rx[i][j] = w[i][j] * z[i][j] * (sigmoid(x[i][j]) - 0.5) / 2
                rz[i][j] = w[i][j] * z[i][j] * sigmoid(x[i][j]) / 2
        return [rx, rz]

    for f in (
        lambda x, z: z * x.sigmoid(),
        lambda x, z: z * (1 / (1 + (-x).exp())),
        lambda x, z: (1 + (-x).exp()) ** -1 * z,
        lambda x, z: x.neg().exp().add(1).reciprocal() * z,
    ):
        check(f, slow, square(1), square(2))


def test_scalar_function_of_a_sum_of_two() -> None:
    """sigmoid(x + z) by hand is one function of the sum u; x and z share u's relevance as terms."""

    def slow(w: Rows, x: Rows, z: Rows) -> list[Rows]:
        rx, rz = zeros(), zeros()
        for i in range(N):
            for j in range(N):
                u = x[i][j] + z[i][j]
                c = w[i][j] * (sigmoid(u) - 0.5) / u
                rx[i][j], rz[i][j] = c * x[i][j], c * z[i][j]
        return [rx, rz]

    check(lambda x, z: 1 / (1 + torch.exp(-(x + z))), slow, square(1), square(2))
    check(lambda x, z: torch.sigmoid(x + z), slow, square(1), square(2))


def test_a_bias_is_no_part_of_the_function() -> None:
    """sigmoid(x + b), fused and by hand: the bias absorbs its share, as a layer's does."""
    bias = [0.3, -1.0, 2.0, 0.7]

    def slow(w: Rows, x: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            for j in range(N):
                u = x[i][j] + bias[j]
                r[i][j] = w[i][j] * (sigmoid(u) - 0.5) * x[i][j] / u
        return [r]

    b = torch.tensor(bias, dtype=torch.float64)
    check(lambda x: torch.sigmoid(x + b), slow, square())
    check(lambda x: 1 / (1 + torch.exp(-(x + b))), slow, square())


def test_a_named_input_inside_is_not_passed_by() -> None:
    x = square()
    with lrp.record():
        e = torch.exp(-x)
        y = 1 / (1 + e)
    run = lrp.propagate(y, (x, e))
    # e is explained as what it is: 1 / (1 + u) with u = 1 + e has its own slope, 1 absorbs.
    for v, r in zip(e.reshape(-1).tolist(), run.relevance[1].reshape(-1).tolist()):
        assert r == pytest.approx(v / (1 + v) ** 2, rel=1e-9)


# -- not a statistic --------------------------------------------------------------------------------


def test_mean_of_squares_as_a_factor() -> None:
    """x * mean(x * x) is a product: half to x, half to the mean, of which each square takes its part."""

    def slow(w: Rows, x: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            mean = sum(v * v for v in x[i]) / N
            for j in range(N):
                y = w[i][j] * x[i][j] * mean
                r[i][j] += y / 2
                for k in range(N):
                    r[i][k] += y / 2 * x[i][k] ** 2 / (N * mean)
        return [r]

    check(lambda x: x * (x * x).mean(-1, keepdim=True), slow, square())
    check(lambda x: x * x.pow(2).mean(-1, keepdim=True), slow, square())


def test_maximum_as_a_factor() -> None:
    def slow(w: Rows, x: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            top = max(range(N), key=lambda k: x[i][k])
            for j in range(N):
                y = w[i][j] * x[i][j] * x[i][top]
                r[i][j] += y / 2
                r[i][top] += y / 2
        return [r]

    check(lambda x: x * x.amax(-1, keepdim=True), slow, square())


def test_reciprocal_of_a_bounded_function_is_a_factor() -> None:
    """z * exp(-x), spelled z * (1 / exp(x)): exp(-0) = 1, so it is a gate and no divisor."""

    def slow(w: Rows, x: Rows, z: Rows) -> list[Rows]:
        rx, rz = zeros(), zeros()
        for i in range(N):
            for j in range(N):
                rx[i][j] = w[i][j] * z[i][j] * (math.exp(-x[i][j]) - 1) / 2
                rz[i][j] = w[i][j] * z[i][j] * math.exp(-x[i][j]) / 2
        return [rx, rz]

    check(lambda x, z: z * (1 / x.exp()), slow, square(1), square(2))
    check(lambda x, z: z * (-x).exp(), slow, square(1), square(2))
