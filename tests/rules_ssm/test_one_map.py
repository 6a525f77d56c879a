"""However a scan is spelled, mambalrp gives one map, and it is the gradient with all but the signal held."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_rules_ssm.samples import mamba_chunk_scan_combined, selective_scan_fn
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from tests.rules_ssm import spellings as s

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    ),
]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
quick = settings(max_examples=8, deadline=None, derandomize=True)
small = st.integers(1, 3)


def close(got: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max()) + 1
    assert float((got - expected).abs().max()) <= TOLERANCE[expected.dtype] * scale


def by_hand(held: Tensor, u: Tensor) -> Tensor:
    """The oracle: u times the gradient of a scan in which all but u is detached."""
    (g,) = torch.autograd.grad(held.sum(), u, retain_graph=True)
    return u.detach() * g


def explained(scan: Callable[[s.Parts], Tensor], p: s.Parts, u: Tensor) -> Tensor:
    """mambalrp's map; the scan conserves exactly, and the books say so."""
    with lrp.record():  # a sum's constant term, the state before the first step
        y = scan(p)
    run = lrp.propagate(y, u, rules="mambalrp", ledger=True)
    assert run.ledger is not None and run.ledger.closed
    close(run.relevance[0].sum(), y.detach().sum())
    return run.relevance[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_mamba(dtype: torch.dtype, device: str) -> None:
    @quick
    @given(n=small, channels=small, steps=st.integers(1, 7), states=small, seed=st.integers(0, 99))
    def holds(n: int, channels: int, steps: int, states: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        u = torch.randn(n, channels, steps, generator=g, dtype=torch.float64).to(device, dtype)
        u.requires_grad_()
        p = s.mamba_parts(u, states, seed)
        expected = by_hand(s.loop(p.held()), u)
        for name, spelling in s.MAMBA.items():
            if name == "einsum" and states == 1:
                continue  # key and signal then look alike to the last size (docs/ssm.md)
            close(explained(spelling, p, u), expected)
        close(explained(lambda p: selective_scan_fn(p.u, p.delta, p.a, p.b, p.c), p, u), expected)

    holds()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_mamba2(dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if dtype == torch.float64:  # transformers computes in float32 whatever the model is in
        monkeypatch.setattr(Tensor, "float", Tensor.double)

    @quick
    @given(
        n=small, steps=st.integers(2, 6), groups=st.integers(1, 2), width=st.integers(2, 3),
        states=st.integers(2, 3), chunk=st.integers(1, 4), seed=st.integers(0, 99),
    )  # fmt: skip
    def holds(n: int, steps: int, groups: int, width: int, states: int, chunk: int, seed: int) -> None:
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(n, steps, 2, width, generator=g, dtype=torch.float64).to(device, dtype)
        x.requires_grad_()
        p = s.mamba2_parts(x, states, groups, seed)
        expected = by_hand(s.mamba2_loop(p.held(), "einsum", "einsum"), x)
        close(explained(s.attention_form, p, x), expected)
        for scan in (mamba2_chunk_scan, mamba_chunk_scan_combined):
            close(explained(lambda p: scan(p.u, p.delta, p.a, p.b, p.c, chunk), p, x), expected)  # noqa: B023

    holds()


@pytest.mark.parametrize("read", s.READS)
@pytest.mark.parametrize("write", s.WRITES)
def test_every_way_to_write_and_to_read_a_state(write: str, read: str) -> None:
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    p = s.mamba2_parts(x, 2, 1, 1)
    expected = by_hand(s.mamba2_loop(p.held(), write, read), x)
    close(explained(lambda p: s.mamba2_loop(p, write, read), p, x), expected)


def test_the_plain_gradient_is_something_else() -> None:
    """The oracle would be worth nothing if holding the rest changed nothing."""
    u = torch.randn(1, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u.requires_grad_()
    p = s.mamba_parts(u, 2, 0)
    (g,) = torch.autograd.grad(s.loop(p).sum(), u, retain_graph=True)
    assert float((u * g - by_hand(s.loop(p.held()), u)).detach().abs().max()) > 0.1


def test_ten_thousand_steps() -> None:
    """Linear time and memory, no recursion."""
    u = torch.randn(1, 1, 10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u.requires_grad_()
    p = s.mamba_parts(u, 1, 0)
    y = s.loop(p)
    (r,) = lrp.relevance(y, u, rules="mambalrp")
    close(r.sum(), y.detach().sum())
