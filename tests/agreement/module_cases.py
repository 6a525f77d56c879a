"""zennit and captum on the cases of ``tests/models/module_tools.py``: ``PYTHONPATH=. python`` this file.

Needs the environment of ``make_cnn_fixtures.py`` and this library in it. Prints the table of docs/cnn.md.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from make_cnn_fixtures import LRP, Composite, Gradient, Linear, lrp_rules, rules, z
from torch import Tensor, nn

from tests.models.module_tools import CASES, EPSILON


def by_zennit(model: nn.Module, x: Tensor) -> Tensor:
    """Its epsilon rule on layers, and what all of its composites share; no canonizer."""
    composite: Composite = z.LayerMapComposite(
        [*z.layer_map_base(stabilizer=EPSILON), (Linear, rules.Epsilon(epsilon=EPSILON))]
    )

    def seed(y: Tensor) -> Tensor:
        return torch.eye(y.shape[1], dtype=y.dtype)[[1]] * y.detach()

    with Gradient(model, composite) as attributor:
        relevance: Tensor = attributor(x, seed)[1]
    return relevance


def by_captum(model: nn.Module, x: Tensor) -> Tensor:
    """Its epsilon rule on every layer, also those for which it has none of its own (norms)."""
    for module in model.modules():
        if not list(module.children()) and not isinstance(module, nn.ReLU):
            module.rule = lrp_rules.EpsilonRule(EPSILON)  # type: ignore[assignment]
    relevance: Tensor = LRP(model).attribute(x, target=1)
    return relevance


def summed(peer: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, x: Tensor) -> str:
    try:
        return f"{float(peer(copy.deepcopy(model), x.detach().requires_grad_()).sum()):.4f}"
    except RuntimeError:
        return "raises"


def main() -> None:
    heads = "case, output, sum by module hooks, zennit, captum, sum on the graph, booked, maps differ by"
    print(f"| {heads.replace(', ', ' | ')} |", "|---" * 8 + "|", sep="\n")
    for case in CASES:
        model, x, y, by_modules, run = case.run()
        ours = run.relevance[0].detach()
        assert run.ledger is not None
        booked = ", ".join(f"{k} {v:.4f}" for k, v in run.ledger.by_cause.items() if abs(v) > 1e-6 * abs(y))
        apart = float((by_modules - ours).norm() / ours.norm())
        sums = [f"{float(by_modules.sum()):.4f}", summed(by_zennit, model, x), summed(by_captum, model, x)]
        cells = [case.name, f"{y:.4f}", *sums, f"{float(ours.sum()):.4f}", booked or "-", f"{apart:.0%}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
