"""Attention and norm nodes that no CPU builds: on meta tensors, by stand-ins, and their forwards by loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core import Sweep
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address, kind
from dynamiclrp_rules_attention import moe, norm, sdpa
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

aten = torch.ops.aten
HEADS_FIRST, HEADS_LAST = (2, 4, 8, 16), (2, 8, 4, 16)

# Node -> call that builds it, and the shape of query, key and value.
CALLS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "ScaledDotProductFlashAttentionBackward0": (aten._scaled_dot_product_flash_attention, HEADS_FIRST),
    "ScaledDotProductEfficientAttentionBackward0": (
        lambda q, k, v: aten._scaled_dot_product_efficient_attention(q, k, v, None, True), HEADS_FIRST),
    "ScaledDotProductCudnnAttentionBackward0": (
        lambda q, k, v: aten._scaled_dot_product_cudnn_attention(q, k, v, None, True), HEADS_FIRST),
    "ScaledDotProductFusedAttentionOverrideableBackward0": (
        lambda q, k, v: aten._scaled_dot_product_fused_attention_overrideable(q, k, v, None), HEADS_FIRST),
    "FlashAttentionBackward0": (
        lambda q, k, v: aten._flash_attention_forward(q, k, v, None, None, 8, 8, 0.0, False, False),
        HEADS_LAST),
    "EfficientAttentionBackward0": (
        lambda q, k, v: aten._efficient_attention_forward(
            q, k, v, None, None, None, None, None, 0.0, 0, True), HEADS_LAST),
    sdpa.VARLEN: (lambda q, k, v: varlen_attn(q, k, v, ends(q), ends(q), 6, 6), (10, 4, 16)),
}  # fmt: skip
FACTORS = {  # live -> what q, k and v get of their gradients
    (0, 1, 2): (0.25, 0.25, 0.5),
    (0, 1): (0.5, 0.5, None),
    (0, 2): (0.5, None, 0.5),
    (1, 2): (None, 0.5, 0.5),
    (0,): (1.0, None, None),
    (2,): (None, None, 1.0),
}


def ends(t: Tensor) -> Tensor:
    """Two packed sequences, of 4 and 6."""
    return torch.tensor([0, 4, 10], dtype=torch.int32, device=t.device)


@pytest.mark.parametrize("live", FACTORS, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_fused_node_takes_its_own_backward_times_constants(
    name: str, live: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    call, shape = CALLS[name]
    qkv = [torch.randn(shape, device="meta", dtype=torch.float16) for _ in range(3)]
    for i in live:
        qkv[i].requires_grad_()
    made = call(*qkv)
    y = made[0] if isinstance(made, tuple) else made
    assert y.grad_fn is not None and kind(y.grad_fn) == name
    graph = Graph([address(y)])
    sweep = Sweep(graph, [address(qkv[i]) for i in live], (), lrp.load_rules(), {})
    op = sweep.op(y.grad_fn)
    assert op is not None and len(op.row.operands) == len(op.edges)
    c = [torch.ones_like(y), *[None] * (len(y.grad_fn._input_metadata) - 1)]
    rule = sweep.rule_of(op)
    for entry, t, i in zip(rule.coefficient(op, *c), qkv, range(3)):
        # The kernel makes all three gradients; what the engine takes are those of live operands.
        assert i not in live or (isinstance(entry, Tensor) and entry.shape == t.shape)

    def ones(self: Sweep, node: Any, c: Any) -> tuple[Tensor | None, ...]:
        return (torch.ones(1), torch.ones(1), torch.ones(1), *[None] * 11)

    monkeypatch.setattr(Sweep, "call", ones)
    entries = rule.coefficient(op, *c)
    assert len(entries) == len(op.edges)
    assert all(f is None or float(entries[i]) == f for i, f in enumerate(FACTORS[live]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("live", "factors"),
    [
        ((0, 1, 2, 3), (0.25, 0.25, 0.5, 0.5)),
        ((2, 3), (None, None, 0.5, 0.5)),
        ((0, 3), (1.0, None, None, 1.0)),
        ((0, 1, 3), (0.5, 0.5, None, 1.0)),
        ((3,), (None, None, None, 1.0)),
    ],
    ids=str,
)
def test_a_live_bias_is_a_term_of_the_logits(
    live: tuple[int, ...], factors: tuple[float | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shares half of the output with the values, and nothing with q k^T, whose sum with it is a sum."""
    operands = [torch.randn(HEADS_FIRST, device="meta", dtype=torch.float16) for _ in range(3)]
    operands.append(torch.randn(2, 4, 8, 8, device="meta", dtype=torch.float16))
    for i in live:
        operands[i].requires_grad_()
    y = aten._scaled_dot_product_efficient_attention(*operands, True)[0]
    sweep = Sweep(Graph([address(y)]), [address(operands[i]) for i in live], (), lrp.load_rules(), {})
    op = sweep.op(y.grad_fn)
    assert op is not None and op.row.name_of(3) == "attn_bias"
    monkeypatch.setattr(Sweep, "call", lambda self, node, c: tuple(torch.ones(1) for _ in range(4)))
    c = [torch.ones_like(y), *[None] * (len(y.grad_fn._input_metadata) - 1)]
    entries = sweep.rule_of(op).coefficient(op, *c)
    assert all(f is None or float(e) == f for e, f in zip(entries, factors, strict=True))  # type: ignore[arg-type]
    monkeypatch.undo()
    # In steps: the same factors of the plain gradient.
    q, k, v, bias = (torch.randn(1, 2, 3, 3, dtype=torch.float64) for _ in range(4))
    for i in live:
        (q, k, v, bias)[i].requires_grad_()
    steps = (q @ k.mT / math.sqrt(3) + bias).softmax(-1) @ v
    for i in live:
        x = (q, k, v, bias)[i]
        (gradient,) = torch.autograd.grad(steps.sum(), x, retain_graph=True)
        maps = lrp.relevance(steps, [(q, k, v, bias)[j] for j in live])
        torch.testing.assert_close(maps[live.index(i)], x.detach() * gradient * factors[i])


