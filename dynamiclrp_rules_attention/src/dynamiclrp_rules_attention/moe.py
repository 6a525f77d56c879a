"""Mixtures of experts: the matrix product of each group of tokens with its own expert.

Everything else of a routing is an index: which experts (topk) moves entries, token order is a gather,
the router's weight times the expert's output is a product like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from dynamiclrp_core.families import affine, custom
from dynamiclrp_core.node import function_tensors
from dynamiclrp_core.numerics import raised
from dynamiclrp_core.op import Op
from dynamiclrp_core.subgraph import Composite, StandIn
from torch import Tensor

At = Callable[[int], Tensor]
KERNEL = (torch.float32, torch.bfloat16, torch.float16)


def _kernel_takes(t: Tensor) -> bool:
    """The kernel wants one dense dimension, and steps of whole 16 bytes along the other."""
    steps = t.stride()[-2:]
    return t.dtype in KERNEL and t.numel() > 0 and 1 in steps and max(steps) * t.element_size() % 16 == 0


def grouped(a: Tensor, b: Tensor, ends: Tensor | None) -> Tensor:
    """``torch.nn.functional.grouped_mm`` in any dtype: group g ends at ``ends[g]``.

    a (T, K), b (G, K, N): rows of a, (T, N), 0 behind the last end. a (G, M, K), b (K, T): columns of b,
    (M, T). a (M, T), b (T, N): a product per group, (G, M, N). a (G, M, K), b (G, K, N): no ends, (G, M, N).
    """
    if ends is None:
        return a @ b
    if _kernel_takes(a) and _kernel_takes(b):
        made: Tensor = torch.ops.aten._grouped_mm(a, b, ends)
        return made
    stops = ends.tolist()
    spans = list(zip([0, *stops[:-1]], stops))
    if a.dim() == 2 and b.dim() == 3:
        rest = a.new_zeros(a.shape[0] - stops[-1], b.shape[-1])
        return torch.cat([*(a[s:e] @ b[g] for g, (s, e) in enumerate(spans)), rest])
    if a.dim() == 3:
        rest = b.new_zeros(a.shape[1], b.shape[1] - stops[-1])
        return torch.cat([*(a[g] @ b[:, s:e] for g, (s, e) in enumerate(spans)), rest], 1)
    return torch.stack([a[:, s:e] @ b[s:e] for s, e in spans])


def _pull(op: Op, c: Tensor, i: int, at: At) -> Tensor:
    c = c.contiguous()  # the coefficient of a sum is one number, expanded
    return grouped(c, at(1).mT, op.saved.offs) if i == 0 else grouped(at(0).mT, c, op.saved.offs)


class Grouped(Composite):
    """A product per group. Its operands are what the custom op's context kept, frozen weights as well."""

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        node: Any = op.node
        kept = (t.to(raised(t.dtype, op.sweep.dtype)) for t in function_tensors(node))
        a, b = (stand_in(t, wanted) for t, wanted in zip(kept, op.wanted))
        wanted = [t if w else None for t, w in zip((a, b, None), op.wanted)]
        return (grouped(a, b, node.offs),), wanted


def _fallback(op: Op, a: Tensor, b: Tensor, *_: Tensor | None) -> Tensor:
    node: Any = op.node
    return grouped(a, b, node.offs)


FALLBACK = "torch._library.autograd.GeneratedBackwardFor_transformers_grouped_mm_fallback_default"
"""The custom op that transformers calls where torch's kernel cannot run (older torch, older GPUs)."""

ROWS = (
    affine("GroupedMmBackward0", "self mat2", factors=(0, 1), pull=_pull,
        forward=lambda op, a, b: grouped(a, b, op.saved.offs)),
    custom(FALLBACK, Grouped(), "input weight offs", family="composite", unused=(2,), forward=_fallback),
)  # fmt: skip
