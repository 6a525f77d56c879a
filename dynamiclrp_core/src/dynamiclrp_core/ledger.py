"""Where every unit of relevance went: by cause, by op type, by node."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Ledger:
    """``seed = inputs + absorbed + residue``, all sums of relevance over all elements.

    Each absorbed amount comes from its own formula (bias ``sum b*c``, constants, epsilon, ...); only
    ``residue`` is a difference, and beyond rounding it means that a rule is wrong. ``unattributed``
    lists what could not be booked because a value was not to be had; then the residue includes it.
    ``amplification`` is ``sum |R| / sum |seed|`` at the inputs, and ``amplified_at`` the first node
    (from the output) where it rose above 1000.
    """

    seed: float = 0.0
    seed_abs: float = 0.0
    inputs: float = 0.0
    inputs_abs: float = 0.0
    entries: list[tuple[str, int, str, Tensor]] = field(default_factory=list, repr=False)
    unattributed: list[tuple[str, str]] = field(default_factory=list)
    residues: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)
    scale: float = 0.0
    amplified_at: str | None = None
    unit_roundoff: float = 2.0**-24

    def book(self, node: str, position: int, cause: str, amount: Tensor) -> None:
        """Book ``amount`` (a scalar) as ending at the node of this type and place in the graph."""
        self.entries.append((node, position, cause, _real(amount.detach()).double()))

    def book_unknown(self, node: str, cause: str) -> None:
        """Something ends here, but a value needed to say how much is not to be had."""
        self.unattributed.append((node, cause))

    def _sums(self, key: int) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        for entry in self.entries:
            amount = float(entry[3])
            if amount:
                sums[str(entry[key])] += amount
        return dict(sums)

    @property
    def by_cause(self) -> dict[str, float]:
        """Absorbed relevance by cause."""
        return self._sums(2)

    @property
    def by_op(self) -> dict[str, float]:
        """Absorbed relevance by node type."""
        return self._sums(0)

    @property
    def by_node(self) -> list[tuple[str, int, str, float]]:
        """(node type, place in the graph, cause, amount), in the order the sweep met them."""
        return [(node, place, cause, float(a)) for node, place, cause, a in self.entries]

    @property
    def absorbed(self) -> float:
        """Sum of all booked amounts."""
        return float(sum(self.by_cause.values()))

    @property
    def residue(self) -> float:
        """What no formula explains: rounding, or a wrong rule."""
        return self.seed - self.inputs - self.absorbed

    @property
    def tolerance(self) -> float:
        """Rounding to expect: 32 u on the sum over nodes of ``|R|`` seen (see ARCHITECTURE.md)."""
        return 32 * self.unit_roundoff * max(self.scale, self.seed_abs, self.inputs_abs)

    @property
    def closed(self) -> bool:
        """Whether everything is accounted for."""
        return not self.unattributed and abs(self.residue) <= self.tolerance

    @property
    def amplification(self) -> float:
        """``sum |R|`` at the inputs over ``sum |seed|``."""
        return self.inputs_abs / self.seed_abs if self.seed_abs else float("nan")

    def worst(self, n: int = 3) -> list[tuple[str, float]]:
        """Nodes whose own books balance worst: where to look for a wrong rule."""
        ranked = sorted(self.residues.items(), key=lambda item: -abs(item[1]))
        return [(f"{node} #{place}", amount) for (node, place), amount in ranked[:n]]

    def __str__(self) -> str:
        def line(name: str, amount: float, note: str = "") -> str:
            share = f"{amount / self.seed:8.1%}" if self.seed else " " * 8
            return f"  {name:<28}{amount:>14.6g} {share}  {note}".rstrip()

        lines = ["relevance ledger", line("seed", self.seed), line("inputs", self.inputs)]
        lines += [line(cause, amount) for cause, amount in sorted(self.by_cause.items())]
        state = "rounding" if abs(self.residue) <= self.tolerance else "NOT EXPLAINED"
        lines.append(line("residue", self.residue, f"({state}; tolerance {self.tolerance:.2g})"))
        if self.by_op:
            lines.append(
                "  absorbed by op: "
                + ", ".join(f"{name} {amount:.4g}" for name, amount in sorted(self.by_op.items()))
            )
        for name, cause in sorted(set(self.unattributed)):
            n = self.unattributed.count((name, cause))
            lines.append(f"  unattributed: {cause} at {name} (x{n}): use record() to keep the value")
        if abs(self.residue) > self.tolerance and self.residues:
            lines.append("  largest per node: " + ", ".join(f"{k} {v:.3g}" for k, v in self.worst()))
        amplified = f", rises past 1000 at {self.amplified_at}" if self.amplified_at else ""
        lines.append(f"  amplification sum|R|/sum|seed| = {self.amplification:.3g}{amplified}")
        return "\n".join(lines)


def total(t: Tensor) -> float:
    """Sum of all elements in float64."""
    return float(_real(t.detach()).sum(dtype=torch.float64))


def _real(t: Tensor) -> Tensor:
    return t.real + t.imag if t.is_complex() else t
