"""Relevance by zennit and captum, for ``test_cnn.py`` to compare with: ``python make_cnn_fixtures.py``.

Run it in an environment of its own, which needs torch, numpy and

    pip install --no-deps zennit==0.5.1 captum==0.9.0

It writes ``fixtures/<net>.npz``: ``names``, "<peer> <composite>" each; ``relevance`` of the input for each,
in float64; ``noise``, how far the peer's own float32 result is from that, relative to the largest entry.

zennit imports torchvision, but only for the classes of its ResNets, on which nothing here depends: where
torchvision is not installed, empty classes stand for them.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nets import HIGH, LOW, NETS, made
from torch import Tensor, nn

try:
    import torchvision  # noqa: F401
except ModuleNotFoundError:
    resnet = types.ModuleType("torchvision.models.resnet")
    resnet.Bottleneck = resnet.BasicBlock = type("Absent", (nn.Module,), {})  # type: ignore[attr-defined]
    for name in ("torchvision", "torchvision.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision.models.resnet"] = resnet

from captum.attr import LRP
from captum.attr._utils import lrp_rules
from captum.attr._utils.custom_modules import Addition_Module
from zennit import composites as z
from zennit import rules
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.core import Composite, Stabilizer
from zennit.layer import Sum
from zennit.types import Convolution, Linear


class SumOfTwo(nn.Module):
    """zennit's Sum takes its terms stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = self.sum(torch.stack([a, b], dim=-1))
        return out


class Merge(SequentialMergeBatchNorm):
    """zennit's canonizer leaves a norm of variance 1 behind, which still divides by sqrt(1 + eps)."""

    def register(self, linears: tuple[nn.Module, ...], batch_norm: nn.Module) -> None:
        super().register(linears, batch_norm)
        self.eps, batch_norm.eps = batch_norm.eps, 0.0

    def remove(self) -> None:
        super().remove()
        self.batch_norm.eps = self.eps


def everywhere(rule: rules.BasicHook) -> Callable[..., Composite]:
    """A rule on all layers, and what zennit's composites share."""
    return lambda **more: z.LayerMapComposite([*z.layer_map_base(), (Linear, rule)], **more)


def first(rule: rules.BasicHook) -> Callable[..., Composite]:
    """A rule on the first layer, epsilon on the others."""
    layers = [*z.layer_map_base(), (Linear, rules.Epsilon())]
    return lambda **more: z.SpecialFirstLayerMapComposite(layers, [(Linear, rule)], **more)


def box(**more: object) -> Composite:
    return z.EpsilonGammaBox(torch.tensor(LOW), torch.tensor(HIGH), **more)


ZENNIT: dict[str, Callable[..., Composite]] = {
    "epsilon": everywhere(rules.Epsilon()),
    "epsilon 0.1": everywhere(rules.Epsilon(epsilon=0.1)),
    "epsilon clip": everywhere(rules.Epsilon(epsilon=Stabilizer(0.1, clip=True))),
    "epsilon norm_scale": everywhere(rules.Epsilon(epsilon=Stabilizer(0.1, norm_scale=True))),
    "epsilon without bias": everywhere(rules.Epsilon(zero_params="bias")),
    "gamma": everywhere(rules.Gamma()),
    "gamma 2": everywhere(rules.Gamma(gamma=2.0)),
    "gamma without bias": everywhere(rules.Gamma(zero_params="bias")),
    "alpha-beta": everywhere(rules.AlphaBeta()),
    "z-plus without bias": everywhere(rules.ZPlus(zero_params="bias")),
    "w-square": first(rules.WSquare()),
    "flat": first(rules.Flat()),
    "z-box": first(rules.ZBox(LOW, HIGH)),
    "epsilon-plus": z.EpsilonPlus,
    "epsilon-plus, canonizer as it is": z.EpsilonPlus,
    "epsilon-plus-flat": z.EpsilonPlusFlat,
    "epsilon-gamma-box": box,
    "epsilon-alpha2-beta1": z.EpsilonAlpha2Beta1,
    "epsilon-alpha2-beta1-flat": z.EpsilonAlpha2Beta1Flat,
    "excitation-backprop": z.ExcitationBackprop,
    "guided-backprop": z.GuidedBackprop,
    "deconvnet": z.DeconvNet,
    "beta-smooth": z.BetaSmooth,
}
GRADIENTS = ("guided-backprop", "deconvnet", "beta-smooth")  # start at 1, not at the output


def by_zennit(name: str, composite: str, dtype: torch.dtype) -> Tensor:
    model, x, target = made(name, dtype, SumOfTwo)
    canonizer = SequentialMergeBatchNorm() if composite.endswith("as it is") else Merge()
    canonizers = [canonizer] if NETS[name].batchnorm else []

    def seed(y: Tensor) -> Tensor:
        one_hot = torch.eye(y.shape[1], dtype=dtype)[target]
        return one_hot if composite in GRADIENTS else one_hot * y.detach()

    with Gradient(model, ZENNIT[composite](canonizers=canonizers)) as attributor:
        _, relevance = attributor(x, seed)
    return relevance.detach()


CAPTUM: dict[str, Callable[[], lrp_rules.PropagationRule]] = {
    "epsilon": lrp_rules.EpsilonRule,
    "gamma": lrp_rules.GammaRule,
    "z-plus": lrp_rules.Alpha1_Beta0_Rule,
}
GAMMA = ("cnn-without-bias", "cnn")  # captum's gamma and alpha1-beta0 are right for the first alone


def by_captum(name: str, rule: str, dtype: torch.dtype) -> Tensor:
    model, x, target = made(name, dtype, Addition_Module)
    # Two epsilons, of the layer and of its norm, are one too many: the smaller, the less it matters.
    epsilon = 1e-12 if NETS[name].batchnorm else 1e-6
    for module in model.modules():
        if (
            hasattr(module, "weight")
            or isinstance(module, Addition_Module)
            or "Pool" in type(module).__name__
        ):
            special = rule != "epsilon" and isinstance(module, Convolution)
            module.rule = CAPTUM[rule]() if special else lrp_rules.EpsilonRule(epsilon)
    return LRP(model).attribute(x, target=target).detach()


def compared(
    make: Callable[[str, str, torch.dtype], Tensor], name: str, rule: str
) -> tuple[np.ndarray, float]:
    exact, rounded = make(name, rule, torch.float64), make(name, rule, torch.float32)
    return exact.numpy(), float((rounded - exact).abs().max() / exact.abs().max())


def main() -> None:
    for name in NETS:
        made_by = [
            (f"zennit {rule}", *compared(by_zennit, name, rule))
            for rule in ZENNIT
            if NETS[name].batchnorm or not rule.endswith("as it is")
        ]
        for rule in CAPTUM:
            if name != "mlp-gelu" and (rule == "epsilon" or name in GAMMA):
                made_by.append((f"captum {rule}", *compared(by_captum, name, rule)))
        names, relevance, noise = zip(*made_by)
        path = Path(__file__).parent / "fixtures" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez_compressed(path, names=names, relevance=np.stack(relevance), noise=noise)
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
