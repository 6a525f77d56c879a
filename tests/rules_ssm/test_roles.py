"""Which factor is the signal: relatives of Mamba against their own detaches, and what stays shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.rules.defaults import Gradient
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

Cell = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Query, key, value (b, l, h, d), log of the decay and a gate (b, l, h)."""


def gated_linear_attention(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """S = exp(g) S + k (x) v (GLA, arXiv 2312.06635)."""
    state, ys = q.new_zeros(len(q), q.shape[2], q.shape[3], v.shape[3]), []
    for t in range(q.shape[1]):
        state = state * g[:, t].exp()[..., None, None] + k[:, t, :, :, None] * v[:, t, :, None]
        ys.append((state * q[:, t, :, :, None]).sum(-2))
    return torch.stack(ys, 1)


def mlstm(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """xLSTM's matrix memory with its normalizer; the input gate is on the value (arXiv 2405.04517)."""
    memory, norm, ys = q.new_zeros(len(q), q.shape[2], q.shape[3], v.shape[3]), torch.zeros_like(k[:, 0]), []
    for t in range(q.shape[1]):
        keep, gate = g[:, t].exp(), b[:, t].exp()
        written = torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t] * gate[..., None])
        memory = memory * keep[..., None, None] + written
        norm = norm * keep[..., None] + k[:, t] * gate[..., None]
        below = (norm * q[:, t]).sum(-1).abs().clamp(min=1)
        ys.append(torch.einsum("bhk,bhkv->bhv", q[:, t], memory) / below[..., None])
    return torch.stack(ys, 1)


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Qwen3-Next's gated delta rule, step by step (arXiv 2412.06464)."""
    made: Tensor = torch_recurrent_gated_delta_rule(q, k, v, g, b)[0]
    return made


