"""Every row of every installed pack, under every preset, against what must hold for any rule."""

from __future__ import annotations

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
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    ),
]
SAMPLES = [s for _, s in samples()]
CASES = [(s, live) for s in SAMPLES for live in s.subsets()]
IDS = [f"{s}-{''.join(map(str, live))}" for s, live in CASES]
CUDA_ONLY = frozenset({"CudnnBatchNormBackward0"})

STYLES = st.sampled_from(["plain", "zeros", "cancelling", "noncontiguous"])
quick = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


def test_every_preset_is_run() -> None:
    assert set(PRESETS) == set(presets())


PRESETS = ["default", "dynamiclrp", "epsilon", "epsilon-plus", "gamma"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("sample", "live"), CASES, ids=IDS)
def test_rule(sample: Sample, live: tuple[int, ...], preset: str, device: str) -> None:
    rules = lrp.preset(preset)

    @quick
    @given(st.integers(0, 10**6), st.integers(1, 3), STYLES)
    def holds(seed: int, n: int, style: str) -> None:
        case = Case(sample, live, seed, n, style, torch.float64, device)  # type: ignore[arg-type]
        check_rule(case, rules)

    holds()


@pytest.mark.parametrize(("sample", "live"), CASES, ids=IDS)
def test_no_elements_give_no_relevance(sample: Sample, live: tuple[int, ...]) -> None:
    """Zero-size batches: no crash, right shapes."""
    if not any("n" in s.split() for s in sample.shapes):
        return
    case = Case(sample, live, n=0)
    try:
        _, outputs = case.forward()
    except (RuntimeError, IndexError, ValueError):
        return  # torch itself refuses
    if not outputs:
        return
    for i, r in zip(live, case.run(lrp.load_rules()).relevance):
        assert list(r.shape) == list(sample.sizes(0)[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("sample", "live"), CASES, ids=IDS)
def test_lower_precision(sample: Sample, live: tuple[int, ...], dtype: torch.dtype) -> None:
    """Finite in the model's dtype; and with rules in float64 on the same values, conserving as there."""
    if dtype not in sample.dtypes:
        return
    case = Case(sample, live, 3, 2, "plain", dtype)
    rules = lrp.load_rules()
    for r in case.run(rules).relevance:
        assert bool(torch.isfinite(r).all())
    for r in case.run(rules, dtype=torch.float64).relevance:
        assert r.dtype == torch.float64 and bool(torch.isfinite(r).all())


def test_every_check_is_run() -> None:
    assert set(CHECKS) >= {
        "forward", "saved_names", "conservation", "linearity", "zero", "forms", "batch", "promised", "again",
    }  # fmt: skip
