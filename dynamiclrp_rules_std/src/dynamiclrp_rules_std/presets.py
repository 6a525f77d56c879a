"""Named rule sets: each a function of typed parameters that returns overrides by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dynamiclrp_core.layered import Epsilon, Gamma, ZPlus
from dynamiclrp_core.ratio import Filter, Identity, LinearRatio, ProductRatio, Ratio
from dynamiclrp_core.rule import Rule, Rules, override

Constants = Literal["absorb", "pass"]


def epsilon(epsilon: float = 1e-6) -> Rules:
    """The epsilon rule (Bach et al. 2015, eq. 58) on layers, norms and sums."""
    rule = Epsilon(epsilon=epsilon)
    return override("epsilon", affine=rule, norm=rule, linear=rule, adding=rule)


def gamma(gamma: float = 0.25, epsilon: float = 1e-6, zero_bias: bool = False) -> Rules:
    """The generalised gamma rule on layers, epsilon on norms and sums."""
    rule = Epsilon(epsilon=epsilon)
    return override(
        "gamma",
        affine=Gamma(gamma=gamma, epsilon=epsilon, zero_bias=zero_bias),
        norm=rule,
        linear=rule,
        adding=rule,
    )


def epsilon_plus(epsilon: float = 1e-6, zero_bias: bool = False) -> Rules:
    """z+ on convolutions, epsilon on dense layers, norms and sums (zennit's EpsilonPlus)."""
    rule = Epsilon(epsilon=epsilon)
    return override(
        "epsilon-plus",
        affine=rule,
        norm=rule,
        linear=rule,
        adding=rule,
        ConvolutionBackward0=ZPlus(epsilon=epsilon, zero_bias=zero_bias),
    )


def dynamiclrp(
    epsilon: float = 1e-11,
    layer: Literal["epsilon", "gamma", "z+"] = "epsilon",
    gamma: float = 0.25,
    top: float | None = None,
    constants: Constants = "absorb",
) -> Rules:
    """The rule set of DynamicLRP (Lee & Millan Arias 2025, arXiv 2512.07010).

    Sums, means and products by absolute ratio; a bias is an add of its own; epsilon 1e-11 on the rest
    of a layer (or ``layer="gamma"``, ``"z+"``); activations pass relevance unchanged. ``top``: the
    paper's relevance filter, only that fraction of the relevance arriving at a layer goes on.
    ``constants``: untracked terms of sums absorb their share, or pass all to the tracked ones.
    """
    layers: Rule = Epsilon(epsilon=epsilon, bias="share", constants=constants)
    if layer == "gamma":
        layers = Gamma(gamma=gamma, epsilon=epsilon)
    elif layer == "z+":
        layers = ZPlus(epsilon=epsilon)
    if top is not None:
        layers = Filter(top=top, rule=layers)
    product = ProductRatio(epsilon=epsilon)
    return override(
        "dynamiclrp",
        affine=layers,
        norm=Epsilon(epsilon=epsilon, bias="share", constants=constants),
        adding=Ratio(epsilon=epsilon, constants=constants),
        linear=LinearRatio(epsilon=epsilon),
        product__all=product,
        elementwise=Identity(),
        elementwise__composed=Identity(),
    )


PRESETS: dict[str, Callable[..., Rules]] = {
    "epsilon": epsilon,
    "gamma": gamma,
    "epsilon-plus": epsilon_plus,
    "dynamiclrp": dynamiclrp,
}
