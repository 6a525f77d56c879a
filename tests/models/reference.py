"""A slow reference: a program is a list of steps, relevance a dictionary of coefficients.

Nothing here looks at autograd. Every step states its own rule on plain numbers: linear steps by
applying them to basis vectors, elementwise steps entry by entry, products and softmax by loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS, COLUMNS = 2, 4
DTYPE = torch.float64


@dataclass
class Model:
    """Constants of a program; the same seed gives the same ones, frozen or trainable."""

    seed: int
    trainable: bool = False
    made: list[Tensor] = field(default_factory=list)
    _at: int = 0

    def constant(self, *shape: int) -> Tensor:
        """The next constant, in order of use."""
        if self._at == len(self.made):
            g = torch.Generator().manual_seed(self.seed * 1000 + self._at)
            t = torch.randn(*shape, generator=g, dtype=DTYPE) * 0.5
            self.made.append(t.requires_grad_(self.trainable))
        self._at += 1
        return self.made[self._at - 1]

    def rewind(self) -> None:
        self._at = 0


# A step: how torch computes it, and what it does to coefficients. Both get the model for constants.
Call = Callable[..., Tensor]
Slow = Callable[..., list[Tensor]]
STEPS: dict[str, tuple[int, Call, Slow]] = {}


def step(arity: int, slow: Slow) -> Callable[[Call], Call]:
    def register(call: Call) -> Call:
        STEPS[call.__name__] = (arity, call, slow)
        return call

    return register


def by_basis(f: Callable[[Tensor], Tensor], x: Tensor, c: Tensor) -> Tensor:
    """J^T c of an affine f, one basis vector after the other."""
    zero = torch.zeros_like(x)
    at_zero = f(zero)
    out = torch.zeros_like(x)
    for k in range(x.numel()):
        e = zero.clone()
        e.view(-1)[k] = 1.0
        out.view(-1)[k] = float(((f(e) - at_zero) * c).sum())
    return out


def linear(call: Call) -> Slow:
    """Every operand of an op that is affine in all of them jointly."""

    def slow(m: Model, c: Tensor, *xs: Tensor) -> list[Tensor]:
        start, made = m._at, []
        for i in range(len(xs)):
            m._at = start
            zeros = [torch.zeros_like(x) for x in xs]

            def of_one(t: Tensor, i: int = i, zeros: list[Tensor] = zeros) -> Tensor:
                m._at = start
                return call(m, *zeros[:i], t, *zeros[i + 1 :]).detach()

            made.append(by_basis(of_one, xs[i], c))
        return made

    return slow


def entrywise(f: Callable[[float], float], limit: float) -> Slow:
    def slow(m: Model, c: Tensor, x: Tensor) -> list[Tensor]:
        out = torch.zeros_like(x)
        for k, v in enumerate(x.reshape(-1).tolist()):
            slope = (f(v) - f(0.0)) / v if v else limit
            out.view(-1)[k] = slope * float(c.reshape(-1)[k])
        return [out]

    return slow


def _sigmoid(v: float) -> float:
    return (1 + math.tanh(v / 2)) / 2  # exp(-v) may overflow


def affine_step(call: Call) -> Call:
    STEPS[call.__name__] = (call.__code__.co_argcount - 1, call, linear(call))
    return call


# -- linear and moving ------------------------------------------------------------------------------


@affine_step
def add(m: Model, a: Tensor, b: Tensor) -> Tensor:
    return a + b


@affine_step
def subtract_scaled(m: Model, a: Tensor, b: Tensor) -> Tensor:
    return torch.sub(a, b, alpha=0.5)


@affine_step
def add_in_place(m: Model, a: Tensor, b: Tensor) -> Tensor:
    return a.clone().add_(b)


@affine_step
def add_constant(m: Model, a: Tensor) -> Tensor:
    return a + m.constant(COLUMNS)


@affine_step
def scale(m: Model, a: Tensor) -> Tensor:
    return a * -0.7


@affine_step
def dense(m: Model, a: Tensor) -> Tensor:
    return F.linear(a, m.constant(COLUMNS, COLUMNS), m.constant(COLUMNS))


@affine_step
def dense_no_bias(m: Model, a: Tensor) -> Tensor:
    return a @ m.constant(COLUMNS, COLUMNS)


@affine_step
def halves_swapped(m: Model, a: Tensor) -> Tensor:
    left, right = a.split(COLUMNS // 2, -1)
    return torch.cat([right, left], -1)


@affine_step
def one_half_only(m: Model, a: Tensor) -> Tensor:
    return torch.cat([a.chunk(2, -1)[1]] * 2, -1)


@affine_step
def half_constant(m: Model, a: Tensor) -> Tensor:
    return torch.cat([a[:, :2], m.constant(ROWS, 2)], -1)


@affine_step
def transposed_view(m: Model, a: Tensor) -> Tensor:
    return a.t().reshape(ROWS, COLUMNS)


@affine_step
def mean_expanded(m: Model, a: Tensor) -> Tensor:
    return a.mean(-1, keepdim=True).expand(ROWS, COLUMNS)


@affine_step
def running_sum(m: Model, a: Tensor) -> Tensor:
    return a.cumsum(-1)


@affine_step
def masked(m: Model, a: Tensor) -> Tensor:
    return torch.where(torch.arange(COLUMNS) % 2 == 0, a, 0.3)


@affine_step
def filled(m: Model, a: Tensor) -> Tensor:
    return a.masked_fill(torch.arange(COLUMNS) == 1, 0.25)


@affine_step
def padded(m: Model, a: Tensor) -> Tensor:
    return F.pad(a[:, :3], (1, 0), value=0.5)


@affine_step
def picked(m: Model, a: Tensor) -> Tensor:
    return a[:, torch.tensor([3, 0, 0, 2])]


@affine_step
def slice_written(m: Model, a: Tensor, b: Tensor) -> Tensor:
    base = a.clone()
    base[:, 1:3] = b[:, :2]
    return base


@affine_step
def stacked(m: Model, a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([a, b]).sum(0)


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


# -- programs ---------------------------------------------------------------------------------------

Program = list[tuple[str, tuple[int, ...]]]


def run(program: Program, model: Model, x: Tensor) -> list[Tensor]:
    """All tensors of the program; tensor 0 is x. Each is squashed so that nothing overflows."""
    model.rewind()
    made = [x]
    for name, operands in program:
        made.append(STEPS[name][1](model, *(made[i] for i in operands)))
    return made


def explain(program: Program, model: Model, x: Tensor) -> Tensor:
    """Relevance of x for the last tensor, R = y, by the dictionary."""
    with torch.no_grad():
        values = run(program, model, x)
        coefficients: dict[int, Tensor] = {len(program): torch.ones_like(values[-1])}
        used = _constants_used(program, model, x)
        for k in range(len(program), 0, -1):
            c = coefficients.pop(k, None)
            if c is None:
                continue
            name, operands = program[k - 1]
            model._at = used[k - 1]
            entries = STEPS[name][2](model, c, *(values[i] for i in operands))
            for i, entry in zip(operands, entries):
                coefficients[i] = coefficients.get(i, torch.zeros_like(x)) + entry
        return x * coefficients.get(0, torch.zeros_like(x))


def _constants_used(program: Program, model: Model, x: Tensor) -> list[int]:
    model.rewind()
    made, at = [x], []
    for name, operands in program:
        at.append(model._at)
        made.append(STEPS[name][1](model, *(made[i] for i in operands)))
    return at
