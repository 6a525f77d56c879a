"""What looks like a softmax and is none: quotients, all to the numerator, ``exp(x) - exp(0)``."""

from __future__ import annotations

import math
from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor

from .slow import N, Rows, check, square, zeros


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


def test_divided_by_a_sum_of_its_own_exps() -> None:
    """x / sum(exp(x)): the numerator is no exp of what is summed."""

    def slow(w: Rows, x: Rows) -> list[Rows]:
        sums = [sum(math.exp(v) for v in row) for row in x]
        return [[[w[i][j] * x[i][j] / sums[i] for j in range(N)] for i in range(N)]]

    check(lambda x: x / x.exp().sum(-1, keepdim=True), slow, square())


def test_weights_over_the_sums_of_another_dimension() -> None:
    """Slot attention: softmax over rows, divided by the sums over columns, which are held as any scale."""

    def slow(w: Rows, x: Rows) -> list[Rows]:
        p = [[math.exp(v) / sum(math.exp(u) for u in row) for v in row] for row in x]
        columns = [sum(p[i][j] for i in range(N)) for j in range(N)]
        r = zeros()
        for i in range(N):
            c = [w[i][j] / columns[j] for j in range(N)]
            mean = sum(c[j] * p[i][j] for j in range(N))
            for j in range(N):
                r[i][j] = x[i][j] * p[i][j] * (c[j] - mean)
        return [r]

    check(lambda x: (lambda p: p / p.sum(0, keepdim=True))(x.softmax(-1)), slow, square())


def test_logsumexp_of_the_other_dimension() -> None:
    """exp(x - logsumexp) with the logsumexp of columns put at the rows: exp of a sum of terms."""

    def slow(w: Rows, x: Rows) -> list[Rows]:
        r = zeros()
        sums = [sum(math.exp(x[i][j]) for i in range(N)) for j in range(N)]
        for i in range(N):
            for j in range(N):
                u = x[i][j] - math.log(sums[i])
                c = w[i][j] * (math.exp(u) - 1) / u
                r[i][j] += c * x[i][j]
                for k in range(N):
                    r[k][i] -= c * x[k][i] * math.exp(x[k][i]) / sums[i]
        return [r]

    check(lambda x: torch.exp(x - x.logsumexp(0)[:, None]), slow, square())


def test_shifted_by_two_maxima() -> None:
    """Numerator and sum less maxima over different dimensions: a quotient."""
    x = square()
    y = (x - x.amax(0)[:, None]).exp() / (x - x.amax(1)[:, None]).exp().sum(-1, keepdim=True)
    assert "Gradient()" not in lrp.propagate(y, x).rules_used


def test_divided_by_a_sum_of_powers_of_another_base() -> None:
    def slow(w: Rows, x: Rows) -> list[Rows]:
        sums = [sum(2.0**v for v in row) for row in x]
        return [[[w[i][j] * (math.exp(x[i][j]) - 1) / sums[i] for j in range(N)] for i in range(N)]]

    check(lambda x: x.exp() / torch.exp2(x).sum(-1, keepdim=True), slow, square())


NO_SOFTMAX: dict[str, Callable[[Tensor], Tensor]] = {
    "times the sum": lambda x: x.exp() * x.logsumexp(-1, keepdim=True).exp(),
    "turned, times the sum": lambda x: (-x).exp() * x.exp().sum(-1, keepdim=True),
    "turned twice": lambda x: x.exp() * x.logsumexp(-1, keepdim=True).neg().neg().exp(),
    "logits turned": lambda x: x.exp() / (-x).exp().sum(-1, keepdim=True),
    "logits turned in log space": lambda x: torch.exp(-x - x.logsumexp(-1, keepdim=True)),
    "logsumexp added": lambda x: torch.exp(x + x.logsumexp(-1, keepdim=True)),
    "a maximum left over": lambda x: torch.exp(
        x - (x.amax(-1, keepdim=True) + x.exp().sum(-1, keepdim=True).log())
    ),
    "a maximum of another dimension": lambda x: torch.exp(
        x - (x.amax(0, keepdim=True).mT + (x - x.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True).log())
    ),
    "a log-softmax less its maximum": lambda x: (lambda u: torch.exp(u - u.amax(-1, keepdim=True)))(
        x - x.logsumexp(-1, keepdim=True)
    ),
    "half of a logsumexp": lambda x: torch.exp(torch.sub(x, x.logsumexp(-1, keepdim=True), alpha=0.5)),
    "the 2-norm of exps": lambda x: torch.nn.functional.normalize(x.exp(), dim=-1),
    "several sums with weights": lambda x: x.exp() / (x.exp() @ square(3).detach()),
    "rows of the other side": lambda x: x.exp() / (x.exp() @ torch.ones(N, 1).to(x)).mT,
}


@pytest.mark.parametrize("name", NO_SOFTMAX)
def test_the_exp_keeps_its_secant(name: str) -> None:
    """Nothing that looks like a softmax only in part takes the rule of one."""
    x = square()
    with lrp.record():
        y = NO_SOFTMAX[name](x)
    weights = torch.arange(1.0, y.numel() + 1, dtype=y.dtype).view(y.shape)
    (whole,) = torch.autograd.grad((y * weights).sum(), x, retain_graph=True)
    (made,) = lrp.relevance((y * weights).sum(), x)
    assert float((made - whole * x.detach()).abs().max()) > 1e-3  # else all parts took their gradient


def test_log_of_a_logsumexp_of_exps() -> None:
    """A logarithm of what is itself one: the outer log is a function with its own secant from 0."""
    x = square()
    y = x.exp().logsumexp(-1).log()
    used = lrp.propagate(y, x).rules_used
    assert used["Gradient()"] == 1, used  # the logsumexp alone
