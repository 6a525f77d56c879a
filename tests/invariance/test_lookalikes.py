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

N = 4
Rows = list[list[float]]


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def square(seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, N, generator=g, dtype=torch.float64).requires_grad_()


def check(f: Callable[..., Tensor], slow: Callable[..., list[Rows]], *xs: Tensor) -> None:
    """The map of ``sum f(*xs)``, sizes of the output weighted by place, against ``slow(weights, *xs)``."""
    with lrp.record():
        y = f(*xs)
        weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view(y.shape)
        total = (y * weights).sum()
    made = lrp.relevance(total, xs)
    expected = slow(weights.tolist(), *(x.tolist() for x in xs))
    for m, e in zip(made, expected):
        torch.testing.assert_close(m, torch.tensor(e, dtype=m.dtype), rtol=1e-8, atol=1e-8)


def zeros() -> Rows:
    return [[0.0] * N for _ in range(N)]


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


# -- not a softmax ----------------------------------------------------------------------------------


def test_divided_by_the_sum_of_another_group() -> None:
    """exp(x) summed over rows but divided along columns: a quotient, all to exp(x) - exp(0)."""

    def slow(w: Rows, x: Rows) -> list[Rows]:
        sums = [sum(math.exp(x[i][j]) for i in range(N)) for j in range(N)]
        return [[[w[i][j] * (math.exp(x[i][j]) - 1) / sums[i] for j in range(N)] for i in range(N)]]

    check(lambda x: x.exp() / x.exp().sum(0).unsqueeze(-1), slow, square())
    check(lambda x: (lambda e: e / e.sum(0)[:, None])(x.exp()), slow, square())
    check(lambda x: (lambda e: e * (1 / e.sum(0))[:, None])(x.exp()), slow, square())


def test_divided_by_the_sum_of_moved_entries() -> None:
    def slow(w: Rows, x: Rows) -> list[Rows]:
        sums = [sum(math.exp(v) for v in row) for row in x]
        return [[[w[i][j] * (math.exp(x[i][j]) - 1) / sums[N - 1 - i] for j in range(N)] for i in range(N)]]

    check(lambda x: (lambda e: e / e.flip(0).sum(1, keepdim=True))(x.exp()), slow, square())


def test_divided_by_the_exps_of_another_tensor() -> None:
    def slow(w: Rows, x: Rows, z: Rows) -> list[Rows]:
        sums = [sum(math.exp(v) for v in row) for row in z]
        return [[[w[i][j] * (math.exp(x[i][j]) - 1) / sums[i] for j in range(N)] for i in range(N)], zeros()]

    check(lambda x, z: x.exp() / z.exp().sum(-1, keepdim=True), slow, square(1), square(2))


def test_maximum_of_another_tensor() -> None:
    """Two exps shifted by the maxima of different tensors are no softmax: a quotient."""

    def slow(w: Rows, x: Rows, z: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            top = max(x[i])
            total = sum(math.exp(v - max(z[i])) for v in x[i])
            for j in range(N):
                u = x[i][j] - top
                c = w[i][j] / total * ((math.exp(u) - 1) / u if u else 1.0)
                r[i][j] += c * x[i][j]
                r[i][x[i].index(top)] -= c * top
        return [r, zeros()]

    def f(x: Tensor, z: Tensor) -> Tensor:
        return (x - x.amax(-1, keepdim=True)).exp() / (x - z.amax(-1, keepdim=True)).exp().sum(
            -1, keepdim=True
        )

    check(f, slow, square(1), square(2))


def test_shift_by_another_tensor_in_one_exp_is_softmax_still() -> None:
    """What is subtracted everywhere cancels: softmax of x, nothing to z."""
    x, z = square(1), square(2)

    def f(x: Tensor, z: Tensor) -> Tensor:
        e = (x - z.amax(-1, keepdim=True)).exp()
        return e / e.sum(-1, keepdim=True)

    weights = torch.arange(16.0, dtype=torch.float64).view(N, N)
    made = lrp.relevance((f(x, z) * weights).sum(), (x, z))
    (expected,) = lrp.relevance((x.softmax(-1) * weights).sum(), x)
    torch.testing.assert_close(made[0], expected)
    assert float(made[1].abs().max()) < 1e-12


def test_exp_of_a_difference_is_not_exp_of_log_softmax() -> None:
    """exp(x - logsumexp(z)) with z another tensor: exp of a sum of terms."""

    def slow(w: Rows, x: Rows, z: Rows) -> list[Rows]:
        r = zeros()
        for i in range(N):
            lse = math.log(sum(math.exp(v) for v in z[i]))
            for j in range(N):
                u = x[i][j] - lse
                r[i][j] = w[i][j] * (math.exp(u) - 1) / u * x[i][j]
        return [r]

    def of_x(x: Tensor) -> Tensor:
        z = square(2)
        return torch.exp(x - z.detach().logsumexp(-1, keepdim=True))

    check(of_x, lambda w, x: slow(w, x, square(2).tolist()), square(1))
    x, z = square(1), square(2)
    run = lrp.propagate(torch.exp(x - z.logsumexp(-1, keepdim=True)), (x, z))
    assert run.rules_used.get("Elementwise()") == 1, run.rules_used
