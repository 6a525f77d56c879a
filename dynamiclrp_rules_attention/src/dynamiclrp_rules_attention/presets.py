"""AttnLRP and CP-LRP, each a function of typed parameters that returns overrides by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from dynamiclrp_core.defaults import Gradient, Stop
from dynamiclrp_core.layered import Epsilon
from dynamiclrp_core.numerics import dot
from dynamiclrp_core.op import Op
from dynamiclrp_core.ratio import Identity
from dynamiclrp_core.rule import Conserves, Entries, Rule, Value
from dynamiclrp_core.scalar_function import RegionIdentity
from dynamiclrp_core.signed import Gamma
from dynamiclrp_core.table import Rules, override
from torch import Tensor

from .explicit import ExplicitAttention, HalfSplit, SoftmaxTaylor
from .gates import SignalTakesAll
from .sdpa import ValuesOnly

Softmax = Literal["taylor", "stop"]
Gate = Literal["half", "signal"]
Norm = Literal["scale", "statistics", "identity"]
SCALAR = ("product__gate", "quotient__gate", "elementwise__composed", "quotient__composed")
"""Where a scalar function by hand ends."""


class HeldStatistics(Rule):
    """Layer norm with mean and std both constant: ``c_x = c w / std``. The mean absorbs its part.

    Where weight or bias are inputs, the row's own rule.
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if op.live != (True, *[False] * (len(op.edges) - 1)):
            return op.row.cases[-1][1].coefficient(op, ci)
        slope = op.saved.result2.to(ci.dtype)
        weight = op.saved.weight
        slope = slope if weight is None else slope * weight.to(ci.dtype)
        sent = ci * slope
        if op.ledger is not None:
            bias = op.optional(2)
            op.book("mean", -dot(op.saved.result1.expand_as(sent), sent))
            if bias is not None:
                op.book("bias", dot(bias, ci))
        return [sent, *[None] * (len(op.edges) - 1)]


class NormIdentity(Rule):
    """Relevance passes a norm unchanged, entry by entry: ``R_x = R`` (DynamicLRP; AttnLRP eq. 9)."""

    conserves: ClassVar[Conserves] = "exact"

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        if not op.live[0]:
            return op.row.cases[-1][1].value(op, *r)
        return [Value(self.only(r)), *[None] * (len(op.edges) - 1)]


def constant_weights() -> Rules:
    """Attention weights are constants: nothing passes a softmax, all of ``softmax(...) @ v`` goes to v.

    To be put on top of any preset. DynamicLRP's setting for ViT (arXiv 2512.07010) is
    ``preset("dynamiclrp", layer="gamma", gamma=0.001) | constant_weights() |
    override(ConvolutionBackward0=Gamma(gamma=130))``.
    """
    return override(
        "constant weights",
        softmax=Stop(),
        LogSoftmaxBackward0=Gradient(),  # outputs, not weightings
        LogsumexpBackward0=Gradient(),
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
        held = HeldStatistics() if norm == "statistics" else NormIdentity()
        chosen["NativeLayerNormBackward0"] = held
    if gate == "signal" or softmax == "stop":
        chosen["product"] = SignalTakesAll(gates="all" if gate == "signal" else "softmax")
    if explicit and softmax == "taylor":
        chosen |= {
            "softmax": SoftmaxTaylor(),
            "attention": ExplicitAttention(),
            "affine__bilinear": HalfSplit(epsilon=1e-12),
        }
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
    norm        layer norm: ``"scale"`` holds 1/std, centring is linear; ``"statistics"`` holds the mean
                too; ``"identity"`` passes R unchanged
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

__all__ = ["PRESETS", "HeldStatistics", "NormIdentity", "attnlrp", "constant_weights", "cp_lrp"]
