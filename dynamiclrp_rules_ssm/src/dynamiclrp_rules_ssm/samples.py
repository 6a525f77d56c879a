"""Calls that make autograd build each fused node of this pack, with Functions of our own.

The packages need a GPU. These Functions have the names, the arguments and the saved fields of theirs,
and compute the same by ``scans.py``; their backward is the vjp of that.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

from .fused import BOUNDED_SQRT, CHUNKED, COMBINED, CONV, INNER, SCAN
from .scans import causal_conv, gated_rms_norm, selective_scan, ssd_scan


class _Replayed(torch.autograd.Function):
    """Backward: the vjp of the forward at the arguments that ``ctx.arguments`` keeps (a test double may)."""

    @classmethod
    def compute(cls, *arguments: Any) -> Any:
        raise NotImplementedError

    @classmethod
    def keep(cls, ctx: Any, *arguments: Any) -> None:
        """Save what the real Function saves."""
        raise NotImplementedError

    @classmethod
    def forward(cls, ctx: Any, *arguments: Any) -> Any:
        ctx.arguments = arguments
        cls.keep(ctx, *arguments)
        return cls.compute(*arguments)

    @classmethod
    def backward(cls, ctx: Any, *grads: Any) -> Any:
        given = [a.detach().requires_grad_(n) if isinstance(a, Tensor) else a
            for a, n in zip(ctx.arguments, ctx.needs_input_grad)]  # fmt: skip
        with torch.enable_grad():
            made = cls.compute(*given)
        wanted = [a for a, n in zip(given, ctx.needs_input_grad) if n]
        outputs = made if isinstance(made, tuple) else (made,)
        found = iter(torch.autograd.grad(outputs, wanted, grads, allow_unused=True))
        return tuple(next(found) if n else None for n in ctx.needs_input_grad)


def _named(name: str, function: type[_Replayed]) -> Any:
    """The Function under the full name of the real one."""
    function.__module__, _, function.__name__ = name.rpartition(".")
    function.__qualname__ = function.__name__
    return function.apply


class _Scan(_Replayed):
    @classmethod
    def compute(cls, u: Any, delta: Any, a: Any, b: Any, c: Any, d: Any = None, z: Any = None,
        bias: Any = None, softplus: bool = False, last: bool = False) -> Any:  # fmt: skip
        made = selective_scan(u, delta, a, b, c, d, z, bias, softplus)
        return made if last else made[0]

    @classmethod
    def keep(cls, ctx: Any, u: Any, delta: Any, a: Any, b: Any, c: Any, d: Any = None, z: Any = None,
        bias: Any = None, softplus: bool = False, last: bool = False) -> None:  # fmt: skip
        if b.dim() == 3:
            b, ctx.squeeze_B = b[:, None], True
        if c.dim() == 3:
            c, ctx.squeeze_C = c[:, None], True
        ctx.delta_softplus, ctx.has_z = softplus, z is not None
        x, out = torch.zeros(1), torch.zeros(1)
        ctx.save_for_backward(*((u, delta, a, b, c, d, z, bias, x, out) if ctx.has_z else
            (u, delta, a, b, c, d, bias, x)))  # fmt: skip


class _Conv(_Replayed):
    @classmethod
    def compute(cls, x: Any, weight: Any, bias: Any = None, seq_idx: Any = None, initial: Any = None,
        last: bool = False, out: Any = None, activation: Any = None) -> Any:  # fmt: skip
        made = causal_conv(x, weight, bias, activation is not None, initial, seq_idx)
        return made if last else made[0]

    @classmethod
    def keep(cls, ctx: Any, x: Any, weight: Any, bias: Any = None, seq_idx: Any = None,
        initial: Any = None, last: bool = False, out: Any = None,
        activation: Any = None) -> None:  # fmt: skip
        ctx.activation, ctx.return_final_states = activation in ("silu", "swish"), last
        ctx.save_for_backward(x, weight, bias, seq_idx, initial)


class _Inner(_Replayed):
    @classmethod
    def compute(cls, xz: Any, conv: Any, conv_bias: Any, x_proj: Any, dt_proj: Any, out_proj: Any,
        out_bias: Any, a: Any, b: Any = None, c: Any = None, d: Any = None, dt_bias: Any = None,
        b_bias: Any = None, c_bias: Any = None, softplus: bool = True, level: int = 1,
        b_norm: Any = None, c_norm: Any = None, dt_norm: Any = None, eps: float = 1e-6) -> Any:  # fmt: skip
        return cls.parts(xz, conv, conv_bias, x_proj, dt_proj, out_proj, out_bias, a, b, c, d, dt_bias,
            b_bias, c_bias, softplus, b_norm, c_norm, dt_norm, eps)[0]  # fmt: skip

    @classmethod
    def parts(cls, xz: Any, conv: Any, conv_bias: Any, x_proj: Any, dt_proj: Any, out_proj: Any,
        out_bias: Any, a: Any, b: Any, c: Any, d: Any, dt_bias: Any, b_bias: Any, c_bias: Any,
        softplus: bool, b_norm: Any, c_norm: Any, dt_norm: Any, eps: float) -> Any:  # fmt: skip
        """Output, x_dbl, B and C as they are saved."""
        rank, n = dt_proj.shape[1], a.shape[1]
        x, z = xz.chunk(2, 1)
        x, _ = causal_conv(x, conv.squeeze(1), conv_bias, True)
        x_dbl = F.linear(x.transpose(1, 2), x_proj)
        delta = x_dbl[..., :rank] @ dt_proj.t()
        if b is None:
            b = x_dbl[..., rank : rank + n]
            b = b if b_bias is None else b + b_bias
            b = (b if b_norm is None else gated_rms_norm(b, b_norm, None, eps, 1, True)).transpose(1, 2)
        if c is None:
            c = x_dbl[..., -n:]
            c = c if c_bias is None else c + c_bias
            c = (c if c_norm is None else gated_rms_norm(c, c_norm, None, eps, 1, True)).transpose(1, 2)
        delta = delta if dt_norm is None else gated_rms_norm(delta, dt_norm, None, eps, 1, True)
        y, _ = selective_scan(x, delta.transpose(1, 2), a, b, c, d, z, dt_bias, softplus)
        return F.linear(y.transpose(1, 2), out_proj, out_bias), x_dbl.flatten(0, 1), b, c

    @classmethod
    def keep(cls, ctx: Any, xz: Any, conv: Any, conv_bias: Any, x_proj: Any, dt_proj: Any, out_proj: Any,
        out_bias: Any, a: Any, b: Any = None, c: Any = None, d: Any = None, dt_bias: Any = None,
        b_bias: Any = None, c_bias: Any = None, softplus: bool = True, level: int = 1,
        b_norm: Any = None, c_norm: Any = None, dt_norm: Any = None, eps: float = 1e-6) -> None:  # fmt: skip
        ctx.is_variable_B, ctx.is_variable_C = b is None, c is None
        ctx.B_proj_bias_is_None, ctx.C_proj_bias_is_None = b_bias is None, c_bias is None
        ctx.out_proj_bias_is_None, ctx.delta_softplus = out_bias is None, softplus
        ctx.b_c_dt_rms_eps, ctx.checkpoint_lvl = eps, level
        _, x_dbl, kept_b, kept_c = cls.parts(xz, conv, conv_bias, x_proj, dt_proj, out_proj, out_bias, a, b,
            c, d, dt_bias, b_bias, c_bias, softplus, b_norm, c_norm, dt_norm, eps)  # fmt: skip
        kept_b, kept_c = (t[:, None] if t.dim() == 3 else t for t in (kept_b, kept_c))
        rest = torch.zeros(1)
        ctx.save_for_backward(xz, conv.squeeze(1), conv_bias, x_dbl, x_proj, dt_proj, out_proj, None, None,
            a, kept_b, kept_c, d, dt_bias, rest, b_norm, c_norm, dt_norm, rest)  # fmt: skip


class _Chunked(_Replayed):
    @classmethod
    def compute(cls, x: Any, dt: Any, a: Any, b: Any, c: Any, chunk: int, d: Any = None, z: Any = None,
        dt_bias: Any = None, initial: Any = None, seq_idx: Any = None, cu_seqlens: Any = None,
        softplus: bool = False, limits: Any = (0.0, float("inf")), last: bool = False) -> Any:  # fmt: skip
        made = ssd_scan(x, dt, a, b, c, d, z, dt_bias, initial, seq_idx, softplus, limits)
        return made if last else made[0]

    @classmethod
    def keep(cls, ctx: Any, x: Any, dt: Any, a: Any, b: Any, c: Any, chunk: int, d: Any = None,
        z: Any = None, dt_bias: Any = None, initial: Any = None, seq_idx: Any = None,
        cu_seqlens: Any = None, softplus: bool = False, limits: Any = (0.0, float("inf")),
        last: bool = False) -> None:  # fmt: skip
        rest = torch.zeros(1)
        ctx.save_for_backward(rest, x, dt, rest, a, b, c, d, z, dt_bias, initial, seq_idx)
        ctx.dt_softplus, ctx.dt_limit, ctx.chunk_size = softplus, limits, chunk
        ctx.return_final_states, ctx.return_varlen_states = last, False


class _Combined(_Replayed):
    @classmethod
    def compute(cls, zxbcdt: Any, conv: Any, conv_bias: Any, dt_bias: Any, a: Any, d: Any, chunk: int,
        initial: Any = None, seq_idx: Any = None, limits: Any = (0.0, float("inf")), last: bool = False,
        activation: Any = "silu", norm: Any = None, eps: float = 1e-6, out: Any = None,
        out_bias: Any = None, headdim: Any = None, groups: int = 1,
        norm_first: bool = True) -> Any:  # fmt: skip
        heads, width = d.shape[0], d.shape[0] * headdim
        mlp = zxbcdt.shape[-1] - width - conv.shape[0] - heads
        n = (conv.shape[0] - width) // 2
        zx0, z, xbc, dt = zxbcdt.split([mlp, width, conv.shape[0], heads], -1)
        xbc, _ = causal_conv(xbc.transpose(1, 2), conv, conv_bias, activation is not None, None, seq_idx)
        x, b, c = xbc.transpose(1, 2).split([width, n, n], -1)
        x, gate = (t.unflatten(-1, (heads, headdim)) for t in (x, z))
        b, c = (t.unflatten(-1, (groups, -1)) for t in (b, c))
        y, state = ssd_scan(x, dt, a, b, c, d, gate if norm is None else None, dt_bias, initial, seq_idx,
            True, limits)  # fmt: skip
        y = y.flatten(-2)
        y = y if norm is None else gated_rms_norm(y, norm, z, eps, groups, norm_first)
        if mlp:
            left, right = zx0.chunk(2, -1)
            y = torch.cat([F.silu(left) * right, y], -1)
        y = y if out is None else F.linear(y, out, out_bias)
        return (y, state) if last else y

    @classmethod
    def keep(cls, ctx: Any, zxbcdt: Any, conv: Any, conv_bias: Any, dt_bias: Any, a: Any, d: Any, chunk: int,
        initial: Any = None, seq_idx: Any = None, limits: Any = (0.0, float("inf")), last: bool = False,
        activation: Any = "silu", norm: Any = None, eps: float = 1e-6, out: Any = None,
        out_bias: Any = None, headdim: Any = None, groups: int = 1,
        norm_first: bool = True) -> None:  # fmt: skip
        rest = torch.zeros(1)
        ctx.save_for_backward(zxbcdt, conv, conv_bias, rest, a, d, dt_bias, initial, seq_idx, norm,
            None if norm is None else rest, out, out_bias)  # fmt: skip
        ctx.dt_limit, ctx.return_final_states, ctx.activation = limits, last, activation
        ctx.rmsnorm_eps, ctx.norm_before_gate, ctx.chunk_size = eps, norm_first, chunk
        ctx.headdim, ctx.ngroups = headdim, groups


class _BoundedSqrt(_Replayed):
    @classmethod
    def compute(cls, x: Any) -> Any:
        return x.sqrt()

    @classmethod
    def keep(cls, ctx: Any, x: Any) -> None:
        ctx.save_for_backward(x)


selective_scan_fn = _named(SCAN, _Scan)
mamba_inner_fn = _named(INNER, _Inner)
mamba_chunk_scan_combined = _named(CHUNKED, _Chunked)
mamba_split_conv1d_scan_combined = _named(COMBINED, _Combined)
causal_conv1d_fn = _named(CONV, _Conv)
bounded_sqrt = _named(BOUNDED_SQRT, _BoundedSqrt)


def weights(*shapes: int | tuple[int, ...], like: Tensor, seed: int = 0) -> list[Tensor]:
    """Constant random parameters of these shapes, the same at every call."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in shapes:
        t = torch.randn(shape, generator=generator, dtype=torch.float64)
        made.append(t.to(like))
    return made


