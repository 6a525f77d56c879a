"""Every row of every installed pack, under every preset, against what must hold for any rule."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.packs.plugins import presets, samples
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.testing import CHECKS, Case, check_rule, checks, variants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    ),
]
SAMPLES = [s for _, s in samples()]
# One seed: where two operands are equal, torch takes another gradient than the row's forward does.
CASES = [Case(s, live, dtype=s.precision) for s in SAMPLES for live in s.subsets()]

STYLES = st.sampled_from(["plain", "zeros", "cancelling", "noncontiguous"])
quick = settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

PARAMETERS = {"epsilon-gamma-box": dict(low=-1.5, high=2.0)}
"""Parameters of presets that cannot do without."""
TABLES = {name: lrp.preset(name, **PARAMETERS.get(name, {})) for name in sorted(presets())}


def treatment(sample: Sample, preset: str) -> str:
    """What a preset does with the sample's node: presets that do the same need not both run."""
    row = TABLES["default"].get(sample.node)
    return "" if row is None else str([(m, r.id) for m, r in TABLES[preset].cases(row)])


DIFFERENT = {
    (sample, treatment(sample, preset)): preset
    for preset in sorted(TABLES, key=lambda name: name == "default")
    for sample in SAMPLES
}
RUNS = [(s, live, p) for (s, _), p in DIFFERENT.items() for live in s.subsets()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("sample", "live", "preset"),
    RUNS,
    ids=[f"{p}-{s}-{''.join(map(str, live))}" for s, live, p in RUNS],
)
def test_rule(sample: Sample, live: tuple[int, ...], preset: str, device: str) -> None:
    @quick
    @given(st.integers(0, 10**6), st.integers(1, 3), STYLES)
    def holds(seed: int, n: int, style: str) -> None:
        case = Case(sample, live, seed, n, style, sample.precision, device)  # type: ignore[arg-type]
        check_rule(case, TABLES[preset], checks.CHECKS)

    holds()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_variants(case: Case) -> None:
    check_rule(case, TABLES["default"], variants.VARIANTS)


@pytest.mark.parametrize("sample", [s for s in SAMPLES if s.excused], ids=str)
def test_excuses_are_needed(sample: Sample) -> None:
    case = Case(sample, list(sample.subsets())[-1], dtype=sample.precision)
    for name in sample.excused:
        with pytest.raises(AssertionError):
            CHECKS[name](case, TABLES["default"])
