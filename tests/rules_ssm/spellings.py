"""One scan in many spellings. Independent of the pack: nothing of it is imported here.

``h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t``, ``y_t = C_t h_t``, as Mamba has it (a state per channel)
and as Mamba-2 (a scalar decay per head, keys and queries shared by the heads of a group).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """u, delta (b, d, l); a (d, n); b, c (b, n, l)."""

    u: Tensor
    delta: Tensor
    a: Tensor
    b: Tensor
    c: Tensor

    def held(self) -> Parts:
        """Only the signal carries a gradient."""
        return Parts(self.u, self.delta.detach(), self.a, self.b.detach(), self.c.detach())


def mamba_parts(u: Tensor, states: int, seed: int) -> Parts:
    """Step, key and query as linear functions of the signal, as in Mamba."""
    g = torch.Generator().manual_seed(seed)
    d = u.shape[1]

    def weight(rows: int) -> Tensor:
        return torch.randn(rows, d, generator=g, dtype=torch.float64).to(u)

    a = -torch.rand(d, states, generator=g, dtype=torch.float64).to(u) - 0.1
    return Parts(u, F.softplus(weight(d) @ u), a, weight(states) @ u, weight(states) @ u)


def loop(p: Parts) -> Tensor:
    """Step by step, read by a matrix product (transformers' slow path)."""
    decay = torch.exp(p.a[None, :, None] * p.delta[..., None])
    written = p.delta[..., None] * p.b.transpose(1, 2)[:, None] * p.u[..., None]
    h = torch.zeros_like(decay[:, :, 0])
    ys = []
    for t in range(p.u.shape[2]):
        h = decay[:, :, t] * h + written[:, :, t]
        ys.append((h @ p.c[:, :, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(ys, -1)


def einsum_loop(p: Parts) -> Tensor:
    """Step by step in einsums (the reference of mamba_ssm)."""
    decay = torch.exp(torch.einsum("bdl,dn->bdln", p.delta, p.a))
    written = torch.einsum("bdl,bnl,bdl->bdln", p.delta, p.b, p.u)
    h = p.u.new_zeros(p.u.shape[0], *p.a.shape)
    ys = []
    for t in range(p.u.shape[2]):
        h = decay[:, :, t] * h + written[:, :, t]
        ys.append(torch.einsum("bdn,bn->bd", h, p.c[:, :, t]))
    return torch.stack(ys, dim=2)


def associative(p: Parts) -> Tensor:
    """All steps at once: pairs (decay, state) combined over distances 1, 2, 4, ... (Hillis and Steele)."""
    decay = torch.exp(p.a[None, :, None] * p.delta[..., None])
    state = (p.delta[..., None] * p.b.transpose(1, 2)[:, None]) * p.u[..., None]
    distance = 1
    while distance < p.u.shape[2]:
        later = decay[:, :, distance:] * state[:, :, :-distance] + state[:, :, distance:]
        both = decay[:, :, distance:] * decay[:, :, :-distance]
        state = torch.cat([state[:, :, :distance], later], 2)
        decay = torch.cat([decay[:, :, :distance], both], 2)
        distance *= 2
    return (state * p.c.transpose(1, 2)[:, None]).sum(-1)


def chunked(p: Parts, size: int = 2) -> Tensor:
    """Within a chunk by a cumulative sum of decayed terms, from chunk to chunk by the last state."""
    written = (p.delta[..., None] * p.b.transpose(1, 2)[:, None]) * p.u[..., None]
    h = torch.zeros_like(written[:, :, 0])
    ys = []
    for start in range(0, p.u.shape[2], size):
        part = slice(start, start + size)
        log = torch.cumsum(p.a[None, :, None] * p.delta[:, :, part, None], 2)
        inside = torch.cumsum(written[:, :, part] * torch.exp(-log), 2)
        states = torch.exp(log) * (h[:, :, None] + inside)
        ys.append((states * p.c.transpose(1, 2)[:, None, part]).sum(-1))
        h = states[:, :, -1]
    return torch.cat(ys, -1)


MAMBA: dict[str, Callable[[Parts], Tensor]] = {
    "loop": loop,
    "einsum": einsum_loop,
    "associative": associative,
    "chunked": chunked,
}


def mamba2_parts(x: Tensor, states: int, groups: int, seed: int) -> Parts:
    """As ``mamba_parts`` for x (b, l, h, p): delta (b, l, h), a (h), b and c (b, l, h, n)."""
    g = torch.Generator().manual_seed(seed)
    flat, heads = x.flatten(2), x.shape[2]

    def projected(columns: int) -> Tensor:
        return flat @ torch.randn(flat.shape[-1], columns, generator=g, dtype=torch.float64).to(x)

    def per_head() -> Tensor:
        return (
            projected(groups * states).unflatten(-1, (groups, states)).repeat_interleave(heads // groups, 2)
        )

    a = -torch.rand(heads, generator=g, dtype=torch.float64).to(x) - 0.1
    return Parts(x, F.softplus(projected(heads)), a, per_head(), per_head())


Write = Callable[[Tensor, Tensor, Tensor], Tensor]
WRITES: dict[str, Write] = {
    "einsum": lambda x, dt, b: torch.einsum("bh,bhn,bhp->bhpn", dt, b, x),
    "step-on-signal": lambda x, dt, b: (x * dt[..., None])[..., None] * b[:, :, None],
    "step-on-key": lambda x, dt, b: x[..., None] * (b * dt[..., None])[:, :, None],
    "step-last": lambda x, dt, b: x[..., None] * b[:, :, None] * dt[..., None, None],
    "matrix": lambda x, dt, b: (x * dt[..., None]).unsqueeze(-1) @ b.unsqueeze(-2),
}
READS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "einsum": lambda s, c: torch.einsum("bhpn,bhn->bhp", s, c),
    "matrix": lambda s, c: (s @ c.unsqueeze(-1))[..., 0],
    "sum": lambda s, c: (s * c[:, :, None]).sum(-1),
}


def mamba2_loop(p: Parts, write: str, read: str) -> Tensor:
    """Step by step, with the product written and read in one of many ways."""
    state = p.u.new_zeros(p.u.shape[0], *p.u.shape[2:], p.b.shape[-1])
    ys = []
    for t in range(p.u.shape[1]):
        kept = state * torch.exp(p.delta[:, t] * p.a)[..., None, None]
        state = kept + WRITES[write](p.u[:, t], p.delta[:, t], p.b[:, t])
        ys.append(READS[read](state, p.c[:, t]))
    return torch.stack(ys, 1)


def attention_form(p: Parts) -> Tensor:
    """All steps at once: ``((C B^T) * decay) @ (delta x)``, the quadratic form of Mamba-2."""
    log = torch.cumsum(p.delta * p.a, 1).transpose(1, 2)  # (b, h, l)
    later = torch.ones(log.shape[-1], log.shape[-1], dtype=torch.bool, device=log.device).triu(1)
    decay = (log[..., None] - log[..., None, :]).masked_fill(later, -torch.inf).exp()
    scores = p.c.transpose(1, 2) @ p.b.permute(0, 2, 3, 1)
    return ((scores * decay) @ (p.u * p.delta[..., None]).transpose(1, 2)).transpose(1, 2)
