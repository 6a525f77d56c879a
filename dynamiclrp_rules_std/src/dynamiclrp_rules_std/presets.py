"""Named rule sets: each a function of typed parameters that returns overrides by family.

The names are zennit's and innvestigate's where they have one. ``bias``: what a layer's bias does, see
``dynamiclrp_core.Epsilon``. "Layers" are the ops of family "affine"; convolutions are those of them with
the node ConvolutionBackward0, dense layers all others (linear, matmul and einsum with a weight).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dynamiclrp_core.rule import Rule
from dynamiclrp_core.rules.backprop import DeconvReLU, GuidedReLU, PlainGradient, SmoothReLU
from dynamiclrp_core.rules.first_layer import Bound, Flat, ZBox, first_layer
from dynamiclrp_core.rules.layered import Epsilon
from dynamiclrp_core.rules.ratio import Filter, Identity, LinearRatio, ProductRatio, Ratio
from dynamiclrp_core.rules.signed import AlphaBeta, Bias, Gamma, ZPlus
from dynamiclrp_core.table import Rules, override

Constants = Literal["absorb", "pass"]


def _layers(name: str, layer: Rule, epsilon: float, convolution: Rule | None = None) -> Rules:
    """``layer`` on layers, epsilon on norms, sums and average pooling."""
    rest = Epsilon(epsilon=epsilon)
    return override(
        name,
        affine=layer,
        norm=rest,
        linear=rest,
        adding=rest,
        **({} if convolution is None else {"ConvolutionBackward0": convolution}),
    )


def _composite(name: str, dense: Rule, convolution: Rule, stabilizer: float) -> Rules:
    """zennit's composites: a rule for dense layers, one for convolutions; activations pass relevance."""
    return _layers(name, dense, stabilizer, convolution) | override(name, elementwise=Identity())


def _named(rules: Rules, name: str) -> Rules:
    return Rules(rows=rules.rows, overrides=rules.overrides, name=name, packs=rules.packs)


def epsilon(
    epsilon: float = 1e-6, clip: bool = False, norm_scale: bool = False, bias: Bias = "absorb"
) -> Rules:
    """The epsilon rule (Bach et al. 2015, eq. 58) on layers, norms and sums."""
    layer = Epsilon(epsilon=epsilon, clip=clip, norm_scale=norm_scale, bias=bias)
    rest = Epsilon(epsilon=epsilon, clip=clip, norm_scale=norm_scale)
    return override("epsilon", affine=layer, norm=rest, linear=rest, adding=rest)


def gamma(gamma: float = 0.25, epsilon: float = 1e-6, bias: Bias = "absorb") -> Rules:
    """The generalised gamma rule on layers, epsilon on norms and sums."""
    return _layers("gamma", Gamma(gamma=gamma, epsilon=epsilon, bias=bias), epsilon)


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, epsilon: float = 1e-6, bias: Bias = "absorb") -> Rules:
    """alpha-beta (Bach et al. 2015, eq. 60) on layers, epsilon on norms and sums."""
    return _layers("alpha-beta", AlphaBeta(alpha=alpha, beta=beta, epsilon=epsilon, bias=bias), epsilon)


def epsilon_plus(epsilon: float = 1e-6, stabilizer: float = 1e-6, bias: Bias = "absorb") -> Rules:
    """z+ on convolutions, epsilon on dense layers (zennit's EpsilonPlus)."""
    return _composite(
        "epsilon-plus",
        Epsilon(epsilon=epsilon, bias=bias),
        ZPlus(epsilon=stabilizer, bias=bias),
        stabilizer,
    )


def epsilon_plus_flat(epsilon: float = 1e-6, stabilizer: float = 1e-6, bias: Bias = "absorb") -> Rules:
    """epsilon-plus, and flat on the first layers (zennit's EpsilonPlusFlat)."""
    rules = epsilon_plus(epsilon, stabilizer, bias)
    flat = override(affine=Flat(epsilon=stabilizer))
    return _named(rules.where(first_layer, flat), "epsilon-plus-flat")


