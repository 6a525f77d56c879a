"""What faithfulness.py compares: rules of this library, gradients, chance, and zennit where it imports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dynamiclrp_core as lrp
import torch
from dynamiclrp_rules_attention import constant_weights
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]
Method = Callable[[Forward, Tensor], Tensor]
Table = dict[str, dict[str, dict[str, list[float]]]]  # model -> method -> metric -> value per seed


def ours(name: str, **parameters: Any) -> Method:
    """A rule set of this library."""
    return partial(by_rules, lrp.preset(name, **parameters))


def by_rules(rules: lrp.Rules, f: Forward, x: Tensor) -> Tensor:
    with lrp.record():
        y = f(x)
    return lrp.relevance(y, x, rules=rules)[0]


def dynamiclrp_vit() -> Method:
    """The setting of the DynamicLRP paper for ViT."""
    rules = lrp.preset("dynamiclrp", layer="gamma", gamma=0.001) | constant_weights()
    return partial(
        by_rules, rules | lrp.override(ConvolutionBackward0=lrp.Gamma(gamma=130, epsilon=1e-11, bias="share"))
    )


def input_times_gradient(f: Forward, x: Tensor) -> Tensor:
    return (x * torch.autograd.grad(f(x).sum(), x)[0]).detach()


def integrated_gradients(f: Forward, x: Tensor, steps: int = 32) -> Tensor:
    """Sundararajan et al. 2017, from zero, midpoint rule."""
    total = torch.zeros_like(x)
    for k in range(steps):
        at = (x.detach() * (k + 0.5) / steps).requires_grad_()
        total += torch.autograd.grad(f(at).sum(), at)[0]
    return (x * total / steps).detach()


def at_random(f: Forward, x: Tensor) -> Tensor:
    return torch.randn_like(x)


PEERS: dict[str, Method] = {
    "input*gradient": input_times_gradient,
    "integrated gradients": integrated_gradients,
    "random": at_random,
}
TEXT: dict[str, Method] = {
    "default": ours("default"),
    "attnlrp": ours("attnlrp"),
    "attnlrp, gate=signal": ours("attnlrp", gate="signal"),
    "attnlrp, gamma=0.001": ours("attnlrp", gamma=0.001, epsilon=1e-6),
    "cp-lrp": ours("cp-lrp"),
    "epsilon": ours("epsilon"),
    "dynamiclrp": ours("dynamiclrp"),
    "dynamiclrp, gamma=0.001": ours("dynamiclrp", layer="gamma", gamma=0.001),
    **PEERS,
}
CNN: dict[str, Method] = {
    "default": ours("default"),
    "epsilon": ours("epsilon"),
    "epsilon-plus": ours("epsilon-plus"),
    "gamma": ours("gamma"),
    "dynamiclrp": ours("dynamiclrp"),
    "dynamiclrp, z+": ours("dynamiclrp", layer="z+"),
    **PEERS,
}
VIT: dict[str, Method] = {
    "default": ours("default"),
    "attnlrp": ours("attnlrp"),
    "attnlrp, gamma=0.05, conv_gamma=0.25": ours("attnlrp", gamma=0.05, conv_gamma=0.25, epsilon=1e-6),
    "cp-lrp": ours("cp-lrp"),
    "cp-lrp, gamma=0.05, conv_gamma=0.25": ours("cp-lrp", gamma=0.05, conv_gamma=0.25, epsilon=1e-6),
    "dynamiclrp": ours("dynamiclrp"),
    "dynamiclrp, the paper's for ViT": dynamiclrp_vit(),
    **PEERS,
}


def zennit_methods() -> dict[str, Any]:
    """zennit's EpsilonPlus and EpsilonAlpha2Beta1 with its batch-norm canonizer, where it imports."""
    try:
        from zennit.attribution import Gradient
        from zennit.canonizers import SequentialMergeBatchNorm
        from zennit.composites import EpsilonAlpha2Beta1, EpsilonPlus
    except ImportError as error:
        print(f"zennit left out: {error}\n")
        return {}

    def relevance(composite: Any, model: nn.Module, f: Forward, x: Tensor) -> Tensor:
        predicted = model(x).argmax(1)
        with Gradient(model, composite(canonizers=[SequentialMergeBatchNorm()])) as attributor:
            return attributor(x.detach().requires_grad_(), torch.eye(10)[predicted])[1].detach()

    composites = {"EpsilonPlus": EpsilonPlus, "EpsilonAlpha2Beta1": EpsilonAlpha2Beta1}
    return {f"zennit {name}": partial(relevance, composite) for name, composite in composites.items()}


def note(kept: dict[str, list[float]], scored: dict[str, float]) -> None:
    for metric, value in scored.items():
        kept.setdefault(metric, []).append(value)
