"""What the fused kernels of mamba_ssm and causal_conv1d compute, in elementary operations, step by step.

The order of operations is that of the packages' reference functions (``selective_scan_ref``,
``causal_conv1d_ref``, ``ssd_selective_scan``, ``mamba_split_conv1d_scan_ref``): relevance of a fused node is
that of these operations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from dynamiclrp_core.numerics import at_least_float32
from torch import Tensor

Hold = Callable[[Tensor], Tensor]
"""What is done to decay, key and query: nothing, or ``stop_relevance``."""


def nothing(t: Tensor) -> Tensor:
    """``t``."""
    return t


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu: bool,
    initial: Tensor | None = None,
    sequence: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution: output (b, d, l), and the last width - 1 inputs (b, d, width - 1).

    x (b, d, l); weight (d, width); bias (d); initial (b, d, width - 1): what came before; sequence (b, l):
    number of the sequence each step belongs to, others are not seen.
    """
    steps, width = x.shape[-1], weight.shape[-1]
    before = F.pad(x, (width - 1, 0)) if initial is None else torch.cat([initial, x], -1)
    if sequence is None:
        made = F.conv1d(before, weight.unsqueeze(1), bias, groups=x.shape[1])
    else:
        made = torch.zeros_like(x)
        numbers = F.pad(sequence, (width - 1, 0), value=-1)
        for k in range(width):
            same = (numbers[:, k : k + steps] == sequence).to(x.dtype)
            made = made + before[:, :, k : k + steps] * same[:, None] * weight[:, k, None]
        made = made if bias is None else made + bias[:, None]
    return F.silu(made) if silu else made, before[:, :, steps:]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    hold: Hold = nothing,
) -> tuple[Tensor, Tensor]:
    """Mamba's scan: output (b, d, l) and last state (b, d, n).

    u, delta, z (b, d, l); a (d, n), real; b, c (d, n), (b, n, l) or (b, g, n, l); d, delta_bias (d).
    """
    dtype = u.dtype
    u, delta, b, c = (at_least_float32(t) for t in (u, delta, b, c))
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = F.softplus(delta) if softplus else delta
    b, c = (_per_channel(t, u.shape[1]) for t in (b, c))
    decay, key, c = hold(torch.exp(delta[..., None] * a[:, None])), hold(delta[..., None] * b), hold(c)
    written = key * u[..., None]  # (b, d, l, n)
    state = decay.new_zeros(u.shape[0], *a.shape)
    read = []
    for t in range(u.shape[-1]):
        state = decay[:, :, t] * state + written[:, :, t]
        read.append((state * (c[:, :, t] if c.shape[2] > 1 else c[:, :, 0])).sum(-1))
    y = torch.stack(read, -1) if read else torch.zeros_like(u)
    y = y if d is None else y + u * d[:, None]
    y = y if z is None else y * F.silu(at_least_float32(z))
    return y.to(dtype), state


def _per_channel(t: Tensor, channels: int) -> Tensor:
    """``b`` or ``c`` as (b, d, l, n), with size 1 where it does not vary."""
    if t.dim() == 2:  # constant over time
        return t[None, :, None]
    if t.dim() == 3:
        return t.transpose(1, 2)[:, None]
    return t.transpose(2, 3).repeat_interleave(channels // t.shape[1], 1)


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial: Tensor | None = None,
    sequence: Tensor | None = None,
    softplus: bool = False,
    limits: tuple[float, float] = (0.0, float("inf")),
    hold: Hold = nothing,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's scan: output (b, l, h, p) and last state (b, h, p, n).

    x, z (b, l, h, p); dt (b, l, h); a, dt_bias (h); b, c (b, l, g, n); d (h) or (h, p); initial (b, h, p, n);
    sequence (b, l): where the number changes, the state starts anew.
    """
    dtype, heads = x.dtype, x.shape[2]
    x, dt, b, c = (at_least_float32(t) for t in (x, dt, b, c))
    dt = dt if dt_bias is None else dt + dt_bias
    dt = F.softplus(dt) if softplus else dt
    dt = dt if limits == (0.0, float("inf")) else dt.clamp(*limits)
    b, c = (t.repeat_interleave(heads // t.shape[2], 2) for t in (b, c))
    decay, key, c = hold(torch.exp(dt * a))[..., None, None], hold(dt[..., None] * b), hold(c)
    written = key[..., None, :] * x[..., None]  # (b, l, h, p, n)
    state = x.new_zeros(x.shape[0], *written.shape[2:]) if initial is None else at_least_float32(initial)
    read = []
    for t in range(x.shape[1]):
        kept = state * decay[:, t]
        if sequence is not None and t:
            kept = kept * (sequence[:, t] == sequence[:, t - 1]).to(x.dtype)[:, None, None, None]
        state = kept + written[:, t]
        read.append((state * c[:, t, :, None]).sum(-1))
    y = torch.stack(read, 1) if read else torch.zeros_like(x)
    y = y if d is None else y + x * (d if d.dim() == 2 else d[:, None])
    y = y if z is None else y * F.silu(at_least_float32(z))
    return y.to(dtype), state


def gated_rms_norm(
    x: Tensor, weight: Tensor | None, z: Tensor | None, eps: float, groups: int, norm_first: bool
) -> Tensor:
    """``norm(x) silu(z)`` or ``norm(x silu(z))``, RMS over each of ``groups`` parts of the last dim."""
    x = x * F.silu(z) if z is not None and not norm_first else x
    parts = x.unflatten(-1, (groups, -1))
    y: Tensor = (parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + eps)).flatten(-2)
    y = y if weight is None else y * weight
    return y * F.silu(z) if z is not None and norm_first else y