def epsilon_gamma_box(
    low: Bound,
    high: Bound,
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    stabilizer: float = 1e-6,
    bias: Bias = "absorb",
) -> Rules:
    """gamma on convolutions, epsilon on dense layers, z-box on first convolutions (zennit's EpsilonGammaBox).

    ``low``, ``high``: the bounds of the input, a number, one per channel, or a tensor.
    """
    rules = _composite(
        "epsilon-gamma-box",
        Epsilon(epsilon=epsilon, bias=bias),
        Gamma(gamma=gamma, epsilon=stabilizer, bias=bias),
        stabilizer,
    )
    box = override(ConvolutionBackward0=ZBox(low=low, high=high, epsilon=stabilizer))
    return _named(rules.where(first_layer, box), "epsilon-gamma-box")


def epsilon_alpha2_beta1(epsilon: float = 1e-6, stabilizer: float = 1e-6, bias: Bias = "absorb") -> Rules:
    """alpha2-beta1 on convolutions, epsilon on dense layers (zennit's EpsilonAlpha2Beta1)."""
    return _composite(
        "epsilon-alpha2-beta1",
        Epsilon(epsilon=epsilon, bias=bias),
        AlphaBeta(alpha=2, beta=1, epsilon=stabilizer, bias=bias),
        stabilizer,
    )


def epsilon_alpha2_beta1_flat(
    epsilon: float = 1e-6, stabilizer: float = 1e-6, bias: Bias = "absorb"
) -> Rules:
    """epsilon-alpha2-beta1, and flat on the first layers (zennit's EpsilonAlpha2Beta1Flat)."""
    rules = epsilon_alpha2_beta1(epsilon, stabilizer, bias)
    flat = override(affine=Flat(epsilon=stabilizer))
    return _named(rules.where(first_layer, flat), "epsilon-alpha2-beta1-flat")


def excitation_backprop(stabilizer: float = 1e-6, bias: Bias = "absorb") -> Rules:
    """z+ on all layers (Zhang et al. 2016; zennit's ExcitationBackprop)."""
    rule = ZPlus(epsilon=stabilizer, bias=bias)
    return _composite("excitation-backprop", rule, rule, stabilizer)


def _gradient(name: str, relu: Rule) -> Rules:
    """The plain gradient everywhere but at ReLU."""
    plain = PlainGradient()
    return override(
        name,
        elementwise__all=plain,
        product__all=plain,
        quotient__all=plain,
        homogeneous=plain,
        affine__bilinear=plain,
        ReluBackward0=relu,
    )


def guided_backprop() -> Rules:
    """Guided backpropagation (Springenberg et al. 2015). The map people show is ``run.coefficients``."""
    return _gradient("guided-backprop", GuidedReLU())


def deconvnet() -> Rules:
    """DeconvNet (Zeiler & Fergus 2014). The map people show is ``run.coefficients``."""
    return _gradient("deconvnet", DeconvReLU())


def beta_smooth(beta: float = 10.0) -> Rules:
    """Gradients with ReLU smoothed to softplus (Dombrowski et al. 2019): ``run.coefficients``."""
    return _gradient("beta-smooth", SmoothReLU(beta=beta))


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
    ``constants``: untracked terms of sums absorb their share, or pass all to the tracked ones (a bias under
    gamma and z+ has its share).
    """
    layers: Rule = Epsilon(epsilon=epsilon, bias="share", constants=constants)
    if layer == "gamma":
        layers = Gamma(gamma=gamma, epsilon=epsilon, bias="share")
    elif layer == "z+":
        layers = ZPlus(epsilon=epsilon, bias="share")
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
    "alpha-beta": alpha_beta,
    "epsilon-plus": epsilon_plus,
    "epsilon-plus-flat": epsilon_plus_flat,
    "epsilon-gamma-box": epsilon_gamma_box,
    "epsilon-alpha2-beta1": epsilon_alpha2_beta1,
    "epsilon-alpha2-beta1-flat": epsilon_alpha2_beta1_flat,
    "excitation-backprop": excitation_backprop,
    "guided-backprop": guided_backprop,
    "deconvnet": deconvnet,
    "beta-smooth": beta_smooth,
    "dynamiclrp": dynamiclrp,
}
