"""Samples of functions of two and three tensors, entry by entry."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from dynamiclrp_core.samples import Sample

from .arithmetic import ramp

special = torch.special
NO_HALF = (torch.float64, torch.float32)
TWO = ("n 4", "n 4")
RIGHT = ("n 2 3", "3")
LEFT = ("2 1", "n 2 3")
THREE = ("n 4", "n 4", "n 4")
WIDE = ("3", "n 2 3", "2 1")

SAMPLES = (
    # -- sums with a product in them ---------------------------------------------------------------
    Sample("AddcmulBackward0", lambda s, a, b: torch.addcmul(s, a, b), THREE),
    Sample("AddcmulBackward0", lambda s, a, b: torch.addcmul(s, a, b, value=-0.5), WIDE, label="value"),
    Sample("AddcmulBackward0", lambda a: torch.addcmul(ramp(a), a, a), label="constant"),
    Sample("AddcdivBackward0", lambda s, a, b: torch.addcdiv(s, a, b), THREE, "positive"),
    Sample("AddcdivBackward0", lambda s, a, b: torch.addcdiv(s, a, b, value=-0.5), WIDE, "positive",
        label="value"),
    Sample("LerpBackward1", lambda s, e, w: torch.lerp(s, e, w), THREE),
    Sample("LerpBackward1", lambda s, e, w: torch.lerp(s, e, w), ("n 2 3", "n 2 3", "3"), label="wide"),
    Sample("LerpBackward1", lambda a: torch.lerp(a, ramp(a), ramp(a)), label="constant"),
    # -- homogeneous in both, and log-sums ---------------------------------------------------------
    Sample("HypotBackward0", torch.hypot, TWO, "positive"),
    Sample("HypotBackward0", torch.hypot, LEFT, "positive", label="left"),
    Sample("LogaddexpBackward0", torch.logaddexp, TWO),
    Sample("LogaddexpBackward0", torch.logaddexp, RIGHT, label="right"),
    Sample("Logaddexp2Backward0", torch.logaddexp2, TWO),
    # -- a secant in one operand -------------------------------------------------------------------
    Sample("PowBackward1", lambda a, b: a**b, TWO, "positive"),
    Sample("PowBackward1", lambda a, b: a**b, LEFT, "positive", label="left"),
    Sample("PowBackward1", lambda a: a**ramp(a), domain="positive", label="constant"),
    Sample("PowBackward2", lambda a: 2**a),
    Sample("PowBackward2", lambda a: 0.0**a, domain="positive", label="0"),
    Sample("Atan2Backward0", torch.atan2, TWO),
    Sample("Atan2Backward0", torch.atan2, RIGHT, label="right"),
    Sample("CopysignBackward0", torch.copysign, TWO),
    Sample("CopysignBackward0", torch.copysign, LEFT, label="left"),
    Sample("IgammaBackward0", lambda x: torch.igamma(ramp(x), x), domain="positive", dtypes=NO_HALF),
    Sample("IgammacBackward0", lambda x: torch.igammac(ramp(x), x), domain="positive", dtypes=NO_HALF),
    Sample("SpecialZetaBackward0", lambda q: special.zeta(ramp(q) + 1.5, q), domain="positive",
        dtypes=NO_HALF),
    Sample("RemainderBackward0", lambda a: torch.remainder(a, 0.3)),
    Sample("FmodBackward0", lambda a: torch.fmod(a, 0.3)),
    # -- made of other ops -------------------------------------------------------------------------
    Sample("RemainderBackward1", torch.remainder, TWO, "positive"),
    Sample("RemainderBackward1", torch.remainder, RIGHT, "positive", label="right"),
    Sample("FmodBackward1", torch.fmod, TWO, "positive"),
    Sample("LdexpBackward0", torch.ldexp, TWO),
    Sample("LdexpBackward0", lambda a: torch.ldexp(a, torch.tensor([1, -2, 0, 3], device=a.device)),
        label="constant"),
    Sample("XlogyBackward0", torch.xlogy, TWO, "positive"),
    Sample("XlogyBackward0", lambda a, b: torch.xlogy(a, b.exp()), RIGHT, label="right"),
    Sample("SpecialXlog1PyBackward0", special.xlog1py, TWO, "positive"),
    # -- the larger, the smaller -------------------------------------------------------------------
    Sample("FmaxBackward0", torch.fmax, TWO, "distinct"),
    Sample("FmaxBackward0", lambda a: torch.fmax(a, torch.full_like(a, torch.nan)), label="nan"),
    Sample("FminBackward0", torch.fmin, ("n 2 3", "2 1")),
    Sample("ClampBackward0", lambda a, b: torch.clamp(a, b, b + 0.5), TWO, "distinct"),
    Sample("ClampBackward0", lambda a, b: torch.clamp(a, max=b), RIGHT, label="max"),
    Sample("ClampBackward0", lambda a: torch.clamp(a, min=ramp(a) / 8), label="constant"),
    Sample("ClampMinBackward1", torch.clamp_min, TWO, "distinct"),
    Sample("ClampMaxBackward1", torch.clamp_max, TWO, "distinct"),
    Sample("ClampBackward0", lambda a: torch.clamp(a, a.detach(), a.detach()), label="ties"),
    Sample("ClampMinBackward1", lambda a: torch.clamp_min(a, a.detach()), label="ties"),
    Sample("ClampMaxBackward1", lambda a: torch.clamp_max(a, a.detach()), label="ties"),
    # -- activations of several tensors ------------------------------------------------------------
    Sample("PreluKernelBackward0", lambda a, w: F.prelu(a, w), ("n 4", "4")),
    Sample("PreluKernelBackward0", lambda a, w: F.prelu(a, w), ("n 2 3", "1"), label="one"),
    Sample("GluBackward0", lambda a: F.glu(a)),
    Sample("GluBackward0", lambda a: F.glu(a, 1), ("n 4 3",), label="channels"),
)  # fmt: skip
