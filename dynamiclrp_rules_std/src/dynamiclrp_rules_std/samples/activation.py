"""Samples of activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

aten = torch.ops.aten


def dropout(a: Tensor, p: float, train: bool = True) -> Tensor:
    """The fused dropout that CUDA takes by itself, with the same mask at every call."""
    with torch.random.fork_rng(devices=[a.device] if a.is_cuda else []):
        torch.manual_seed(7)
        kept: Tensor = torch.native_dropout(a, p, train)[0]
    return kept


SAMPLES = (
    Sample("ReluBackward0", lambda a: a.relu()),
    Sample("ReluBackward0", lambda a: a.clone().relu_(), label="in-place"),
    Sample("LeakyReluBackward0", lambda a: F.leaky_relu(a, 0.2)),
    Sample("LeakyReluBackward0", lambda a: F.leaky_relu(a, 0.0), label="flat"),
    Sample("LeakyReluBackward1", lambda a: F.leaky_relu(a.clone(), 0.2, inplace=True)),
    Sample("SigmoidBackward0", lambda a: a.sigmoid()),
    Sample("SigmoidBackward0", lambda a: a.clone().sigmoid_(), label="in-place"),
    Sample("TanhBackward0", lambda a: a.tanh()),
    Sample("TanhBackward0", lambda a: a.clone().tanh_(), label="in-place"),
    Sample("GeluBackward0", lambda a: F.gelu(a), label="erf"),
    Sample("GeluBackward0", lambda a: F.gelu(a, approximate="tanh"), label="tanh"),
    Sample("SiluBackward0", lambda a: F.silu(a), decomposed=lambda a: a * a.sigmoid()),
    Sample("SiluBackward0", lambda a: F.silu(a.clone(), inplace=True), label="in-place"),
    Sample("MishBackward0", lambda a: F.mish(a)),
    Sample("HardswishBackward0", lambda a: F.hardswish(a * 3)),
    Sample("HardsigmoidBackward0", lambda a: F.hardsigmoid(a * 3)),
    Sample("HardtanhBackward0", lambda a: F.hardtanh(a)),
    Sample("HardtanhBackward0", lambda a: F.relu6(a * 5), label="relu6"),
    Sample("HardtanhBackward0", lambda a: F.hardtanh(a, 0.3, 2.0), label="above-0"),
    Sample("ClampBackward1", lambda a: a.clamp(-0.5, 0.7)),
    Sample("ClampBackward1", lambda a: a.clamp(0.2, 1.0), label="above-0"),
    Sample("ClampBackward1", lambda a: a.clamp(-1.0, -0.2), label="below-0"),
    Sample("ClampBackward1", lambda a: a.clamp(min=0.0), label="min"),
    Sample("ClampBackward1", lambda a: a.clamp(max=0.4), label="max"),
    Sample("ClampBackward1", lambda a: a.clone().clamp_(-0.5, 0.7), label="in-place"),
    Sample("SoftplusBackward0", lambda a: F.softplus(a)),
    Sample("SoftplusBackward0", lambda a: F.softplus(a, beta=2.5), label="beta"),
    Sample("SoftplusBackward0", lambda a: F.softplus(a, 1.0, 0.5), label="threshold"),
    Sample("EluBackward0", lambda a: F.elu(a)),
    Sample("EluBackward0", lambda a: F.elu(a, 0.5), label="alpha"),
    Sample("EluBackward0", lambda a: F.selu(a), label="selu"),
    Sample("EluBackward0", lambda a: aten.elu(a, 0.5, 2.0, 3.0), label="input-scale"),
    Sample("CeluBackward0", lambda a: F.celu(a)),
    Sample("CeluBackward0", lambda a: F.celu(a, 0.5), label="alpha"),
    Sample("EluBackward1", lambda a: F.elu(a.clone(), inplace=True)),
    Sample("EluBackward1", lambda a: F.elu(a.clone() * 30, 0.5, inplace=True), label="saturated"),
    Sample("HardshrinkBackward0", lambda a: F.hardshrink(a)),
    Sample("SoftshrinkBackward0", lambda a: F.softshrink(a)),
    Sample("SoftshrinkBackward0", lambda a: F.softshrink(a, 0.0), label="0"),
    Sample("ThresholdBackward0", lambda a: F.threshold(a, 0.1, 2.0)),
    Sample("ThresholdBackward0", lambda a: F.threshold(a, -0.2, -1.0), label="below-0"),
    Sample("LogSigmoidBackward0", lambda a: F.logsigmoid(a * 3)),
    Sample("RreluWithNoiseBackward0", lambda a: F.rrelu(a, 0.2, 0.2, training=True)),
    Sample("RreluWithNoiseBackward0", lambda a: F.rrelu(a), label="eval"),
    Sample("ErfBackward0", lambda a: a.erf()),
    Sample("NativeDropoutBackward0", lambda a: dropout(a, 0.4), batched=False),
    Sample("NativeDropoutBackward0", lambda a: dropout(a, 0.0), label="none"),
    Sample("NativeDropoutBackward0", lambda a: dropout(a, 1.0), label="all"),
    Sample("NativeDropoutBackward0", lambda a: dropout(a, 0.4, False), label="eval"),
)
