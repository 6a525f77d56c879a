"""Random programs of 2 to 200 ops: the engine against a slow dictionary, and against itself."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.testing import hidden_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import reference
from .reference import STEPS, Model, Program
from .reference_steps import COLUMNS, DTYPE, ROWS

NAMES = sorted(STEPS)


@st.composite
def programs(draw: st.DrawFn, longest: int) -> Program:
    """Steps that read earlier tensors, mostly recent ones: fan-out, diamonds, dead ends."""
    length = draw(st.integers(2, longest))
    program: Program = []
    for k in range(length):
        name = draw(st.sampled_from(NAMES))
        operands = tuple(k - min(draw(st.integers(0, 5)), k) for _ in range(STEPS[name][0]))
        program.append((name, operands))
        # Squashing keeps the numbers of a long program finite without flattening them.
    return program


def squashed(program: Program) -> Program:
    """A layer norm after every fourth step, so that 200 steps neither explode nor die."""
    out: Program = []
    where = {0: 0}
    for k, (name, operands) in enumerate(program, 1):
        out.append((name, tuple(where[i] for i in operands)))
        where[k] = len(out)
        if k % 4 == 0:
            out.append(("layer_norm", (len(out),)))
            where[k] = len(out)
    return out


def start(seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, COLUMNS, generator=g, dtype=DTYPE)


def explained(program: Program, model: Model, seed: int, **arguments: object) -> lrp.Run:
    x = start(seed).requires_grad_()
    with lrp.record():
        y = reference.run(program, model, x)[-1]
    return lrp.propagate(y, x, allow_unused=True, **arguments)  # type: ignore[arg-type]


def depends_on_x(program: Program, model: Model, seed: int) -> bool:
    x = start(seed).requires_grad_()
    return reference.run(program, Model(model.seed), x)[-1].requires_grad


def close(a: torch.Tensor, b: torch.Tensor, scale: float = 1.0) -> None:
    size = max(float(b.abs().max()), 1.0)
    assert float((a - b).abs().max()) <= 1e-8 * size * scale


relaxed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", NAMES)
def test_each_step_alone(name: str) -> None:
    """The steps by themselves, so that a failure below has a name."""
    program: Program = [("tanh", (0,)), (name, tuple([1, 0][: STEPS[name][0]]))]
    for trainable in (False, True):
        run = explained(program, Model(3, trainable), 5, ledger=True)
        close(run.relevance[0], reference.explain(program, Model(3), start(5)))
        assert run.ledger is not None and run.ledger.closed, run.ledger


@relaxed
@given(programs(40), st.integers(0, 10**6))
def test_engine_is_the_slow_dictionary(program: Program, seed: int) -> None:
    program = squashed(program)
    model = Model(seed)
    if not depends_on_x(program, model, seed):
        return
    run = explained(program, model, seed)
    close(run.relevance[0], reference.explain(program, model, start(seed)))


@relaxed
@given(programs(40), st.integers(0, 10**6))
def test_ledger_closes(program: Program, seed: int) -> None:
    program = squashed(program)
    if not depends_on_x(program, Model(seed), seed):
        return
    run = explained(program, Model(seed), seed, ledger=True)
    assert run.ledger is not None and run.ledger.closed, run.ledger


@relaxed
@given(programs(40), st.integers(0, 10**6), st.sampled_from(["default", "epsilon", "gamma", "dynamiclrp"]))
def test_frozen_is_trainable(program: Program, seed: int, rules: str) -> None:
    program = squashed(program)
    if not depends_on_x(program, Model(seed), seed):
        return
    frozen = explained(program, Model(seed), seed, rules=rules).relevance[0]
    trainable = explained(program, Model(seed, trainable=True), seed, rules=rules).relevance[0]
    close(frozen, trainable, 1e2)


@relaxed
@given(programs(40), st.integers(0, 10**6), st.sampled_from(["default", "epsilon", "dynamiclrp"]))
def test_promised_is_saved(program: Program, seed: int, rules: str) -> None:
    program = squashed(program)
    if not depends_on_x(program, Model(seed), seed):
        return
    saved = explained(program, Model(seed), seed, rules=rules)
    with hidden_values():
        promised = explained(program, Model(seed), seed, rules=rules)
    close(promised.relevance[0], saved.relevance[0], 1e2)


@settings(relaxed, max_examples=15)
@given(programs(200), st.integers(0, 10**6))
def test_long_programs(program: Program, seed: int) -> None:
    program = squashed(program)
    model = Model(seed)
    if not depends_on_x(program, model, seed):
        return
    run = explained(program, model, seed, ledger=True)
    close(run.relevance[0], reference.explain(program, model, start(seed)))
    assert run.ledger is not None and run.ledger.closed, run.ledger
