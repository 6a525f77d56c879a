"""Samples of matrix products and convolutions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample
from torch import Tensor

MM = ("n 4", "4 3")
BMM = ("n 2 3", "n 3 4")
MV = ("n 3", "3")
LINEAR = ("3", "n 4", "4 3")
BATCHES = ("n 2 4", "n 2 3", "n 3 4")

CONV1 = ("n 2 7", "3 2 3", "3")
CONV2 = ("n 2 6 5", "4 2 3 2", "4")
SAME = ("n 2 6 5", "4 2 3 1", "4")
CONV3 = ("n 2 3 4 3", "3 2 2 2 2", "3")
UP1 = ("n 2 4", "2 3 3", "3")
UP2 = ("n 2 3 4", "2 3 3 2", "3")
UP3 = ("n 2 2 3 2", "2 2 2 2 2", "2")
GROUPS = ("n 4 5 5", "6 2 3 3", "6")
DEPTH = ("n 3 5 5", "3 1 3 3", "3")


def addmm(added: Tensor, a: Tensor, b: Tensor, **factors: Any) -> Tensor:
    return torch.addmm(added, a, b, **factors)


SAMPLES = (
    # -- products ----------------------------------------------------------------------------------
    Sample("MmBackward0", lambda a, b: a @ b, MM),
    Sample("MmBackward0", lambda a, b: a @ b.t(), ("n 4", "3 4"), label="transposed"),
    Sample("MmBackward0", lambda a: a @ a.t(), batched=False, label="own"),
    Sample("MmBackward0", lambda a, b: F.linear(a, b), ("n 4", "3 4"), label="linear"),
    Sample("BmmBackward0", lambda a, b: a.bmm(b), BMM),
    Sample("BmmBackward0", lambda a: a.bmm(a.mT), ("n 2 3",), label="own"),
    Sample("MvBackward0", lambda a, v: a.mv(v), MV),
    Sample("DotBackward0", lambda a, b: a.dot(b), ("n", "n"), batched=False),
    Sample("DotBackward0", lambda a: a.dot(a), ("4",), batched=False, label="own"),
    # -- products with an added term ---------------------------------------------------------------
    Sample("AddmmBackward0", addmm, LINEAR, decomposed=lambda b, x, w: x @ w + b),
    Sample("AddmmBackward0", addmm, ("n 3", "n 4", "4 3"), label="whole"),
    Sample("AddmmBackward0", addmm, ("1", "n 4", "4 3"), label="one"),
    Sample("AddmmBackward0", addmm, ("n 1", "n 4", "4 3"), label="column"),
    Sample("AddmmBackward0", lambda s, a, b: addmm(s, a, b, alpha=-0.5), LINEAR, label="alpha"),
    Sample("AddmmBackward0", lambda s, a, b: addmm(s, a, b, beta=3), LINEAR, label="beta"),
    Sample("AddmmBackward0", lambda s, a, b: addmm(s, a, b, beta=0), LINEAR, label="beta-0",
        live=((1,), (2,), (1, 2))),
    Sample("AddmmBackward0", lambda s, a, b: addmm(s, a, b, alpha=2, beta=-1), LINEAR,
        label="alpha-beta"),
    Sample("AddmmBackward0", lambda s, a, b: F.linear(a, b, s), ("3", "n 4", "3 4"),
        label="linear"),
    Sample("BaddbmmBackward0", lambda s, a, b: torch.baddbmm(s, a, b), BATCHES),
    Sample("BaddbmmBackward0", lambda s, a, b: torch.baddbmm(s, a, b), ("4", *BATCHES[1:]),
        label="row"),
    Sample("BaddbmmBackward0", lambda s, a, b: torch.baddbmm(s, a, b, beta=-2, alpha=0.5), BATCHES,
        label="alpha-beta"),
    Sample("AddmvBackward0", lambda s, a, v: torch.addmv(s, a, v), ("n", *MV)),
    Sample("AddmvBackward0", lambda s, a, v: torch.addmv(s, a, v), ("1", "2 3", "3"),
        batched=False, label="one"),
    Sample("AddmvBackward0", lambda s, a, v: torch.addmv(s, a, v, beta=-2, alpha=0.5), ("n", *MV),
        label="alpha-beta"),
    Sample("AddbmmBackward0", lambda s, a, b: torch.addbmm(s, a, b), ("2 4", "n 2 3", "n 3 4"),
        batched=False),
    Sample("AddbmmBackward0", lambda s, a, b: torch.addbmm(s, a, b, beta=-2, alpha=0.5),
        ("4", "n 2 3", "n 3 4"), batched=False, label="alpha-beta"),
    Sample("AddrBackward0", lambda s, a, b: torch.addr(s, a, b), ("n 4", "n", "4")),
    Sample("AddrBackward0", lambda s, a, b: torch.addr(s, a, b, beta=-2, alpha=0.5), ("4", "n", "4"),
        label="alpha-beta"),
    Sample("VdotBackward0", lambda a, b: torch.vdot(a, b), ("4", "4"), batched=False),
    Sample("LinalgCrossBackward0", lambda a, b: torch.linalg.cross(a, b), ("n 3", "n 3")),
    Sample("LinalgCrossBackward0", lambda a, b: torch.linalg.cross(a, b, dim=1), ("n 3 2", "1 3 1"),
        label="right"),
    Sample("TrilinearBackward0", lambda a, b, w: F.bilinear(a, b, w), ("n 3", "n 2", "4 3 2"),
        label="wrapped"),
    # -- convolutions ------------------------------------------------------------------------------
    Sample("ConvolutionBackward0", lambda x, w: torch.conv1d(x, w), CONV1[:2], label="1d"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv1d(x, w, b), CONV1, label="1d-bias"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv1d(x, w, b, 3, 1), CONV1,
        label="1d-remainder"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv1d(x, w, b, padding="same"), CONV1,
        label="1d-same"),
    Sample("ConvolutionBackward0", lambda x, w: torch.conv2d(x, w), CONV2[:2], label="2d"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv2d(x, w, b), CONV2, label="2d-bias"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv2d(x, w, b, 2, 1), CONV2,
        label="2d-remainder"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv2d(x, w, b, (1, 2), (2, 0), (2, 1)),
        CONV2, label="2d-dilation"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv2d(x, w, b, padding="same"), SAME,
        label="2d-same"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv2d(x, w, b, padding="valid"), CONV2,
        label="2d-valid"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv2d(x, w, b, 2, 1, groups=2), GROUPS,
        label="2d-groups"),
    Sample("ConvolutionBackward0", lambda x, w: torch.conv2d(x, w, padding=1, groups=3), DEPTH[:2],
        label="2d-depthwise"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv3d(x, w, b, (1, 2, 1), 1), CONV3,
        label="3d"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv_transpose1d(x, w, b, 2, 1, 1), UP1,
        label="1d-transposed"),
    Sample("ConvolutionBackward0", lambda x, w: torch.conv_transpose2d(x, w), UP2[:2],
        label="2d-transposed"),
    Sample("ConvolutionBackward0",
        lambda x, w, b: torch.conv_transpose2d(x, w, b, (2, 3), 1, (1, 0), 1, (2, 1)), UP2,
        label="2d-transposed-dilation"),
    Sample("ConvolutionBackward0",
        lambda x, w, b: torch.conv_transpose2d(x, w, b, 2, groups=2), ("n 4 3 3", "4 3 2 2", "6"),
        label="2d-transposed-groups"),
    Sample("ConvolutionBackward0", lambda x, w, b: torch.conv_transpose3d(x, w, b, 2), UP3,
        label="3d-transposed"),
)  # fmt: skip
