"""Random programs of any installed pack's samples: what they are, how they run, how they are drawn.

A program is data: a step names a sample and the tensors it reads. All else that is random about a step
(how shapes are adapted, what its constants are) follows from the step's seed, so a program that lost a
step still means something, and a finding can be shrunk.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from dynamiclrp_core.packs.plugins import samples
from dynamiclrp_core.samples import Sample
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BATCH, WIDTH = 2, 4
CONSTANT = -1
LARGE = 1e3


class Step(NamedTuple):
    """``reads[i]``: the tensor that operand i is made of, or CONSTANT. Steps in a row that have one
    ``region`` other than 0 run in one checkpoint, a reentrant one if it is odd."""

    call: str
    reads: tuple[int, ...]
    seed: int
    region: int = 0


@dataclass(frozen=True)
class Program:
    """Tensors 0 ... ``inputs`` - 1 are the inputs, the next ones the steps' results. The last ``outputs``
    results are explained."""

    seed: int
    steps: tuple[Step, ...]
    inputs: int = 1
    outputs: int = 1

    def without(self, first: int, last: int) -> Program:
        """The program without the steps from ``first`` to before ``last``: input 0 takes their place."""
        start, count = self.inputs + first, last - first

        def now(i: int) -> int:
            return i if i < start else 0 if i < start + count else i - count

        kept = [s for k, s in enumerate(self.steps) if not first <= k < last]
        steps = tuple(s._replace(reads=tuple(now(i) for i in s.reads)) for s in kept)
        return Program(self.seed, steps, self.inputs, min(self.outputs, max(len(steps), 1)))


class Call(NamedTuple):
    """A sample, and along which dimension its outputs are batched (None: they are not)."""

    sample: Sample
    batched: tuple[int | None, ...]


def _results(made: object) -> list[Tensor]:
    """The tensors of numbers that a sample's call made."""
    given = made if isinstance(made, tuple | list) else (made,)
    numbers = [y for y in given if isinstance(y, Tensor) and (y.is_floating_point() or y.is_complex())]
    return [y.to_dense() if y.layout != torch.strided else y for y in numbers]


def _batch_dims(sample: Sample) -> tuple[int | None, ...]:
    """Where the batch stands in each output: the one size that follows n."""
    if not sample.batched:
        return (None,) * 99
    try:
        shapes = [[y.shape for y in _results(sample.call(*sample.tensors(0, n)))] for n in (1, 2, 3)]
    except (RuntimeError, IndexError, ValueError):
        return (None,) * 99
    found: list[int | None] = []
    for sizes in zip(*shapes):
        dims = [d for d, n in enumerate(zip(*sizes)) if n == (1, 2, 3)]
        one = len({len(s) for s in sizes}) == 1 and len(dims) == 1
        rest = one and len({tuple(s[: dims[0]] + s[dims[0] + 1 :]) for s in sizes}) == 1
        found.append(dims[0] if rest else None)
    return tuple(found)


@lru_cache(maxsize=1)
def catalogue() -> dict[str, Call]:
    """Every installed sample that runs in float64, by a name that tells it from the others.

    Ties are for the kit alone: a value that is computed again may miss them by its last digit.
    """
    found: dict[str, Call] = {}
    for _, sample in samples():
        if torch.float64 in sample.dtypes and sample.label != "ties":
            name = str(sample)
            while name in found:
                name += "'"
            found[name] = Call(sample, _batch_dims(sample))
    return found


# -- running ----------------------------------------------------------------------------------------


def _tame(x: Tensor, rng: random.Random) -> Tensor:
    """Sometimes something that keeps the numbers of a long program small."""
    how = rng.randrange(8)
    if how == 0:
        return x.tanh()
    if how == 1:
        return x / (1 + x.abs())
    if how == 2 and x.dim() > 1 and x.shape[-1] > 1:
        return torch.nn.functional.layer_norm(x, x.shape[-1:])
    return x * 0.5 if how == 3 else x