def scanned(
    u: Tensor, delta: Tensor, b: Tensor, c: Tensor, z: Tensor | None = None, last: bool = False
) -> Any:
    """The selective scan of 3 channels and 2 states."""
    a, d, bias = weights((3, 2), 3, 3, like=u)
    return selective_scan_fn(u, delta, -a.exp(), b, c, d, z, bias, True, last)


def inner(xz: Tensor, **options: Any) -> Any:
    """A Mamba block from its first projection on: 3 channels, rank 2, 2 states, 4 features out."""
    conv, conv_bias, x_proj, dt_proj, out, a, d, bias = weights(
        (3, 1, 4), 3, (6, 3), (3, 2), (4, 3), (3, 2), 3, 3, like=xz
    )
    extra = {k: weights(n, like=xz, seed=i)[0] for i, (k, n) in enumerate(options.items())}
    return mamba_inner_fn(xz, conv, conv_bias, x_proj, dt_proj, out, None, -a.exp(), None, None, d, bias,
        extra.get("b_bias"), extra.get("c_bias"), True, 1, extra.get("b_norm"), extra.get("c_norm"),
        extra.get("dt_norm"), 1e-6)  # fmt: skip


def chunked(
    x: Tensor, dt: Tensor, b: Tensor, c: Tensor, z: Tensor | None = None, initial: Tensor | None = None
) -> Any:
    """Mamba-2's scan of 2 heads."""
    a, d, bias = weights(2, 2, 2, like=x)
    return mamba_chunk_scan_combined(x, dt, -a.exp(), b, c, 2, d, z, bias, initial, None, None, True)


