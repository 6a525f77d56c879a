"""A sample: a call that makes autograd build one node, on random tensors of given shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Domain = Literal["real", "positive", "distinct", "unit"]
Style = Literal["plain", "zeros", "cancelling", "noncontiguous"]


@dataclass(frozen=True, eq=False)
class Sample:
    """A call that makes autograd build ``node``.

    call     ``(*tensors) -> output``, a tensor or a tuple of which every float tensor counts
    shapes   one string per tensor, sizes separated by spaces, ``n`` the batch: ``"n 4"``; ``""`` is 0-d
    domain   of the values: any, > 0, all distinct (selections by value), or in (-1, 1)
    batched  sample k of the output depends on sample k of the ``n`` tensors only
    dtypes   floating dtypes the op supports on CPU
    live     which tensors may be the input to explain; None: each alone and all together
    excused  {check: reason}: what the op itself breaks, so that no rule could pass it (torch's gradient of an
             embedding drops the padding's row); listed by ``rules check``
    decomposed  the same call in smaller steps that must give the same relevance
    """

    node: str
    call: Callable[..., Any]
    shapes: tuple[str, ...] = ("n 4",)
    domain: Domain = "real"
    batched: bool = True
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32, torch.bfloat16)
    live: tuple[tuple[int, ...], ...] | None = None
    label: str = ""
    excused: Mapping[str, str] = field(default_factory=dict)
    decomposed: Callable[..., Any] | None = None

    @property
    def precision(self) -> torch.dtype:
        """float64, or what the kernel has."""
        return torch.float64 if torch.float64 in self.dtypes else self.dtypes[0]

    def __str__(self) -> str:
        return f"{self.node}{'-' + self.label if self.label else ''}"

    def sizes(self, n: int) -> list[tuple[int, ...]]:
        """Shapes for a batch of ``n``."""
        return [tuple(n if d == "n" else int(d) for d in s.split()) for s in self.shapes]

    def tensors(
        self, seed: int, n: int = 2, dtype: torch.dtype = torch.float64, device: str = "cpu"
    ) -> list[Tensor]:
        """Random tensors of the sample's shapes and domain, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for size in self.sizes(n):
            if self.domain == "distinct":
                count = torch.Size(size).numel()
                t = torch.randperm(count, generator=generator).double().view(size) / 7 - count / 15
            else:
                t = torch.randn(size, generator=generator, dtype=torch.float64)
            if self.domain == "positive":
                t = t.abs() + 0.1
            elif self.domain == "unit":
                t = t.tanh() * 0.9
            made.append(t.to(device=device, dtype=dtype))
        return made

    def subsets(self) -> Iterator[tuple[int, ...]]:
        """Which operands to explain: each alone, and all together."""
        if self.live is not None:
            yield from self.live
            return
        many = len(self.shapes)
        yield from ((i,) for i in range(many))
        if many > 1:
            yield tuple(range(many))
