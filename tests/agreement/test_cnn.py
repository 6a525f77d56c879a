"""zennit and captum, from the fixtures that ``make_cnn_fixtures.py`` made: nothing of theirs is needed here.

``docs/agreement.md`` explains where libraries differ and which side is right; ``python -m
tests.agreement.test_cnn`` prints the errors of its table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import dynamiclrp_core as lrp
import numpy as np
import pytest
import torch
from dynamiclrp_core import Rules
from torch import Tensor, nn

from .nets import HIGH, LOW, NETS, made

preset = lrp.preset


def first(rule: lrp.Rule) -> Rules:
    return preset("epsilon").where(lrp.first_layer, lrp.override(affine=rule))


def composite(rules: Rules) -> Rules:
    """zennit's composites pass relevance through activations; so do our presets that have their names."""
    return rules | lrp.override(elementwise=lrp.Identity())


def captum(net: str, rule: lrp.Rule | None = None) -> Rules:
    """``rule`` on convolutions, epsilon elsewhere, on max-pools too."""
    epsilon = 1e-12 if NETS[net].batchnorm else 1e-6
    pool = lrp.Epsilon(epsilon=epsilon)
    rules = preset("epsilon", epsilon=epsilon) | lrp.override(MaxPool2DWithIndicesBackward0=pool)
    return rules if rule is None else rules | lrp.override(ConvolutionBackward0=rule)


OURS: dict[str, Callable[[str], Rules]] = {
    "zennit epsilon": lambda _: composite(preset("epsilon")),
    "zennit epsilon 0.1": lambda _: composite(
        preset("epsilon") | lrp.override(affine=lrp.Epsilon(epsilon=0.1))
    ),
    "zennit epsilon clip": lambda _: composite(
        preset("epsilon") | lrp.override(affine=lrp.Epsilon(epsilon=0.1, clip=True))
    ),
    "zennit epsilon norm_scale": lambda _: composite(
        preset("epsilon") | lrp.override(affine=lrp.Epsilon(epsilon=0.1, norm_scale=True))
    ),
    "zennit epsilon without bias": lambda _: composite(preset("epsilon", bias="ignore")),
    "zennit gamma": lambda _: composite(preset("gamma")),
    "zennit gamma 2": lambda _: composite(preset("gamma", gamma=2.0)),
    "zennit gamma without bias": lambda _: composite(preset("gamma", bias="ignore")),
    "zennit alpha-beta": lambda _: composite(preset("alpha-beta")),
    "zennit z-plus without bias": lambda _: composite(
        preset("epsilon") | lrp.override(affine=lrp.ZPlus(bias="ignore"))
    ),
    "zennit w-square": lambda _: composite(first(lrp.WSquare())),
    "zennit flat": lambda _: composite(first(lrp.Flat())),
    "zennit z-box": lambda _: composite(first(lrp.ZBox(low=LOW, high=HIGH))),
    "zennit epsilon-gamma-box": lambda _: preset("epsilon-gamma-box", low=LOW, high=HIGH),
    "captum epsilon": captum,
    "captum gamma": lambda net: captum(net, lrp.Gamma(epsilon=1e-9)),
    "captum z-plus": lambda net: captum(net, lrp.ZPlus(epsilon=1e-9)),
}
GRADIENTS = ("zennit guided-backprop", "zennit deconvnet", "zennit beta-smooth")


DIFFERENT: dict[tuple[str, str], tuple[Callable[[], Rules], str, str]] = {
    # Our rules, and by the definition that of convolutions and that of dense layers.
    ("mlp-gelu", "zennit excitation-backprop"): (lambda: preset("excitation-backprop"), "z+", "z+"),
    ("cnn-batchnorm", "zennit epsilon-plus, canonizer as it is"): (
        lambda: preset("epsilon-plus"), "z+", "epsilon",
    ),
    ("cnn", "captum gamma"): (
        lambda: preset("epsilon") | lrp.override(ConvolutionBackward0=lrp.Gamma()), "gamma", "epsilon",
    ),
    ("cnn", "captum z-plus"): (lambda: preset("epsilon-plus"), "z+", "epsilon"),
}  # fmt: skip


@functools.cache
def fixtures(net: str) -> dict[str, tuple[Tensor, float]]:
    with np.load(Path(__file__).parent / "fixtures" / f"{net}.npz") as file:
        maps = torch.from_numpy(file["relevance"])
        return {str(n): (r, float(e)) for n, r, e in zip(file["names"], maps, file["noise"])}