def combined(x: Tensor, **options: Any) -> Any:
    """A Mamba-2 block from its first projection on: 2 heads of 2 channels, 1 group, 3 states."""
    conv, conv_bias, bias, a, d, norm, out = weights((10, 4), 10, 2, 2, 2, 4, (3, 4), like=x)
    return mamba_split_conv1d_scan_combined(x, conv, conv_bias, bias, -a.exp(), d, 2, None, None,
        (0.0, float("inf")), False, "silu", norm if options.get("norm") else None, 1e-6,
        out if options.get("out") else None, None, 2, 1, options.get("first", True))  # fmt: skip


FLOATS = (torch.float64, torch.float32)
MAMBA = ("n 3 4", "n 3 4", "n 2 4", "n 2 4")
MAMBA2 = ("n 4 2 3", "n 4 2", "n 4 1 2", "n 4 1 2")

SAMPLES = (
    Sample(SCAN, scanned, MAMBA, dtypes=FLOATS),
    Sample(SCAN, scanned, (*MAMBA, "n 3 4"), dtypes=FLOATS, label="gate", live=((0,), (4,), (0, 1, 2, 3, 4))),
    Sample(SCAN, lambda u, delta, b, c: scanned(u, delta, b, c, None, True), MAMBA, dtypes=FLOATS,
        label="last", live=((0,), (0, 1, 2, 3))),
    Sample(SCAN, scanned, ("n 3 4", "n 3 4", "n 1 2 4", "n 1 2 4"), dtypes=FLOATS, label="groups",
        live=((0,), (0, 1, 2, 3))),
    Sample(INNER, inner, ("n 6 4",), dtypes=FLOATS),
    Sample(INNER, lambda x: inner(x, b_norm=2, c_norm=2, dt_norm=3), ("n 6 4",), dtypes=FLOATS,
        label="norms"),
    Sample(INNER, lambda x: inner(x, b_bias=2, c_bias=2), ("n 6 4",), dtypes=FLOATS, label="biases"),
    Sample(CHUNKED, chunked, MAMBA2, dtypes=FLOATS),
    Sample(CHUNKED, chunked, (*MAMBA2, "n 4 2 3", "n 2 3 2"), dtypes=FLOATS, label="gate-state",
        live=((0,), (5,), (0, 1, 2, 3, 4, 5))),
    Sample(COMBINED, combined, ("n 4 16",), dtypes=FLOATS),
    Sample(COMBINED, lambda x: combined(x, norm=True, out=True), ("n 4 16",), dtypes=FLOATS, label="norm"),
    Sample(COMBINED, lambda x: combined(x, norm=True, first=False), ("n 4 20",), dtypes=FLOATS, label="mlp"),
    Sample(CONV, lambda x: causal_conv1d_fn(x, *weights((3, 4), 3, like=x)), ("n 3 4",), dtypes=FLOATS),
    Sample(CONV, lambda x, w, b: causal_conv1d_fn(x, w, b, None, None, False, None, "silu"),
        ("n 3 4", "3 2", "3"), dtypes=FLOATS, label="silu"),
    Sample(CONV, lambda x, s: causal_conv1d_fn(x, *weights((3, 4), 3, like=x), None, s, True, None, "silu"),
        ("n 3 4", "n 3 3"), dtypes=FLOATS, label="state"),
    Sample(BOUNDED_SQRT, bounded_sqrt, domain="positive", dtypes=FLOATS),
)  # fmt: skip
