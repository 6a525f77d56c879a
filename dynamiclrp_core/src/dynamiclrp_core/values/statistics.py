"""The paper's statistics of a run: which forward values were asked for, and where they were found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

ASSUMED = (
    "values of leaves that were written to at some time are taken as unchanged since the forward; "
    "record() around the forward tells"
)


RUN_AGAIN = (
    "the parameters that the region of a checkpoint reads are taken as unchanged since the forward; "
    "record() around the forward tells"
)


@dataclass
class Promises:
    """The paper's statistics of one run (arXiv 2512.07010).

    promises        distinct values asked for that their origin node had not stored
    internal_nodes  nodes recomputed to keep them
    path_length     the paper's delta: edges followed from origins to where values were found
    max_depth       deepest promise tree
    nodes           nodes of the graph
    sources         how many values came from each source of Note [Promises]
    notes           assumptions made (each also a reason to use ``record()``)
    """

    promises: int = 0
    internal_nodes: int = 0
    path_length: int = 0
    max_depth: int = 0
    nodes: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    notes: set[str] = field(default_factory=set)

    @property
    def density(self) -> float:
        """The paper's rho: promises per node of the graph."""
        return self.promises / self.nodes if self.nodes else 0.0

    def __str__(self) -> str:
        where = ", ".join(f"{n} {s}" for s, n in sorted(self.sources.items())) or "none needed"
        return (
            f"{self.promises} promises on {self.nodes} nodes (density {self.density:.3f}), "
            f"{self.internal_nodes} internal nodes, total path length {self.path_length}, "
            f"max depth {self.max_depth}; values: {where}"
            + "".join(f"\n  note: {note}" for note in sorted(self.notes))
        )
