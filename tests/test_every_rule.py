"""Every row of every installed pack, under every preset, against what must hold for any rule."""

from __future__ import annotations

import warnings

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.plugins import presets, samples
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.testing import CHECKS, Case, check_rule
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
CASES = [(s, live) for s in SAMPLES for live in s.subsets()]
IDS = [f"{s}-{''.join(map(str, live))}" for s, live in CASES]

STYLES = st.sampled_from(["plain", "zeros", "cancelling", "noncontiguous"])
quick = settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def precision(sample: Sample) -> torch.dtype:
    """float64, or what the kernel has."""
    return torch.float64 if torch.float64 in sample.dtypes else sample.dtypes[0]


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
    rules = TABLES[preset]

    @quick
    @given(st.integers(0, 10**6), st.integers(1, 3), STYLES)
    def holds(seed: int, n: int, style: str) -> None:
        case = Case(sample, live, seed, n, style, precision(sample), device)  # type: ignore[arg-type]
        check_rule(case, rules)

    holds()


@pytest.mark.parametrize(("sample", "live"), CASES, ids=IDS)
def test_no_elements_give_no_relevance(sample: Sample, live: tuple[int, ...]) -> None:
    """Zero-size batches: no crash, right shapes."""
    if not any("n" in s.split() for s in sample.shapes):
        return
    case = Case(sample, live, n=0, dtype=precision(sample))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of var and std of nothing
        try:
            _, outputs = case.forward()
        except (RuntimeError, IndexError, ValueError):
            return  # torch itself refuses
        relevance = case.run(lrp.load_rules()).relevance if outputs else ()
    for i, r in zip(live, relevance):
        assert list(r.shape) == list(sample.sizes(0)[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("sample", "live"), CASES, ids=IDS)
def test_lower_precision(sample: Sample, live: tuple[int, ...], dtype: torch.dtype) -> None:
    """Finite in the model's dtype, and with rules in float64 on the same values."""
    if dtype not in sample.dtypes:
        return
    case = Case(sample, live, 3, 2, "plain", dtype)
    rules = lrp.load_rules()
    for r in case.run(rules).relevance:
        assert bool(torch.isfinite(r).all())
    for r in case.run(rules, dtype=torch.float64).relevance:
        assert r.dtype == torch.float64 and bool(torch.isfinite(r).all())


def test_every_check_is_run() -> None:
    assert set(CHECKS) >= set(
        "forward saved_names conservation linearity zero forms batch promised again".split()
    )
