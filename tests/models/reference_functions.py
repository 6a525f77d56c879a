"""Steps of the slow reference that are not linear: functions by entries, products and softmax by loops."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference_steps import COLUMNS, ROWS, STEPS, Model, Slow, by_basis, entrywise, step


def _sigmoid(v: float) -> float:
    return (1 + math.tanh(v / 2)) / 2  # exp(-v) may overflow


# -- elementwise ------------------------------------------------------------------------------------


@step(1, entrywise(lambda v: max(v, 0.0), 0.0))
def relu(m: Model, a: Tensor) -> Tensor:
    return a.relu()


@step(1, entrywise(lambda v: max(v, 0.0), 0.0))
def relu_in_place(m: Model, a: Tensor) -> Tensor:
    return a.clone().relu_()


@step(1, entrywise(math.tanh, 1.0))
def tanh(m: Model, a: Tensor) -> Tensor:
    return a.tanh()


def then_summed(slow: Slow) -> Slow:
    """A running sum after a step: a function of a function with f(0) not 0 would be looked at as one."""

    def both(m: Model, c: Tensor, x: Tensor) -> list[Tensor]:
        return slow(m, by_basis(lambda t: t.cumsum(-1), x, c), x)

    return both


@step(1, then_summed(entrywise(_sigmoid, 0.25)))
def sigmoid(m: Model, a: Tensor) -> Tensor:
    return a.sigmoid().cumsum(-1)


@step(1, entrywise(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))), 0.5))
def gelu(m: Model, a: Tensor) -> Tensor:
    return F.gelu(a)


@step(1, entrywise(lambda v: v * _sigmoid(v), 0.5))
def silu(m: Model, a: Tensor) -> Tensor:
    return F.silu(a)


@step(1, entrywise(lambda v: v * _sigmoid(v), 0.5))
def silu_by_hand(m: Model, a: Tensor) -> Tensor:
    return a * a.sigmoid()


@step(1, entrywise(lambda v: math.exp(math.tanh(v)), 1.0))
def exp_of_tanh(m: Model, a: Tensor) -> Tensor:
    # Two elementwise ops after each other, each with its own secant.
    return a.tanh().exp().cumsum(-1)


def _two_secants(m: Model, c: Tensor, x: Tensor) -> list[Tensor]:
    (inner,) = entrywise(math.exp, 1.0)(m, c, x.tanh())
    return entrywise(math.tanh, 1.0)(m, inner, x)


STEPS["exp_of_tanh"] = (1, exp_of_tanh, then_summed(_two_secants))


@step(1, entrywise(lambda v: v**3, 0.0))
def cubed(m: Model, a: Tensor) -> Tensor:
    return a.tanh() ** 3


STEPS["cubed"] = (
    1,
    cubed,
    lambda m, c, x: entrywise(math.tanh, 1.0)(m, entrywise(lambda v: v**3, 0.0)(m, c, x.tanh())[0], x),
)


# -- products, selections, statistics ---------------------------------------------------------------


def _slow_product(m: Model, c: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    w, v = m.constant(COLUMNS, COLUMNS).detach(), m.constant(COLUMNS, COLUMNS).detach()
    left, right = a @ w, b @ v
    return [by_basis(lambda t: t @ w, a, c * right / 2), by_basis(lambda t: t @ v, b, c * left / 2)]


@step(2, _slow_product)
def product(m: Model, a: Tensor, b: Tensor) -> Tensor:
    return (a @ m.constant(COLUMNS, COLUMNS)) * (b @ m.constant(COLUMNS, COLUMNS))


def _slow_attention(m: Model, c: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    w = m.constant(COLUMNS, COLUMNS).detach()
    out_a, out_b = torch.zeros_like(a), torch.zeros_like(b)
    bw = b @ w
    for i in range(ROWS):
        for j in range(ROWS):
            for k in range(COLUMNS):
                # z_ij = sum_k a_ik bw_jk, each factor takes half.
                out_a[i, k] += c[i, j] * bw[j, k] / 2
                out_b[j] += c[i, j] * a[i, k] * w[:, k] / 2
    return [out_a, out_b]


@step(2, lambda m, c, a, b: _slow_attention(m, c[:, :ROWS], a, b))
def matmul_of_two(m: Model, a: Tensor, b: Tensor) -> Tensor:
    return F.pad(a @ (b @ m.constant(COLUMNS, COLUMNS)).t(), (0, COLUMNS - ROWS))


def _slow_max(m: Model, c: Tensor, a: Tensor) -> list[Tensor]:
    out = torch.zeros_like(a)
    for i in range(ROWS):
        row = a[i].tolist()
        out[i, row.index(max(row))] = c[i].sum()
    return [out]


@step(1, _slow_max)
def row_maximum(m: Model, a: Tensor) -> Tensor:
    return a.max(-1, keepdim=True).values.expand(ROWS, COLUMNS)


def _slow_softmax(m: Model, c: Tensor, a: Tensor) -> list[Tensor]:
    out = torch.zeros_like(a)
    for i in range(ROWS):
        e = [math.exp(v) for v in a[i].tolist()]
        p = [v / sum(e) for v in e]
        for j in range(COLUMNS):
            for k in range(COLUMNS):
                out[i, j] += float(c[i, k]) * p[k] * ((j == k) - p[j])
    return [out]


@step(1, _slow_softmax)
def softmax(m: Model, a: Tensor) -> Tensor:
    return a.softmax(-1)


def _slow_layer_norm(m: Model, c: Tensor, a: Tensor) -> list[Tensor]:
    gain = m.constant(COLUMNS).detach()
    m.constant(COLUMNS)
    out = torch.zeros_like(a)
    for i in range(ROWS):
        values = a[i].tolist()
        mean = sum(values) / COLUMNS
        rstd = 1 / math.sqrt(sum((v - mean) ** 2 for v in values) / COLUMNS + 1e-5)
        for j in range(COLUMNS):
            for k in range(COLUMNS):
                # y_k = gain_k rstd (x_k - mean), rstd held
                out[i, j] += c[i, k] * gain[k] * rstd * ((j == k) - 1 / COLUMNS)
    return [out]


@step(1, _slow_layer_norm)
def layer_norm(m: Model, a: Tensor) -> Tensor:
    return F.layer_norm(a, (COLUMNS,), m.constant(COLUMNS), m.constant(COLUMNS))
