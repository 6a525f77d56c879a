"""What every pack's samples are asked: is the node built, does a batch without samples pass?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import dynamiclrp_core as lrp
from dynamiclrp_core.packs.plugins import samples
from dynamiclrp_core.samples import Sample
from torch import Tensor


@dataclass(frozen=True)
class Built:
    """A sample called on ``n`` samples in the first dtype it supports, some of its tensors live."""

    sample: Sample
    live: tuple[int, ...]
    n: int = 2

    def __str__(self) -> str:
        return f"{self.sample}-{''.join(map(str, self.live))}"

    def run(self) -> tuple[list[Tensor], list[Tensor]]:
        """The tensors, and the outputs that autograd tracks."""
        tensors = self.sample.tensors(0, self.n, self.sample.dtypes[0])
        for i in self.live:
            tensors[i].requires_grad_()
        with lrp.record():
            made = self.sample.call(*tensors)
        outputs = list(made) if isinstance(made, tuple | list) else [made]
        return tensors, [y for y in outputs if y.requires_grad]

    def check_builds_node(self, name: str) -> None:
        """Every output's node has the name; where torch always wraps it, it lies further up."""
        _, outputs = self.run()
        assert outputs
        if "wrapped" in self.sample.label:
            assert name in names_behind(outputs)
        else:
            assert {y.grad_fn.name() for y in outputs} == {name}

    def check_no_samples(self) -> None:
        """A batch of none has relevance of its shape."""
        tensors, outputs = Built(self.sample, self.live, 0).run()
        inputs = [tensors[i] for i in self.live]
        run = lrp.propagate(outputs, inputs, allow_unused=True)
        assert [r.shape for r in run.relevance] == [x.shape for x in inputs]


def names_behind(outputs: list[Tensor]) -> set[str]:
    """Names of all nodes from the outputs on."""
    waiting = [y.grad_fn for y in outputs]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}


def of_pack(pack: str) -> list[Sample]:
    """The samples of one pack."""
    return [sample for label, sample in samples() if label.split()[0] == pack]


def each(pack: str) -> list[Built]:
    """Each sample of a pack with each choice of live tensors."""
    return [Built(sample, live) for sample in of_pack(pack) for live in sample.subsets()]


def rows_without_sample(pack: str) -> set[str]:
    """Nodes that have a row and no sample. The other way round is an error."""
    rows = {row.node for row in lrp.load_rules().values() if row.pack.split()[0] == pack}
    nodes = {sample.node for sample in of_pack(pack)}
    assert nodes <= rows
    return rows - nodes


def check_loaded_late(module: str) -> None:
    """Rules are loaded without the samples."""
    code = f"import dynamiclrp_core as lrp, sys; lrp.load_rules(); print({module!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


__all__ = ["Built", "check_loaded_late", "each", "of_pack", "rows_without_sample"]
