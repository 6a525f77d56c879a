"""Rules of special functions, scans and linear algebra against slow definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

linalg = torch.linalg


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# -- the secant from 0, function by function ---------------------------------------------------------

SECANTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[float], float]]] = {
    "sin": (torch.sin, math.sin),
    "cos": (torch.cos, math.cos),
    "tan": (torch.tan, math.tan),
    "asin": (torch.asin, math.asin),
    "acos": (torch.acos, math.acos),
    "atan": (torch.atan, math.atan),
    "sinh": (torch.sinh, math.sinh),
    "cosh": (torch.cosh, math.cosh),
    "asinh": (torch.asinh, math.asinh),
    "atanh": (torch.atanh, math.atanh),
    "exp2": (torch.exp2, lambda v: 2.0**v),
    "erfc": (torch.erfc, math.erfc),
    "sinc": (torch.sinc, lambda v: math.sin(math.pi * v) / (math.pi * v) if v else 1.0),
    "log_ndtr": (torch.special.log_ndtr, lambda v: math.log(math.erfc(-v / math.sqrt(2)) / 2)),
    "logsigmoid": (F.logsigmoid, lambda v: -math.log1p(math.exp(-v))),
    "softshrink": (F.softshrink, lambda v: math.copysign(max(abs(v) - 0.5, 0.0), v)),
    "hardshrink": (F.hardshrink, lambda v: v if abs(v) > 0.5 else 0.0),
    "threshold": (lambda t: F.threshold(t, 0.1, 2.0), lambda v: v if v > 0.1 else 2.0),
    "elu_": (lambda t: F.elu(t.clone(), inplace=True), lambda v: v if v > 0 else math.expm1(v)),
    "3**": (lambda t: 3**t, lambda v: 3.0**v),
    "floor": (lambda t: torch.floor(4 * t), lambda v: math.floor(4 * v)),
    "frac": (lambda t: torch.frac(4 * t), lambda v: 4 * v - math.trunc(4 * v)),
    "sign": (torch.sign, lambda v: float((v > 0) - (v < 0))),
    "fmod": (lambda t: torch.fmod(t, 0.3), lambda v: math.fmod(v, 0.3)),
}  # fmt: skip


@pytest.mark.parametrize("name", SECANTS)
def test_an_entry_gets_what_it_adds_to_the_value_at_0(name: str) -> None:
    f, by_hand = SECANTS[name]
    x = leaf(-0.83, -0.31, 0.0, 0.17, 0.71)
    with lrp.record():
        y = f(x)
    run = lrp.propagate(y, x, ledger=True)
    for k, v in enumerate(x.tolist()):
        assert float(run.relevance[0][k]) == pytest.approx(by_hand(v) - by_hand(0.0), abs=1e-9), v
    assert run.ledger is not None and run.ledger.closed


@pytest.mark.parametrize("name", [n for n in SECANTS if n not in ("floor", "sign")])
def test_the_slope_at_0_is_the_derivative(name: str) -> None:
    f, by_hand = SECANTS[name]
    x = leaf(0.0)
    with lrp.record():
        (c,) = lrp.propagate(f(x), x).coefficients
    assert c is not None
    assert float(c) == pytest.approx((by_hand(1e-6) - by_hand(-1e-6)) / 2e-6, abs=1e-5)


@pytest.mark.parametrize(
    "name", ["sin", "tan", "asin", "atan", "sinh", "asinh", "atanh", "acos", "erfc", "exp2"]
)
def test_slopes_keep_their_digits_near_0(name: str) -> None:
    f, by_hand = SECANTS[name]
    x = leaf(1e-13)
    (c,) = lrp.propagate(f(x), x).coefficients
    assert c is not None
    assert float(c) == pytest.approx((by_hand(1e-5) - by_hand(-1e-5)) / 2e-5, rel=1e-9)


@pytest.mark.parametrize(
    ("f", "by_hand"),
    [
        (torch.log2, math.log2),
        (torch.log10, math.log10),
        (torch.lgamma, math.lgamma),
        (lambda t: torch.logit(t / 4), lambda v: math.log(v / 4 / (1 - v / 4))),
    ],
)
def test_with_a_pole_at_0_an_entry_gets_all(f, by_hand) -> None:
    x = leaf(0.3, 1.7, 2.6)
    (r,) = lrp.relevance(f(x), x)
    assert r.tolist() == pytest.approx([by_hand(v) for v in x.tolist()])


# -- several operands --------------------------------------------------------------------------------


def test_two_operand_functions_entry_by_entry() -> None:
    a, b = leaf(0.7, -1.2), leaf(1.6, 0.4)
    ra, rb = lrp.relevance(torch.atan2(a, b), (a, b))
    assert ra.tolist() == pytest.approx([math.atan2(0.7, 1.6), math.atan2(-1.2, 0.4)])  # all to the numerator
    assert not rb.any()
    ra, rb = lrp.relevance(torch.hypot(a, b), (a, b))
    for k, (u, v) in enumerate(zip(a.tolist(), b.tolist())):
        assert [float(ra[k]), float(rb[k])] == pytest.approx(
            [u * u / math.hypot(u, v), v * v / math.hypot(u, v)]
        )
    p, q = leaf(2.0, 3.0), leaf(1.5, -0.5)
    rp, rq = lrp.relevance(p**q, (p, q))
    assert rp.tolist() == pytest.approx([2.0**1.5, 3.0**-0.5])
    assert not rq.any()
    (rq,) = lrp.relevance(p.detach() ** q, q)
    assert rq.tolist() == pytest.approx([2.0**1.5 - 1, 3.0**-0.5 - 1])


def test_lerp_addcmul_addcdiv_term_by_term() -> None:
    s, a, b = leaf(0.7), leaf(-1.3), leaf(0.4)
    v = 0.5
    got = torch.stack(lrp.relevance(torch.lerp(s, a, b), (s, a, b)))
    terms = [0.7, 0.4 * -1.3, -0.4 * 0.7]  # start, weight * end, -weight * start: products are halved
    assert got[:, 0].tolist() == pytest.approx([
        terms[0] + terms[2] / 2, terms[1] / 2, terms[1] / 2 + terms[2] / 2
    ])  # fmt: skip
    got = torch.stack(lrp.relevance(torch.addcmul(s, a, b, value=v), (s, a, b)))
    assert got[:, 0].tolist() == pytest.approx([0.7, v * -1.3 * 0.4 / 2, v * -1.3 * 0.4 / 2])
    got = torch.stack(lrp.relevance(torch.addcdiv(s, a, b, value=v), (s, a, b)))
    assert got[:, 0].tolist() == pytest.approx([0.7, v * -1.3 / 0.4, 0.0])


SPELLED = {
    "glu": (lambda a, b: F.glu(torch.cat([a, b], -1)), lambda a, b: a * b.sigmoid()),
    "xlogy": (torch.xlogy, lambda a, b: a * b.log()),
    "remainder": (torch.remainder, lambda a, b: a - b * (a / b).floor()),
    "ldexp": (torch.ldexp, lambda a, b: a * b.exp2()),
    "prelu": (lambda a, b: F.prelu(a[None], b)[0], lambda a, b: a.clamp_min(0) + b * a.clamp_max(0)),
    "clamp": (lambda a, b: torch.clamp(a, max=b), torch.minimum),
    "polar": (lambda a, b: torch.view_as_real(torch.polar(a, b)),
        lambda a, b: torch.stack([a * b.cos(), a * b.sin()], -1)),
    "foreach": (lambda a, b: torch.stack(torch._foreach_mul([a, b], [b, a])),
        lambda a, b: torch.stack([a * b, b * a])),
}  # fmt: skip


@pytest.mark.parametrize("rules", ["default", "dynamiclrp"])
@pytest.mark.parametrize("name", SPELLED)
def test_a_fused_op_is_what_it_is_made_of(name: str, rules: str) -> None:
    fused, spelled = SPELLED[name]
    a, b = leaf(0.7, 1.9, 0.4), leaf(1.6, 0.8, 0.6)
    for got, expected in zip(
        lrp.relevance(fused(a, b), (a, b), rules=rules), lrp.relevance(spelled(a, b), (a, b), rules=rules)
    ):
        torch.testing.assert_close(got, expected)


BOUNDS = {
    "clamp_min": (torch.clamp_min, max),
    "clamp_max": (torch.clamp_max, min),
    "clamp, from below": (lambda x, b: torch.clamp(x, min=b), max),
    "clamp, from above": (lambda x, b: torch.clamp(x, max=b), min),
    "clamp, both": (lambda x, b: torch.clamp(x, b - 9, b), min),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_takes_what_it_replaced_and_nothing_where_it_is_met(name: str) -> None:
    f, by_hand = BOUNDS[name]
    x, bound = leaf(0.5, 1.3, 0.2), leaf(0.5, 0.5, 0.5)
    of_x, of_bound = lrp.relevance(f(x, bound), (x, bound))
    for i, (a, b) in enumerate(zip(x.tolist(), bound.tolist())):
        kept = by_hand(a, b) == a
        assert (of_x[i], of_bound[i]) == ((a, 0) if kept else (0, pytest.approx(b)))


# -- scans, counts -----------------------------------------------------------------------------------


def test_each_factor_of_a_cumulative_product_takes_its_part() -> None:
    x = leaf(0.7, -1.3, 2.1)
    (r,) = lrp.relevance(x.cumprod(0), x)
    values, expected = x.tolist(), [0.0, 0.0, 0.0]
    for j in range(3):
        for i in range(j + 1):
            expected[i] += math.prod(values[: j + 1]) / (j + 1)
    assert r.tolist() == pytest.approx(expected)


def test_equal_entries_share_a_unique_value() -> None:
    x = leaf(2.0, 5.0, 2.0, 3.0, 2.0)
    with lrp.record():
        y = x.unique()
    (r,) = lrp.relevance(y, x)
    assert r.tolist() == pytest.approx([2 / 3, 5.0, 2 / 3, 3.0, 2 / 3])


def test_segments_of_products() -> None:
    x = leaf(0.7, -1.3, 2.1)
    (r,) = lrp.relevance(torch.segment_reduce(x, "prod", lengths=torch.tensor([1, 2])), x)
    assert r.tolist() == pytest.approx([0.7, -1.3 * 2.1 / 2, -1.3 * 2.1 / 2])


# -- linear algebra ----------------------------------------------------------------------------------

EULER = {
    "det": (linalg.det, 3),
    "inverse": (linalg.inv, -1),
    "pseudo-inverse": (linalg.pinv, -1),
    "R of qr": (lambda a: linalg.qr(a).R, 1),
    "singular values": (linalg.svdvals, 1),
    "U of lu": (lambda a: linalg.lu(a).U, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", EULER)
def test_eulers_rule_by_finite_differences(name: str) -> None:
    f, degree = EULER[name]
    a = (random(3, 3) + 3 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    (r,) = lrp.relevance(f(a), a)
    at = a.detach()
    for i in range(3):
        for j in range(3):
            step = torch.zeros_like(at)
            step[i, j] = 1e-5
            slope = float((f(at + step) - f(at - step)).sum()) / 2e-5
            assert float(r[i, j]) == pytest.approx(float(at[i, j]) * slope / degree, abs=1e-7)
    assert float(r.sum()) == pytest.approx(float(f(at).sum()))


def test_log_determinant_conserves_where_the_determinant_overflows() -> None:
    a = (1e3 * torch.eye(150, dtype=torch.float64)).requires_grad_()
    y = linalg.slogdet(a).logabsdet
    (r,) = lrp.relevance(y, a)
    assert float(r.sum()) == pytest.approx(150 * math.log(1e3))
    assert r.diagonal().tolist() == pytest.approx([math.log(1e3)] * 150)


def test_a_solution_belongs_to_its_right_side() -> None:
    a = (random(3, 3) + 3 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    b = random(3, 2, seed=1).requires_grad_()
    y = linalg.solve(a, b)
    ra, rb = lrp.relevance(y, (a, b))
    inverse = a.detach().inverse()
    for i in range(3):
        for j in range(2):
            expected = sum(float(inverse[k, i]) for k in range(3)) * float(b.detach()[i, j])
            assert float(rb[i, j]) == pytest.approx(expected)
    assert not ra.any()
    (ra,) = lrp.relevance(linalg.solve(a, b.detach()), a)
    assert float(ra.sum()) == pytest.approx(float(y.detach().sum()))


def test_a_factored_matrix_is_scaled_by_its_upper_factor() -> None:
    a = (random(3, 3) + 3 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    b = random(3, 2, seed=1)
    lu, pivots = linalg.lu_factor(a)
    with lrp.record():
        y = linalg.lu_solve(lu, pivots, b)
    run = lrp.propagate(y, a, at=lu, ledger=True)
    p, lower, upper = (t.detach() for t in torch.lu_unpack(lu, pivots))
    for i in range(3):
        for j in range(3):
            if j < i:
                assert run.at[0][i, j] == 0
                continue
            step = torch.zeros_like(upper)
            step[i, j] = 1e-6
            far, near = (linalg.solve(p @ lower @ (upper + s * step), b).sum() for s in (1, -1))
            slope = float(far - near) / 2e-6
            assert float(run.at[0][i, j]) == pytest.approx(-slope * float(upper[i, j]), rel=1e-6)
    assert float(run.relevance[0].sum()) == pytest.approx(float(y.detach().sum()))
    assert run.ledger is not None and run.ledger.closed, run.ledger


def test_matrix_exponential_is_its_secant_from_0() -> None:
    diagonal = torch.diag(leaf(0.7, -2.0).detach()).requires_grad_()
    (r,) = lrp.relevance(linalg.matrix_exp(diagonal).diagonal(), diagonal)
    assert r.diagonal().tolist() == pytest.approx([math.exp(0.7) - 1, math.exp(-2.0) - 1])
    nilpotent = torch.tensor([[0.0, 1.7], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (r,) = lrp.relevance(linalg.matrix_exp(nilpotent), nilpotent)  # 1 + A, no more
    torch.testing.assert_close(r, nilpotent.detach())
    a = random(3, 3).requires_grad_()
    y = linalg.matrix_exp(a)
    (r,) = lrp.relevance(y, a)
    assert float(r.sum()) == pytest.approx(float(y.detach().sum()) - 3)


REFUSED = {
    "Q of qr": lambda a: linalg.qr(a).Q,
    "U of svd": lambda a: linalg.svd(a).U,
    "eigenvectors": lambda a: linalg.eigh(a + a.mT).eigenvectors,
    "L of lu": lambda a: linalg.lu(a).L,
    "L of lu_factor": lambda a: linalg.lu_factor(a).LU,
    "sign": lambda a: linalg.slogdet(a).sign,
    "count": lambda a: linalg.vector_norm(a, 0),
    "implied ones": lambda a: linalg.solve_triangular(
        a, torch.ones(3, 1, dtype=torch.float64), upper=True, unitriangular=True),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_scaling_does_not_change_refuses_relevance(name: str) -> None:
    a = (random(3, 3) + 3 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    with pytest.raises(lrp.MissingRule, match="cure: detach"):
        lrp.relevance(REFUSED[name](a), a)


def test_a_fused_variance_and_mean_normalise_as_the_plain_ones_do() -> None:
    x = random(2, 6).requires_grad_()
    var, mean = torch.var_mean(x, -1, keepdim=True)
    (fused,) = lrp.relevance((x - mean) * (var + 1e-5).rsqrt(), x)
    plain = (x - x.mean(-1, True)) * (x.var(-1, keepdim=True) + 1e-5).rsqrt()
    torch.testing.assert_close(fused, lrp.relevance(plain, x)[0])
