"""Samples of fused recurrent layers. The kernel knows no float64."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from dynamiclrp_core.samples import Sample
from torch import Tensor

DTYPES = (torch.float32,)
STATES = ("n 2", "n 2")  # h_0 and c_0
BIASED = ("8 3", "8 2", "8", "8")


def layer(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor, reverse: bool = False) -> Any:
    """One direction on time, batch, feature; with biases if there are four weights."""
    # The kernel reads no strides.
    x, h, c, *weights_ = (t.contiguous() for t in (x, h, c, *weights))
    biased = len(weights) == 4
    zeros = () if biased else (x.new_zeros(8), x.new_zeros(8))
    return torch.ops.aten.mkldnn_rnn_layer(
        x, *weights_, *zeros, h, c, reverse, [], 2, 2, 1, biased, False, False, True
    )[:3]


def lstm(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> Any:
    """As nn.LSTM(batch_first=True) calls it."""
    return torch.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, True, False, True)


def both_ways(x: Tensor, *weights: Tensor) -> Any:
    """Two directions: the layer's output is a Cat of two fused nodes."""
    zeros = x.new_zeros(2, x.shape[1], 2)
    return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, True, True, False)[0]


SAMPLES = (
    Sample("MkldnnRnnLayerBackward0", layer, ("3 n 3", *STATES, *BIASED), dtypes=DTYPES),
    Sample("MkldnnRnnLayerBackward0", layer, ("3 n 3", *STATES, *BIASED[:2]), dtypes=DTYPES,
        label="no-bias"),
    Sample("MkldnnRnnLayerBackward0", partial(layer, reverse=True), ("3 n 3", *STATES, *BIASED),
        dtypes=DTYPES, label="reverse"),
    Sample("MkldnnRnnLayerBackward0", lstm, ("n 3 3", *STATES, *BIASED), dtypes=DTYPES,
        label="wrapped-batch-first"),
    Sample("MkldnnRnnLayerBackward0", both_ways, ("3 n 3", *BIASED, *BIASED), dtypes=DTYPES,
        label="wrapped-both-ways"),
)  # fmt: skip
