"""zennit, captum and LXT beside us, where they import (``speed.py --peers``).

    pip install --no-deps zennit==0.5.1 captum==0.9.0       # CNNs
    pip install --no-deps lxt==2.1 && pip install transformers==4.52.4 torchvision      # transformers

They work on modules, so each gets a copy of the model with its own module for sums; for zennit the batch
norms are merged ("canonized") and the hooks set once, before anything is measured. zennit explains what we
explain, all outputs, captum one of them. LXT's "efficient" form patches classes of transformers for good;
here the patches are put on before each of its runs and taken off after it: all else sees the plain model.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from measuring import Work
from models import Add
from torch import Tensor, nn

Peer = Callable[[nn.Module, Tensor], Work]


def with_sums(model: nn.Module, add: Callable[[], nn.Module]) -> nn.Module:
    """A copy of the model, ``add()`` in place of each sum."""
    made = copy.deepcopy(model)
    for module in list(made.modules()):
        for name, child in module.named_children():
            if isinstance(child, Add):
                setattr(module, name, add())
    return made


def zennit() -> dict[str, Peer]:
    """Its composites, by our presets' names."""
    if "torchvision" not in sys.modules:
        try:
            import torchvision  # noqa: F401
        except ModuleNotFoundError:  # needed for two classes that are not used here
            resnet: Any = types.ModuleType("torchvision.models.resnet")
            resnet.Bottleneck = resnet.BasicBlock = type("Absent", (nn.Module,), {})
            sys.modules |= {n: types.ModuleType(n) for n in ("torchvision", "torchvision.models")}
            sys.modules[resnet.__name__] = resnet
    from zennit import composites, rules
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.layer import Sum
    from zennit.types import Linear

    class SumOfTwo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sum = Sum()

        def forward(self, a: Tensor, b: Tensor) -> Any:
            return self.sum(torch.stack([a, b], dim=-1))

    def everywhere(rule: Any) -> Callable[..., Any]:
        layers = [*composites.layer_map_base(), (Linear, rule)]
        return lambda **more: composites.LayerMapComposite(layers, **more)

    def peer(composite: Callable[..., Any]) -> Peer:
        def prepare(model: nn.Module, x: Tensor) -> Work:
            hooked = with_sums(model, SumOfTwo)
            made = composite(canonizers=[SequentialMergeBatchNorm()])
            made.register(hooked)
            attributor = Gradient(hooked, made)
            return lambda: attributor(x)

        return prepare

    return {
        "zennit epsilon": peer(everywhere(rules.Epsilon())),
        "zennit gamma": peer(everywhere(rules.Gamma())),
        "zennit epsilon-plus": peer(composites.EpsilonPlus),
        "zennit epsilon-alpha2-beta1": peer(composites.EpsilonAlpha2Beta1),
    }


def captum() -> dict[str, Peer]:
    """Its LRP with its defaults: epsilon."""
    from captum.attr import LRP
    from captum.attr._utils.custom_modules import Addition_Module
    from captum.attr._utils.lrp_rules import EpsilonRule

    def prepare(model: nn.Module, x: Tensor) -> Work:
        made = with_sums(model, Addition_Module)
        unknown = [
            m for m in made.modules() if isinstance(m, nn.Flatten | nn.Identity | nn.SiLU | nn.Sigmoid)
        ]
        attributor = LRP(made)

        def work() -> object:
            for module in unknown:  # captum has no rule for them, and takes ours away after each call
                module.rule = EpsilonRule()  # type: ignore[assignment]
            return attributor.attribute(x, target=0)

        return work

    return {"captum epsilon": prepare}


def lxt() -> dict[str, Peer]:
    """LXT efficient: the gradient of a patched model, times the input."""
    from lxt.efficient import monkey_patch
    from lxt.efficient.models import DEFAULT_MAP

    def prepare(model: nn.Module, x: Tensor) -> Work:
        inner: Any = model.model
        modeling = sys.modules[type(inner).__module__]
        targets = [modeling, *DEFAULT_MAP[modeling]]
        plain = [dict(vars(t)) for t in targets]
        monkey_patch(modeling)
        patched = [dict(vars(t)) for t in targets]
        made = copy.copy(model)
        cls = getattr(modeling, type(inner).__name__)
        if cls is not type(inner):  # LXT brings a BERT of its own
            made._modules = {"model": cls(inner.config).eval()}
            made.model.load_state_dict(inner.state_dict())
            for p, q in zip(made.parameters(), model.parameters()):
                p.requires_grad_(q.requires_grad)

        def wear(clothes: list[dict[str, Any]], instead: list[dict[str, Any]]) -> None:
            for target, on, off in zip(targets, clothes, instead):
                for name in on:
                    if name not in off or on[name] is not off[name]:
                        setattr(target, name, on[name])

        wear(plain, patched)

        def work() -> object:
            wear(patched, plain)
            try:
                y = made(x)
                return torch.autograd.grad(y, x, torch.ones_like(y))[0] * x
            finally:
                wear(plain, patched)

        return work

    return {"lxt attnlrp": prepare}


def is_peer(rules: str) -> bool:
    """Whether ``rules`` names a peer's, not ours."""
    return " " in rules


@functools.cache
def peers() -> dict[str, Peer]:
    """All peers that import; a line for each that does not."""
    found: dict[str, Peer] = {}
    for make in (zennit, captum, lxt):
        try:
            found |= make()
        except ImportError as error:
            print(f"{make.__name__} left out: {error}")
    return found