# -- custom Functions: a stand-in under the library's name --------------------------------------------


def stand_in(name: str) -> Any:
    """A Function of that full name that attends and has a plain backward; heads stand last."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
            ctx.save_for_backward(q, k, v)
            ctx.arguments = 3 + len(rest)
            return attended(q, k, v)

        @staticmethod
        def backward(ctx: Any, *c: Any) -> Any:
            qkv = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            with torch.enable_grad():
                grads = torch.autograd.grad(attended(*qkv), qkv, c[0])
            return (*grads, *[None] * (ctx.arguments - 3))

    Attention.__module__, _, Attention.__qualname__ = name.rpartition(".")
    return Attention


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.transpose(-3, -2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(-3, -2)


@pytest.mark.parametrize("live", FACTORS, ids=str)
@pytest.mark.parametrize("name", ["FlashAttnFunc", "FlashAttnVarlenFunc"])
def test_functions_of_flash_attn_get_the_map_of_the_fused_node(name: str, live: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    qkv = [torch.randn(1, 5, 2, 4, dtype=torch.float64) for _ in range(3)]
    for i in live:
        qkv[i].requires_grad_()
    rest = (0.0, None) if name == "FlashAttnFunc" else (torch.tensor([0, 5]), torch.tensor([0, 5]), 5, 5)
    y = stand_in(f"flash_attn.flash_attn_interface.{name}").apply(*qkv, *rest)
    inputs = [qkv[i] for i in live]
    for got, expected in zip(lrp.relevance(y, inputs), lrp.relevance(attended(*qkv), inputs)):
        torch.testing.assert_close(got, expected)


def stand_in_packed(name: str) -> Any:
    """The same of a call that takes (q, k, v) in one tensor, or (k, v): stacked before heads and width."""

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Tensor:
            tensors = [t for t in arguments if isinstance(t, Tensor) and t.is_floating_point()]
            ctx.save_for_backward(*tensors)
            ctx.arguments = len(arguments)
            return attended(*unpacked(*tensors))

        @staticmethod
        def backward(ctx: Any, *c: Any) -> Any:
            tensors = [t.detach().requires_grad_() for t in ctx.saved_tensors]
            with torch.enable_grad():
                grads = torch.autograd.grad(attended(*unpacked(*tensors)), tensors, c[0])
            return (*grads, *[None] * (ctx.arguments - len(tensors)))

    Attention.__module__, _, Attention.__qualname__ = name.rpartition(".")
    return Attention


def unpacked(*tensors: Tensor) -> tuple[Tensor, ...]:
    """q, k and v of (q, kv) or of (qkv,), as views."""
    return (*tensors[:-1], *tensors[-1].unbind(-3))


PACKED = {
    "FlashAttnQKVPackedFunc": (((1, 5, 3, 2, 4),), ()),
    "FlashAttnVarlenQKVPackedFunc": (((5, 3, 2, 4),), (torch.tensor([0, 5]), 5)),
    "FlashAttnKVPackedFunc": (((1, 5, 2, 4), (1, 5, 2, 2, 4)), ()),
    "FlashAttnVarlenKVPackedFunc": (((5, 2, 4), (5, 2, 2, 4)), (torch.tensor([0, 5]),) * 2 + (5, 5)),
}


@pytest.mark.parametrize("preset", ["default", "cp-lrp"])
@pytest.mark.parametrize("name", PACKED)
def test_packed_functions_of_flash_attn_get_the_map_of_the_parts(name: str, preset: str) -> None:
    torch.manual_seed(0)
    shapes, rest = PACKED[name]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    fused = stand_in_packed(f"flash_attn.flash_attn_interface.{name}").apply(*tensors, *rest, 0.0, None)
    steps = attended(*unpacked(*tensors))
    for inputs in (tensors, tensors[:1], tensors[-1:]):
        runs = [lrp.propagate(y, inputs, rules=preset) for y in (fused, steps)]
        for got, expected in zip(runs[0].relevance, runs[1].relevance):
            torch.testing.assert_close(got, expected)


# -- forwards ----------------------------------------------------------------------------------------


def by_hand(q: Tensor, k: Tensor, v: Tensor, left: int, right: int, scale: float) -> Tensor:
    """One sequence (length, heads, width), query by query; a query that sees nothing gives 0."""
    out = torch.zeros(q.shape[0], q.shape[1], v.shape[2], dtype=q.dtype)
    for h in range(q.shape[1]):
        g = h * k.shape[1] // q.shape[1]
        for i in range(q.shape[0]):
            place = i + k.shape[0] - q.shape[0]
            seen = [
                j for j in range(k.shape[0])
                if (left < 0 or j >= place - left) and (right < 0 or j <= place + right)
            ]  # fmt: skip
            weights = [math.exp(scale * float(q[i, h] @ k[j, g])) for j in seen]
            for w, j in zip(weights, seen):
                out[i, h] += w / sum(weights) * v[j, g]
    return out


@pytest.mark.parametrize(("left", "right"), [(-1, -1), (-1, 0), (2, 0), (1, 1), (0, -1)])
def test_packed_sequences_are_attended_one_by_one(left: int, right: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(10, 4, 3, dtype=torch.float64)
    k, v = (torch.randn(9, 2, 3, dtype=torch.float64) for _ in range(2))
    ends_q, ends_k = torch.tensor([0, 4, 10]), torch.tensor([0, 6, 9])  # the second: more queries than keys
    got = sdpa.packed(q, k, v, ends_q, ends_k, left, right, 0.7)
    expected = [
        by_hand(q[:4], k[:6], v[:6], left, right, 0.7),
        by_hand(q[4:], k[6:], v[6:], left, right, 0.7),
    ]
    torch.testing.assert_close(got, torch.cat(expected))
    whole = sdpa.packed(q[None, :9], k[None], v[None], None, None, left, right, 0.7)
    torch.testing.assert_close(whole[0], by_hand(q[:9], k, v, left, right, 0.7))


def test_dropped_weights_are_not_guessed() -> None:
    """A kernel that dropped attention weights cannot be computed again: an error, not another map."""
    op: Any = SimpleNamespace(saved=SimpleNamespace(dropout_p=0.1), row=SimpleNamespace(node="Fused"))
    with pytest.raises(lrp.Unrecoverable, match="dropout_p=0"):
        sdpa._heads_first(op, *(torch.zeros(1, 1, 2, 2) for _ in range(3)))


@pytest.mark.parametrize("form", ["rows", "columns", "inner", "batch"])
def test_groups_of_any_dtype(form: str) -> None:
    """float64 has no kernel: the loop is the kernel's result, what lies behind the last end included."""
    torch.manual_seed(0)
    ends: Tensor | None = torch.tensor([3, 3, 8], dtype=torch.int32)
    a, b = {
        "rows": (torch.randn(8, 4), torch.randn(3, 4, 4)),
        "columns": (torch.randn(3, 4, 4), torch.randn(8, 4).mT),
        "inner": (torch.randn(8, 4).mT, torch.randn(8, 4)),
        "batch": (torch.randn(3, 4, 4), torch.randn(3, 4, 4)),
    }[form]
    ends = None if form == "batch" else ends
    slow = moe.grouped(a.double(), b.double(), ends)
    torch.testing.assert_close(slow.float(), torch._grouped_mm(a, b, offs=ends))


@pytest.mark.parametrize("affine", [False, True])
def test_fused_rms_norm_is_the_one_by_hand(affine: bool) -> None:
    """Forward and coefficient of FusedRmsNormBackward0, which only accelerators build."""
    torch.manual_seed(0)
    x, c = (torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    weight = torch.randn(4, dtype=torch.float64) if affine else None
    rows = [[v / math.sqrt(sum(u * u for u in row) / 4 + 0.01) for v in row] for row in x.tolist()]
    plain = torch.tensor(rows, dtype=torch.float64)
    saved = SimpleNamespace(
        input=x, weight=weight, normalized_shape=(4,), result1=(plain / x).mean(-1, keepdim=True)
    )
    op: Any = SimpleNamespace(saved=saved)
    torch.testing.assert_close(norm._rms_norm(op, x, weight), plain if weight is None else plain * weight)
    with torch.no_grad():
        got = norm._rms_pull(op, c, 0, [x, weight].__getitem__)
    # The rms is held: what x_i gets is c_i * weight_i / rms, so relevance passes entry by entry.
    gain = torch.ones(4) if weight is None else weight
    torch.testing.assert_close(x * got, plain * gain * c)