def _in_domain(x: Tensor, domain: str, rng: random.Random) -> Tensor:
    if domain == "positive":
        return rng.choice((lambda t: t.abs() + 0.1, lambda t: t.sigmoid() + 0.1, lambda t: t * t + 0.1))(x)
    if domain == "unit":
        return x.tanh() * 0.9
    if domain == "distinct":
        count = x[0].numel() if x.dim() else 1
        order = torch.tensor(rng.sample(range(count), count), dtype=x.dtype)
        return x.tanh() / 20 + (order / 7 - count / 15).view(x.shape[1:])
    return x


def _resized(x: Tensor, width: int, rng: random.Random) -> Tensor:
    """``x`` of shape (n, k) as (n, width), by a view, a reduction, an index or a copy."""
    n, k = x.shape
    how = rng.randrange(3)
    if k == 0 or width == 0:
        return x.new_zeros(n, width) + x.sum(-1, keepdim=True)
    if k >= width:
        if how == 0:
            at = rng.randrange(k - width + 1)
            return x[:, at : at + width]
        if how == 1 and k % width == 0:
            return x.reshape(n, width, k // width).mean(-1)
        return x[:, torch.tensor(rng.sample(range(k), width))]
    if how == 0:
        return torch.nn.functional.pad(x, (width - k, 0))
    if how == 1:
        return torch.cat([x] * (width // k + 1), -1)[:, :width]
    return x[:, torch.tensor([rng.randrange(k) for _ in range(width)])]


def _adapted(x: Tensor, shape: str, domain: str, rng: random.Random) -> Tensor:
    """A tensor of the program, batch first, as an operand of a sample."""
    sizes = shape.split()
    n, place = len(x), sizes.index("n") if "n" in sizes else None
    own = [int(s) for s in sizes if s != "n"]
    x = _tame(x, rng)
    if place is None:  # an operand that all samples share
        x = x.mean(0, keepdim=True)
    if list(x.shape[1:]) != own:
        x = _resized(x.reshape(len(x), -1), torch.Size(own).numel(), rng).reshape(len(x), *own)
    assert len(x) in (n, 1)
    x = _in_domain(x, domain, rng)
    return x[0] if place is None else x if place == 0 else x.movedim(0, place)


def _batch_first(y: Tensor, dim: int | None, n: int) -> Tensor:
    """A result of a sample as a tensor of the program: real, the batch first."""
    if y.is_complex():
        y = torch.view_as_real(y.resolve_conj())
    if dim is not None:
        return y if dim == 0 else y.movedim(dim, 0)
    flat = y.reshape(-1)
    return flat[torch.arange(n * 4) % len(flat)].view(n, 4) if len(flat) else flat.new_zeros(n, 4)


@dataclass
class Forward:
    """One run of a program. ``row``: only this sample of the batch; ``trainable``: the constants are.
    ``jitter``: other last digits of every tensor, others for each number other than 0."""

    program: Program
    trainable: bool = False
    row: int | None = None
    jitter: int = 0

    def start(self) -> list[Tensor]:
        g = torch.Generator().manual_seed(self.program.seed)
        made = [
            torch.randn(BATCH, WIDTH, generator=g, dtype=torch.float64) for _ in range(self.program.inputs)
        ]
        return [self._jittered(self._of_row(t, 0).clone(), 0).requires_grad_() for t in made]

    def _jittered(self, x: Tensor, seed: int) -> Tensor:
        """``x`` as if it had been rounded otherwise. Its node, and what that saved, do not see it."""
        if self.jitter:
            g = torch.Generator().manual_seed(seed + self.jitter)
            by = torch.randint(-2, 3, x.shape, generator=g).to(x.dtype) * torch.finfo(x.dtype).eps
            x.data = x.data * (1 + by)
        return x

    def _of_row(self, t: Tensor, dim: int) -> Tensor:
        return t if self.row is None else t.narrow(dim, self.row, 1)

    def step(self, step: Step, made: Sequence[Tensor]) -> Tensor:
        """The result of one step."""
        sample, batched = catalogue()[step.call]
        rng = random.Random(step.seed)
        constants = sample.tensors(step.seed, BATCH)
        operands = []
        for read, shape, constant in zip(step.reads, sample.shapes, constants):
            if read == CONSTANT:
                own = self._of_row(constant, shape.split().index("n")) if "n" in shape.split() else constant
                operands.append(self._jittered(own.clone(), step.seed).requires_grad_(self.trainable))
            else:
                operands.append(_adapted(made[read], shape, sample.domain, rng))
        results = [
            _batch_first(y, dim, BATCH if self.row is None else 1)
            for y, dim in zip(_results(sample.call(*operands)), batched)
        ]
        whole = len(results) > 1 and rng.random() < 0.5
        y = torch.cat([y.reshape(len(y), -1) for y in results], -1) if whole else rng.choice(results)
        return self._jittered(y, step.seed)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """All tensors of the program."""
        made = list(inputs)
        for region, steps in regions(self.program):
            if not region:
                made += [self.step(steps[0], made)]
                continue

            def inside(*before: Tensor, steps: Sequence[Step] = steps) -> tuple[Tensor, ...]:
                now = list(before)
                for step in steps:
                    now.append(self.step(step, now))
                return tuple(now[len(before) :])

            made += checkpoint(inside, *made, use_reentrant=bool(region % 2))
        return made


def regions(program: Program) -> Iterator[tuple[int, tuple[Step, ...]]]:
    """The steps, those of one checkpoint together."""
    at = 0
    while at < len(program.steps):
        region, end = program.steps[at].region, at + 1
        while region and end < len(program.steps) and program.steps[end].region == region:
            end += 1
        yield region, program.steps[at:end]
        at = end


def by_sample(program: Program) -> bool:
    """Whether each sample of the batch is explained as if it were alone."""
    for step in program.steps:
        sample, batched = catalogue()[step.call]
        shared = (r != CONSTANT and "n" not in s.split() for r, s in zip(step.reads, sample.shapes))
        if None in batched or any(shared):
            return False
    return True


# -- drawing ----------------------------------------------------------------------------------------


def drawn(seed: int, longest: int, separate: bool = False) -> Program:
    """A random program of 2 to ``longest`` steps, most of them short. ``separate``: ``by_sample`` holds.

    Steps read recent tensors more often than old ones, and some twice. A step that fails, or makes
    numbers that are not finite or large, is drawn again.
    """
    rng = random.Random(seed)
    length = min(longest, int(2 * (longest / 2) ** rng.random() ** 1.5))
    names = sorted(n for n, c in catalogue().items() if not separate or None not in c.batched)
    program = Program(seed, (), rng.randint(1, 3), rng.choice((1, 1, 2, 3)))
    made = [t.detach() for t in Forward(program).start()]
    steps: list[Step] = []
    region = 0
    while len(steps) < length:
        if rng.random() < 0.15:
            region = 0 if region else len(steps) + 1
        name = rng.choice(names)
        step = Step(
            name, _reads(catalogue()[name].sample, len(made), rng, separate), rng.getrandbits(32), region
        )
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a checkpoint inside a sample misses its gradients
                y = Forward(program).step(step, made)
        except (RuntimeError, ValueError, IndexError):
            continue  # torch itself refuses such numbers
        if y.numel() and bool((y.abs() < LARGE).all()):
            steps.append(step)
            made.append(y)
    return Program(seed, tuple(steps), program.inputs, min(program.outputs, length))


def _reads(sample: Sample, made: int, rng: random.Random, separate: bool) -> tuple[int, ...]:
    live = rng.choice(list(sample.subsets()))
    recent = [max(0, made - 1 - int(rng.expovariate(0.7))) for _ in sample.shapes]
    return tuple(
        CONSTANT if i not in live or (separate and "n" not in shape.split()) else recent[i]
        for i, shape in enumerate(sample.shapes)
    )
