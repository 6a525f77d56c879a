"""The fuzzer in small, programs it once found something with, and that it does find what is planted."""

from __future__ import annotations

import sys
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
import torch

from .planted import Doubled
from .program_verdicts import shrunk, trouble
from .random_programs import Forward, Program, Step, by_sample, catalogue, drawn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import fuzz

ONCE = {
    "a complex constant of a product, numbered entries": ("default", Program(1147, (
        Step("LogBackward0", (0,), 43998233), Step("SinBackward0-in-place", (2,), 1094779508),
        Step("DivBackward0-complex", (3, -1), 4102341446)), inputs=2)),
    "numbered entries as real pairs": ("default", Program(1310, (
        Step("NativeBatchNormLegitBackward0-eval", (-1, -1, -1), 1044948923),
        Step("DivBackward0-complex", (3, 0), 3571649631), Step("IndexSelectBackward0", (4,), 2061033149),
        Step("SelectBackward0_copy", (5,), 598511677)), inputs=3)),
    "a sum of complex terms": ("epsilon-plus", Program(1165, (
        Step("AddBackward0-complex", (0, 0), 3658485052),))),
    "a complex product": ("epsilon", Program(1311, (
        Step("VdotBackward0-complex", (1, -1), 3223867123),), inputs=2)),
    "saved tensors of a Function in a checkpoint": ("default", Program(2018, (
        Step("causal_conv1d.causal_conv1d_interface.CausalConv1dFn", (0,), 4054348401, region=4),))),
    "values that fall on the zeros of triu": ("cp-lrp", Program(2371, (
        Step("LinalgLuFactorExBackward0-wrapped", (0,), 1171074692),
        Step("PowBackward0--0.5", (3,), 3826326297)), inputs=3)),
    "a mask that differed from sample to sample": ("default", Program(1030, (
        Step("MaskedSoftmaxBackward0", (0,), 1847737848),
        Step("UpsampleBicubic2DAaBackward0-down", (2,), 693555034)), inputs=2)),
    "a scan of which only what mambalrp holds is live": ("mambalrp", Program(3071, (
        Step("mamba_ssm.ops.triton.ssd_combined.MambaChunkScanCombinedFn", (-1, -1, 2, -1), 3312109150),
        ), inputs=3)),
    "a frozen norm on the short way, without a ledger": ("default", Program(20002, (
        Step("MulBackward0-square", (0,), 1398778078),), inputs=2)),
    "a constant that passes a module hook beside a live tensor": ("epsilon", Program(7, (
        Step("torch.nn.modules._functions.BackwardHookFunction-two", (0, -1), 5),))),
    "a trainable constant of a distance": ("default", Program(510021, (
        Step("DistBackward0", (-1, 0), 1407892669),))),
    "a read-out through a secant": ("beta-smooth", Program(510050, (
        Step("DivBackward0-right", (-1, -1), 620553212, region=12),
        Step("PowBackward1-left", (-1, 2), 839978238),
        Step("NativeGroupNormBackward0-bias", (3, -1), 3103933066, region=17)), inputs=2)),
    "numbered entries of an upsampling, which has no kernel for integers": ("default", Program(1000007, (
        Step("PowBackward2", (0,), 1731512361),
        Step("UpsampleNearestExact3DBackward0-factor", (2,), 3668648686),
        Step("DivBackward0-scalar", (3,), 3018351781)), inputs=2)),
    "a constant right side of a factored matrix": ("default", Program(900232, (
        Step("LinalgLuSolveBackward0", (0, -1), 1774482568),))),
    "winners among promised operands": ("default", Program(107, (
        Step("ScatterReduceBackward0-amin", (2, -1), 1204086873),), inputs=3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ONCE)
def test_what_was_found_once(name: str) -> None:
    rules, program = ONCE[name]
    assert trouble(program, fuzz.TABLES[rules]) == ""


@pytest.mark.parametrize("seed", [0, 100, 200])
def test_random_programs_of_all_samples(seed: int) -> None:
    report = fuzz.fuzz(iter(range(seed, seed + 12)), longest=24)
    assert not report.found, report
    assert report.slow and report.runs > sum(report.refused.values())


def test_the_same_seed_draws_the_same_program() -> None:
    assert drawn(3, 60) == drawn(3, 60) != drawn(4, 60)


def test_programs_have_what_they_are_made_for() -> None:
    """Long and short ones, several inputs and outputs, tensors read twice, constants, checkpoints."""
    programs = [drawn(seed, 60, separate=seed % 2 == 0) for seed in range(60)]
    lengths = [len(p.steps) for p in programs]
    reads = [r for p in programs for s in p.steps for r in s.reads]
    assert min(lengths) == 2 and max(lengths) > 40
    assert {p.inputs for p in programs} == {1, 2, 3} == {p.outputs for p in programs}
    assert -1 in reads and any(s.region % 2 for p in programs for s in p.steps)
    assert any(s.region and not s.region % 2 for p in programs for s in p.steps)
    assert all(by_sample(p) for p in programs[::2])
    assert len({s.call for p in programs for s in p.steps}) > len(catalogue()) / 3


def test_what_cannot_be_booked_inside_a_reentrant_checkpoint_is_an_answer() -> None:
    program = Program(900232, (Step("CopySlices-0-d", (-1, 0), 4, region=429),), inputs=2)
    assert trouble(program, fuzz.TABLES["default"]).startswith("not booked")


def test_a_draw_inside_a_reentrant_checkpoint_is_booked() -> None:
    program = Program(1050335, (Step("EmbeddingRenormBackward0", (0,), 2815237098, region=429),), inputs=2)
    assert trouble(program, fuzz.TABLES["default"]) == ""


def test_a_planted_bug_is_found_and_shrunk() -> None:
    """A flip that doubles relevance in the middle of 40 steps: the flip alone remains."""
    rules = lrp.load_rules() | lrp.override(FlipBackward0=Doubled())
    program = drawn(8, 40)
    at = len(program.steps) // 2
    flip = Step("FlipBackward0", (program.inputs + at - 1,), 5)
    program = Program(8, (*program.steps[:at], flip), program.inputs)
    assert "ledger" in trouble(program, rules)
    least = shrunk(program, lambda p: trouble(p, rules).startswith("ledger"))
    assert [s.call for s in least.steps] == ["FlipBackward0"]
    assert torch.is_tensor(Forward(least)(Forward(least).start())[-1])