CASES = [
    (net, name)
    for net in NETS
    for name in fixtures(net)
    if (net, name) not in DIFFERENT and "as it is" not in name
]


def ours(net: str, rules: Rules, dtype: torch.dtype, gradient: bool = False) -> Tensor:
    model, x, target = made(net, dtype)
    with lrp.record():
        y = model(x)
    run = lrp.propagate(y.gather(1, target[:, None]), x, rules=rules)
    (found,) = run.coefficients if gradient else run.relevance
    assert found is not None
    return found.double()


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def compared(net: str, name: str, dtype: torch.dtype) -> tuple[float, float]:
    """The error and its limit."""
    theirs, noise = fixtures(net)[name]
    rules = OURS[name](net) if name in OURS else preset(name.removeprefix("zennit "))
    limit = 1e-8 if dtype == torch.float64 else max(1e-5, 20 * noise)
    return error(ours(net, rules, dtype, name in GRADIENTS), theirs), limit


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("net, name", CASES)
def test_agreement(net: str, name: str, dtype: torch.dtype) -> None:
    found, limit = compared(net, name, dtype)
    assert found <= limit, f"{found:.1e}"


# -- where they differ: the definition, contribution by contribution ----------------------------------


def stages(module: nn.Module) -> Iterator[nn.Module]:
    """The ops in order, a batch norm together with the layer before it."""
    children = list(module.children())
    while children:
        first = children.pop(0)
        if isinstance(first, nn.Sequential):
            yield from stages(first)
        elif children and isinstance(children[0], nn.BatchNorm2d):
            yield nn.Sequential(first, children.pop(0))
        else:
            yield first


def layer(f: nn.Module, x: Tensor, r: Tensor, rule: str) -> Tensor:
    """One layer ``f`` on one sample, an affine map: its terms come from unit vectors, one at a time."""
    bias = f(torch.zeros_like(x)).flatten()
    units = torch.eye(x.numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    terms = torch.stack([(f(u[None]).flatten() - bias) * xi for u, xi in zip(units, x.flatten())])
    out = torch.zeros(x.numel(), dtype=x.dtype)
    for j, rj in enumerate(r.flatten().tolist()):
        z = float(terms[:, j].sum() + bias[j])

        def weigh(t: float, z: float = z) -> float:
            if rule == "z+":
                return max(t, 0.0)
            return t * 1.25 if rule == "gamma" and t * z > 0 else t

        shares = [weigh(t) for t in terms[:, j].tolist()]
        whole = sum(shares) + weigh(float(bias[j]))
        if rj:
            out += torch.tensor(shares, dtype=x.dtype) * rj / (whole + (1e-6 if whole >= 0 else -1e-6))
    return out.view(x.shape)


@torch.no_grad()
def by_definition(net: str, convolutions: str, dense: str) -> Tensor:
    model, x, target = made(net, torch.float64)
    found = []
    for sample, t in zip(x.split(1), target.tolist()):
        ops = list(stages(model))
        inputs = [sample]
        for op in ops:
            inputs.append(op(inputs[-1]))
        y = inputs.pop()
        r = torch.zeros_like(y)
        r[0, t] = y[0, t]
        for op, a in zip(reversed(ops), reversed(inputs)):
            if isinstance(op, nn.MaxPool2d):
                with torch.enable_grad():
                    a = a.requires_grad_()
                    (r,) = torch.autograd.grad(op(a), a, r)  # the winner takes it
            elif isinstance(op, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
                r = layer(op, a, r, "epsilon")
            elif any(True for _ in op.parameters()):
                convolution = any(isinstance(m, nn.Conv2d) for m in op.modules())
                r = layer(op, a, r, convolutions if convolution else dense)
        found.append(r)
    return torch.cat(found)


@pytest.mark.parametrize("net, name", DIFFERENT)
def test_where_they_differ_the_definition_decides(net: str, name: str) -> None:
    rules, convolutions, dense = DIFFERENT[net, name]
    expected = by_definition(net, convolutions, dense)
    theirs, _ = fixtures(net)[name]
    assert error(ours(net, rules(), torch.float64), expected) <= 1e-8
    assert error(theirs, expected) > 1e-6


if __name__ == "__main__":
    print("largest over all nets: error in float64, error over its limit in float32")
    for name in dict.fromkeys(name for _, name in CASES):
        nets = [net for net, other in CASES if other == name]
        exact = max(compared(net, name, torch.float64)[0] for net in nets)
        rounded = max(found / limit for found, limit in (compared(net, name, torch.float32) for net in nets))
        print(f"{name:34} {exact:.0e}  {rounded:.2f}")
