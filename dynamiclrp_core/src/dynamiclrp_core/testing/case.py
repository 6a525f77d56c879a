"""One run of a sample, as the checks of the conformance kit ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..api import Run, propagate
from ..engine import Sweep
from ..graph import Graph
from ..node import address
from ..numerics import dense
from ..op import Op
from ..rule import Rule
from ..samples import Sample, Style
from ..table import Rules
from ..values.existing import Existing
from ..values.record import record

Through = Literal["", "checkpoint", "reentrant checkpoint", "decomposed"]


@dataclass(frozen=True, eq=False)
class Case:
    """One run of a sample: which tensors are explained, and their values.

    ``given``: these tensors instead of random ones. ``through``: the call as it is, inside one of the two
    kinds of activation checkpoint, or as the sample spells it out.
    """

    sample: Sample
    live: tuple[int, ...]
    seed: int = 0
    n: int = 2
    style: Style = "plain"
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    through: Through = ""
    given: tuple[Tensor, ...] | None = None

    def __str__(self) -> str:
        return f"{self.sample}-{''.join(map(str, self.live))}"

    def but(self, **changes: Any) -> Case:
        """This case with other fields."""
        return replace(self, **changes)

    def tensors(self) -> list[Tensor]:
        """The sample's tensors in this case's style; the live ones require grad."""
        if self.given is not None:
            return [t.detach().clone().requires_grad_(i in self.live) for i, t in enumerate(self.given)]
        made = self.sample.tensors(self.seed, self.n, self.dtype, self.device)
        generator = torch.Generator().manual_seed(self.seed + 1)
        for i, t in enumerate(made):
            if self.style == "zeros" and self.sample.domain == "real":
                t = t * (torch.rand(t.shape, generator=generator) > 0.4).to(t)
            elif self.style == "cancelling" and self.sample.domain == "real":
                t = torch.where(torch.rand(t.shape, generator=generator).to(t) > 0.5, t, -t.round())
            elif self.style == "noncontiguous" and t.dim():
                t = torch.stack([t, t], -1)[..., 0]
            made[i] = t.detach().requires_grad_(i in self.live)
        return made

    def run(self, rules: Rules, output_relevance: Any = None, **arguments: Any) -> Run:
        """Explain the sample's outputs in terms of the live tensors."""
        tensors, outputs = self.forward()
        return propagate(
            outputs,
            [tensors[i] for i in self.live],
            output_relevance,
            rules=rules,
            allow_unused=True,
            **arguments,
        )

    def forward(self) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """The tensors and the outputs that have a gradient, recorded."""
        tensors = self.tensors()
        with record():
            made = self._call(tensors)
        outputs = made if isinstance(made, tuple | list) else (made,)
        return tensors, tuple(y for y in outputs if isinstance(y, Tensor) and y.requires_grad)

    def _call(self, tensors: list[Tensor]) -> Any:
        if self.through == "decomposed":
            assert self.sample.decomposed is not None
            return self.sample.decomposed(*tensors)
        if self.through:
            return checkpoint(self.sample.call, *tensors, use_reentrant=self.through != "checkpoint")
        return self.sample.call(*tensors)

    @property
    def tolerance(self) -> float:
        """Relative tolerance of one op in this dtype."""
        return {torch.float64: 1e-9, torch.float32: 2e-4}.get(self.dtype, 6e-2)

    def seeds(self, outputs: tuple[Tensor, ...], generator: int) -> list[Tensor]:
        """Random relevance of the outputs, 0 where they are."""
        random = torch.Generator().manual_seed(self.seed + generator)
        return [
            torch.randn(y.shape, generator=random, dtype=torch.float64).to(y) * y.detach() for y in outputs
        ]

    def rules_of(self, rules: Rules) -> list[Rule]:
        """The rules that the sample's node may get."""
        row = rules.get(self.sample.node)
        return [] if row is None else [rule for _, rule in rules.cases(row)]

    def ops(self, rules: Rules) -> tuple[list[Op], list[Tensor], tuple[Tensor, ...]]:
        """The nodes of the sample's type, seen as rules see them; the tensors and outputs of that forward."""
        tensors, outputs = self.forward()
        sweep = sweep_of(self, rules, tensors, outputs)
        found = [sweep.op(node) for node in sweep.graph.order]
        return [op for op in found if op is not None and op.row.node == self.sample.node], tensors, outputs

    def same(self, what: str, got: Tensor, expected: Tensor) -> None:
        """Raise AssertionError unless two tensors are equal within the tolerance; NaN equals NaN."""
        got, expected = dense(got), dense(expected)
        scale = max(float(expected.abs().nan_to_num(0.0, 0.0).max()) if expected.numel() else 0.0, 1.0)
        assert got.shape == expected.shape, f"{self.sample}: {what}: {got.shape} for {expected.shape}"
        wide = torch.promote_types(torch.promote_types(got.dtype, expected.dtype), torch.float64)
        same = (got == expected) | (got.isnan() & expected.isnan())
        apart = (got.to(wide) - expected.to(wide)).abs().masked_fill(same, 0.0)
        difference = float(apart.max()) if got.numel() else 0.0
        assert difference <= self.tolerance * scale, f"{self.sample}: {what}: off by {difference:.3g}"


@contextmanager
def hidden_values() -> Iterator[None]:
    """Pretend that autograd saved no tracked operand and no result: everything must be promised."""
    own, result, found = Op.kept, Existing.result, Existing._of_consumer

    def hidden_own(op: Op, i: int) -> Tensor | None:
        return own(op, i) if op.edges[i][0] is None else None

    with (
        mock.patch.object(Op, "kept", hidden_own),
        mock.patch.object(Existing, "result", lambda self, op, nr: None),
        mock.patch.object(Existing, "_of_consumer", lambda self, node, nr: None),
    ):
        yield
    assert (Op.kept, Existing.result, Existing._of_consumer) == (own, result, found)


def sweep_of(case: Case, rules: Rules, tensors: list[Tensor], outputs: tuple[Tensor, ...]) -> Sweep:
    """A sweep over the graph of ``outputs`` that has not run."""
    graph = Graph([address(y) for y in outputs])
    inputs = [address(tensors[i]) for i in case.live]
    return Sweep(graph, inputs, (), rules, {address(y): y for y in outputs})


__all__ = ["Case", "hidden_values", "sweep_of"]
