"""Steps of the slow reference: how torch computes one, and what it does to coefficients.

Every step states its own rule on plain numbers: here those of linear steps, by applying them to basis
vectors.
"""

from __future__ import annotations

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