def delta_rule_in_chunks(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """The same by chunks of 2, with a triangular system."""
    made: Tensor = torch_chunk_gated_delta_rule(q, k, v, g, b, chunk_size=2)[0]
    return made


def min_gru(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """h = (1 - z) h + z v (minGRU, arXiv 2410.01201)."""
    z, h, ys = b.sigmoid()[..., None], torch.zeros_like(v[:, 0]), []
    for t in range(v.shape[1]):
        h = (1 - z[:, t]) * h + z[:, t] * v[:, t]
        ys.append(h)
    return torch.stack(ys, 1)


def rg_lru(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """h = a h + sqrt(1 - a^2) i v (Griffin, arXiv 2402.19427)."""
    a, gate, h, ys = g.exp()[..., None], b.sigmoid()[..., None], torch.zeros_like(v[:, 0]), []
    for t in range(v.shape[1]):
        h = a[:, t] * h + (v[:, t] * gate[:, t]) * (1 - a[:, t] * a[:, t]).sqrt()
        ys.append(h)
    return torch.stack(ys, 1)


def wkv(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """RWKV-4's weighted mean of values, exp(k) over its decayed sum (arXiv 2305.13048, eq. 16), no bonus."""
    above, below, ys = torch.zeros_like(v[:, 0]), torch.zeros_like(v[:, 0]), []
    for t in range(v.shape[1]):
        decay = g[:, t].exp()[..., None]
        above = decay * above + k[:, t].exp() * v[:, t]
        below = decay * below + k[:, t].exp()
        ys.append(above / below)
    return torch.stack(ys, 1)


CELLS: list[Cell] = [gated_linear_attention, mlstm, delta_rule, delta_rule_in_chunks, min_gru, rg_lru, wkv]


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers casts to float32 by ``to``; here to float64."""
    cast = Tensor.to

    def to(t: Tensor, *a: Any, **k: Any) -> Tensor:
        return t.double() if a[:1] == (torch.float32,) else cast(t, *a, **k)

    monkeypatch.setattr(Tensor, "to", to)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_is_linear_in_its_value_alone(cell: Cell) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    q, k, v, g, b = (x @ (torch.randn(8, n, dtype=torch.float64) * 0.4) for n in (8, 8, 8, 2, 2))
    q, k, v = (t.unflatten(-1, (2, 4)) for t in (q, k, v))
    g, b = -F.softplus(g), b.sigmoid()
    y = cell(q, k, v, g, b)[:, -1]
    (r,) = lrp.relevance(y, x, rules="mambalrp")
    held = cell(q.detach(), k.detach(), v, g.detach(), b.detach())[:, -1]
    if cell is mlstm:  # the normalizer is a divisor: it takes nothing
        torch.testing.assert_close(held, y)
    (grad,) = torch.autograd.grad(held.sum(), x, retain_graph=True)
    torch.testing.assert_close(r, (x * grad).detach(), atol=1e-12, rtol=1e-10)
    (plain,) = torch.autograd.grad(y.sum(), x)
    assert float((plain - grad).abs().max()) > 1e-2  # else nothing was held


def shares(f: Callable[[Tensor, Tensor], Tensor], rules: str = "mambalrp") -> tuple[float, float]:
    """Which part of y = f(a, b) each operand takes."""
    torch.manual_seed(0)
    a, b = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    y = f(a, b).sum()
    r, s = lrp.relevance(y, (a, b), rules=rules)
    return float(r.sum() / y.detach()), float(s.sum() / y.detach())


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda a, b: a * b.sigmoid(), (1, 0)),
        (lambda a, b: b.exp() * a, (1, 0)),
        (lambda a, b: (1 - b.sigmoid()) * a, (1, 0)),
        (lambda a, b: a * F.softplus(b).cumsum(-1), (1, 0)),
        (lambda a, b: a * F.silu(b), (0.5, 0.5)),
        (lambda a, b: a * (b * b.sigmoid()), (0.5, 0.5)),  # SiLU by hand
        (lambda a, b: a * b, (0.5, 0.5)),
        (lambda a, b: (a.cumsum(0) * F.softplus(b)).cumsum(0) * F.silu(b), (0.5, 0.5)),  # a gated state
    ],
    ids=["sigmoid", "exp", "one-minus", "cumsum", "silu", "silu-by-hand", "plain", "gated-state"],
)
def test_who_takes_what(f: Callable[[Tensor, Tensor], Tensor], expected: tuple[float, float]) -> None:
    assert shares(f) == pytest.approx(expected, abs=1e-12)


def test_attention_by_hand_keeps_its_rule() -> None:
    """exp over its sum is a softmax, not a decay: the map is that of the fused softmax."""
    torch.manual_seed(0)
    s, v = (torch.randn(1, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    by_hand = (s.exp() / s.exp().sum(-1, keepdim=True)) @ v
    expected = lrp.relevance(s.softmax(-1) @ v, (s, v), rules="mambalrp")
    for got, fused in zip(lrp.relevance(by_hand, (s, v), rules="mambalrp"), expected):
        torch.testing.assert_close(got, fused)


def recurrence(mark: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Linear attention without a decay: nothing says which of k and v is the key."""
    torch.manual_seed(0)
    k, v = (torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    state, key = torch.zeros(2, 2, dtype=torch.float64), mark(k)
    for t in range(3):
        state = state + key[t, :, None] * v[t]
    return state.sum(), k, v


def test_where_the_graph_does_not_tell_both_share_and_a_mark_decides() -> None:
    y, k, v = recurrence(lambda t: t)
    r, s = lrp.relevance(y, (k, v), rules="mambalrp")
    assert float(r.sum()) == pytest.approx(float(s.sum())) == pytest.approx(y.item() / 2)
    y, k, v = recurrence(lrp.stop_relevance)
    r, s = lrp.relevance(y, (k, v), rules="mambalrp")
    assert not r.any() and float(s.sum()) == pytest.approx(y.item())


def test_gamma_is_a_parameter() -> None:
    layer = torch.nn.Linear(4, 3).double()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    rules = lrp.preset("mambalrp", gamma=0.25)
    (got,) = lrp.relevance(layer(x), x, rules=rules)
    (expected,) = lrp.relevance(layer(x), x, rules=lrp.preset("gamma", gamma=0.25))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("first", ["step", "gate"])
def test_a_constant_first_state_absorbs(first: str) -> None:
    """``a_1 h_0 + k_1 u_1``: the decay of a state from elsewhere (a prefix, a parameter) takes nothing."""
    torch.manual_seed(0)
    u = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    held = u.detach()
    h = start = torch.randn(4, dtype=torch.float64)
    expected, taken = torch.zeros_like(u), torch.ones(4, dtype=torch.float64)
    with lrp.record():
        for t in range(3):
            z = u[t].sigmoid()
            a, b = (1 - z, z) if first == "gate" else ((-F.softplus(u[t])).exp(), F.softplus(u[t]))
            h = a * h + b * u[t]
    for t in reversed(range(3)):  # the sums written out
        z = held[t].sigmoid()
        a, b = (1 - z, z) if first == "gate" else ((-F.softplus(held[t])).exp(), F.softplus(held[t]))
        expected[t] = taken * b * held[t]
        taken = taken * a
    run = lrp.propagate(h.sum(), u, rules="mambalrp", ledger=True)
    torch.testing.assert_close(run.relevance[0], expected, atol=1e-12, rtol=1e-10)
    assert run.ledger is not None and run.ledger.closed
    assert run.ledger.absorbed == pytest.approx(float((taken * start).sum()))


def test_a_scan_in_log_space_with_marks_and_plain_gradients_is_the_loop() -> None:
    """minGRU's parallel form: exp, log and logcumsumexp undo each other, so none may take a slope from 0."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    gate, content = (torch.randn(8, 4, dtype=torch.float64) * 0.4 for _ in range(2))
    with lrp.record():
        z, v = x @ gate, (x @ content).relu() + 0.5
        keep, take = lrp.stop_relevance(-F.softplus(z)), lrp.stop_relevance(-F.softplus(-z))
        log = keep.cumsum(1)
        y = (log + torch.logcumsumexp(take + v.log() - log, 1)).exp()
        h = torch.zeros_like(v[:, 0])
        for t in range(5):
            h = (-F.softplus(z[:, t])).exp() * h + (-F.softplus(-z[:, t])).exp() * v[:, t]
    torch.testing.assert_close(y[:, -1], h)
    undone = ("ExpBackward0__all", "LogBackward0__all", "LogcumsumexpBackward0__all")
    rules = lrp.preset("mambalrp") | lrp.override(**dict.fromkeys(undone, Gradient()))
    (got,) = lrp.relevance(y[:, -1], x, rules=rules)
    (expected,) = lrp.relevance(h, x, rules="mambalrp")
    torch.testing.assert_close(got, expected, atol=1e-13, rtol=1e-10)
    (without,) = lrp.relevance(y[:, -1], x, rules="mambalrp")
    assert float((without - expected).abs().max()) > 0.1  # else the recipe would be idle
