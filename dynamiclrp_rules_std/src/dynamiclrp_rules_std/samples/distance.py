"""Samples of distances between rows."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample

WIDE = (torch.float64, torch.float32)  # no kernel in bfloat16
SETS = ("n 3 2", "n 4 2")
FAR = float("inf")

SAMPLES = (
    Sample("CdistBackward0", torch.cdist, SETS, "distinct", dtypes=WIDE),
    Sample("CdistBackward0", partial(torch.cdist, p=1.0), SETS, dtypes=WIDE, label="1"),
    Sample("CdistBackward0", partial(torch.cdist, p=3.0), SETS, "distinct", dtypes=WIDE, label="3"),
    Sample("CdistBackward0", partial(torch.cdist, p=0.0), SETS, dtypes=WIDE, label="0"),
    Sample("CdistBackward0", partial(torch.cdist, p=FAR), SETS, "distinct", dtypes=WIDE, label="inf"),
    Sample("EuclideanDistBackward0", torch._euclidean_dist, ("3 2", "4 2"), "distinct", batched=False,
        dtypes=WIDE),
    Sample("PdistBackward0", F.pdist, ("4 3",), batched=False, dtypes=WIDE),
    Sample("PdistBackward0", partial(F.pdist, p=1.0), ("4 3",), batched=False, dtypes=WIDE, label="1"),
    Sample("PdistBackward0", partial(F.pdist, p=0.0), ("4 3",), batched=False, dtypes=WIDE, label="0"),
)  # fmt: skip
