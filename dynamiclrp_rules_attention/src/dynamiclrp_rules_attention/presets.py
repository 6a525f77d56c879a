"""AttnLRP and CP-LRP, each a function of typed parameters that returns overrides by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dynamiclrp_core.matching.softmax_by_hand import SOFTMAX
from dynamiclrp_core.rule import Rule
from dynamiclrp_core.rules.defaults import Gradient, Stop
from dynamiclrp_core.rules.layered import Epsilon
from dynamiclrp_core.rules.ratio import Identity
from dynamiclrp_core.rules.scalar_function import RegionIdentity
from dynamiclrp_core.rules.signed import Gamma
from dynamiclrp_core.table import Rules, override

from .explicit import ExplicitAttention, HalfSplit, SoftmaxTaylor
from .gates import SignalTakesAll
from .norm_variants import norm_rules
from .sdpa import ValuesOnly

Softmax = Literal["taylor", "stop"]
Gate = Literal["half", "signal"]
Norm = Literal["scale", "statistics", "identity"]
LOGARITHMS = (
    "LogSoftmaxBackward0",
    "LogsumexpBackward0",
    "LogcumsumexpBackward0",
    "LogaddexpBackward0",
    "Logaddexp2Backward0",
)
SCALAR = ("product__gate", "quotient__gate", "elementwise__composed", "quotient__composed")
"""Where a scalar function by hand ends."""


def constant_weights() -> Rules:
    """Attention weights are constants: nothing passes a softmax, all of ``softmax(...) @ v`` goes to v.

    To be put on top of any preset. DynamicLRP's setting for ViT (arXiv 2512.07010) is
    ``preset("dynamiclrp", layer="gamma", gamma=0.001) | constant_weights() |
    override(ConvolutionBackward0=Gamma(gamma=130, epsilon=1e-11, bias="share"))``.
    """
    return override(
        "constant weights",
        softmax=Stop(),
        **dict.fromkeys(LOGARITHMS, Gradient()),  # outputs, not weightings
        quotient__softmax_by_hand=Stop(),
        product__softmax_by_hand=Stop(),
        ExpBackward0__softmax_by_hand=Stop(),
        attention=ValuesOnly(),
        affine__bilinear=SignalTakesAll(gates="softmax"),
    )


def _rules(
    name: str,
    softmax: Softmax,
    gate: Gate,
    norm: Norm,
    gamma: float | None,
    conv_gamma: float | None,
    epsilon: float,
    explicit: bool = False,
) -> Rules:
    by_hand = dict.fromkeys(SCALAR, RegionIdentity())
    chosen: dict[str, Rule] = {"elementwise": Identity(), **by_hand}
    if epsilon:
        stabilized = Epsilon(epsilon=epsilon)
        chosen |= dict.fromkeys(("affine", "norm", "linear", "adding"), stabilized)
    if gamma is not None:
        chosen["affine"] = Gamma(gamma=gamma, epsilon=epsilon)
    if conv_gamma is not None:
        chosen["ConvolutionBackward0"] = Gamma(gamma=conv_gamma, epsilon=epsilon)
    if norm != "scale":
        chosen |= norm_rules(norm, chosen.get("norm"))
    if gate == "signal" or softmax == "stop":
        chosen["product"] = SignalTakesAll(gates="all" if gate == "signal" else "softmax")
    if explicit and softmax == "taylor":
        chosen |= dict.fromkeys(SOFTMAX, SoftmaxTaylor())
        chosen |= {"attention": ExplicitAttention(), "affine__bilinear": HalfSplit(epsilon=1e-12)}
    made = override(name, **chosen)
    return made | constant_weights() if softmax == "stop" else made


def attnlrp(
    softmax: Softmax = "taylor",
    gate: Gate = "half",
    norm: Norm = "scale",
    gamma: float | None = None,
    conv_gamma: float | None = None,
    epsilon: float = 0.0,
    explicit: bool = False,
) -> Rules:
    """AttnLRP (Achtibat et al. 2024, arXiv 2402.05602), at LXT's settings.

    softmax     ``"taylor"``: proposition 3.1; ``"stop"``: attention weights are constants (CP-LRP)
    gate        a product of two live tensors: half each, or ``"signal"``: nothing to the gate
    norm        norms by their own mean, fused or by hand: ``"scale"`` holds 1/std, centring is linear;
                ``"statistics"`` holds the mean too; ``"identity"`` passes R unchanged
    gamma       the gamma rule on layers (text, DynamicLRP: 0.001; ViT, LXT: 0.05); None: epsilon
    conv_gamma  the same for convolutions (ViT, LXT: 0.25)
    epsilon     of the layers, in units of their output
    explicit    softmax and matrix products in relevance values: slow, asks for the logits; the same map
    """
    return _rules("attnlrp", softmax, gate, norm, gamma, conv_gamma, epsilon, explicit)


def cp_lrp(
    gate: Gate = "signal",
    norm: Norm = "scale",
    gamma: float | None = None,
    conv_gamma: float | None = None,
    epsilon: float = 0.0,
) -> Rules:
    """CP-LRP (Ali et al. 2022, arXiv 2202.07304): attention weights and gates are constants.

    All of ``softmax(...) @ v`` goes to v, all of a gated product to its signal. Parameters as in
    ``attnlrp``. Explain logits: probabilities end in a softmax, which passes nothing here.
    """
    return _rules("cp-lrp", "stop", gate, norm, gamma, conv_gamma, epsilon)


PRESETS: dict[str, Callable[..., Rules]] = {"attnlrp": attnlrp, "cp-lrp": cp_lrp}

__all__ = ["PRESETS", "attnlrp", "constant_weights", "cp_lrp"]
