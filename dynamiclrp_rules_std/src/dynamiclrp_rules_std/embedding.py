"""Bags of embeddings: sums, means or maxima of rows of a table."""

from __future__ import annotations

from typing import Any

import torch
from dynamiclrp_core.families import custom, moving, stopping
from dynamiclrp_core.matching.matchers import bilinear
from dynamiclrp_core.numerics import vjp
from dynamiclrp_core.op import Op
from dynamiclrp_core.rules.defaults import Affine, Product
from torch import Tensor

MAX = 2  # the mode; 0 is sum, 1 mean


def _bag(op: Op, weight: Tensor, scale: Tensor | None) -> Tensor:
    """Rows summed per bag, padding left out; a maximum is read at the saved row of each entry."""
    s, (bags, width) = op.saved, op.shape
    position = torch.arange(s.indices.numel(), device=weight.device)
    bag = torch.searchsorted(s.offsets[:bags].contiguous(), position, right=True) - 1
    used = (s.indices != s.padding_idx).to(weight.dtype)
    count = used.new_zeros(bags).index_add(0, bag, used)[:, None]
    if s.mode == MAX:
        return weight.gather(0, s.result3) * (count > 0)
    rows = weight[s.indices] * (used if scale is None else used * scale)[:, None]
    total = rows.new_zeros(bags, width).index_add(0, bag, rows)
    return total / count.clamp(min=1) if s.mode else total


def _pull(op: Op, c: Tensor, i: int, at: Any) -> Tensor:
    for name in ("indices", "offsets", "result3"):
        getattr(op.saved, name)  # now: a checkpoint cannot run again inside torch.func
    # Not the node's own backward: it divides by frequency where the call asked for that.
    if i == 0:
        scale = None if op.optional(1) is None else at(1)
        return vjp(lambda w: _bag(op, w, scale), op.zeros(0).to(c.dtype))[1](c)[0]
    weight = at(0)
    return vjp(lambda scale: _bag(op, weight, scale), op.zeros(1).to(c.dtype))[1](c)[0]


def _packed(op: Op, x: Tensor) -> Tensor:
    """The steps of sequences of falling length, one time step after the other."""
    sizes = op.saved.result1
    x = x.transpose(0, 1) if op.saved.batch_first else x
    return torch.cat([x[t, :n] for t, n in enumerate(sizes.tolist())])


ROWS = (
    custom("EmbeddingBagBackward0", Affine(), "weight per_sample_weights", family="embedding",
        cases=((bilinear, Product()),), factors=(0, 1), optional=(1,), forward=_bag, pull=_pull),
    stopping("EmbeddingRenormBackward0"),  # embedding_renorm_ rescales the table under no_grad
    moving("PackPaddedSequenceBackward0", "input", forward=_packed),
)  # fmt: skip
