"""Samples of calls on lists of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from dynamiclrp_core.samples import Domain, Sample
from torch import Tensor

from ..foreach import OF_ONE, OF_TWO

aten = torch.ops.aten
TWO = ("n 4", "n 2 3")
FOUR = ("n 4", "n 3", "n 4", "n 3")
SIX = (*FOUR, "n 4", "n 3")
SOME = ((0,), (1, 3), (0, 1, 2, 3))
OF_SIX = ((0,), (2, 5), (0, 1, 2, 3, 4, 5))
NO_HALF = (torch.float64, torch.float32)


def call(name: str) -> Callable[..., Any]:
    """``torch._foreach_<name>``, in torch's spelling of the node's name."""
    snake = {"ClampMin": "clamp_min", "ClampMax": "clamp_max"}.get(name, name.lower())
    found: Callable[..., Any] = getattr(torch, f"_foreach_{snake}")
    return found


def of_one(name: str) -> Sample:
    """Log and its like take positive numbers, arc functions those within (-1, 1)."""
    domain: Domain = "real"
    if name.startswith(("Log", "Lgamma", "Sqrt", "Rsqrt", "Reciprocal")):
        domain = "positive"
    elif name in ("Acos", "Asin", "Tan"):
        domain = "unit"
    f = call(name)
    return Sample(f"Foreach{name}Backward0", lambda a, b: f([a, b]), TWO, domain, dtypes=NO_HALF)


def of_two() -> Iterator[Sample]:
    """With a list of tensors, with a number, with a list of numbers."""
    for name, (_, tensors, number, numbers) in OF_TWO.items():
        domain: Domain = "distinct" if name.startswith(("Clamp", "M")) and name != "Mul" else "positive"
        f = call(name)

        def apart(a: Tensor, b: Tensor, c: Tensor, d: Tensor, f: Any = f) -> Any:
            return f([a, b], [c + 0.01, d + 0.01])

        yield Sample(f"Foreach{name}Backward{tensors}", apart, FOUR, domain, live=SOME, dtypes=NO_HALF)
        yield Sample(f"Foreach{name}Backward{number}", lambda a, b, f=f: f([a, b], 0.4), TWO, domain,
            dtypes=NO_HALF)  # fmt: skip
        yield Sample(f"Foreach{name}Backward{numbers}", lambda a, b, f=f: f([a, b], [0.4, -0.3]), TWO, domain,
            dtypes=NO_HALF)  # fmt: skip
    for name in ("Add", "Sub"):
        f = call(name)
        yield Sample(f"Foreach{name}Backward0List", lambda a, b, c, d, f=f: f([a, b], [c, d], alpha=2), FOUR,
            live=SOME)  # fmt: skip
        yield Sample(f"Foreach{name}Backward1Scalar", lambda a, b, f=f: f([a, b], 0.5), TWO)
        yield Sample(f"Foreach{name}Backward1ScalarList", lambda a, b, f=f: f([a, b], [0.5, 2.0]), TWO)
    for name in ("Addcmul", "Addcdiv"):
        f = call(name)
        yield Sample(f"Foreach{name}Backward0Scalar", lambda *x, f=f: f(x[:2], x[2:4], x[4:], 0.5), SIX,
            "positive", live=OF_SIX)  # fmt: skip
        yield Sample(f"Foreach{name}Backward0ScalarList", lambda *x, f=f: f(x[:2], x[2:4], x[4:], [0.5, 2.0]),
            SIX, "positive", live=OF_SIX)  # fmt: skip


SAMPLES = (
    *map(of_one, OF_ONE),
    *of_two(),
    Sample("ForeachMaxBackward1", lambda a, b: torch._foreach_max([a, b]), TWO, "distinct", batched=False),
    Sample("ForeachNormBackward0", lambda a, b: torch._foreach_norm([a, b]), TWO, batched=False),
    Sample("ForeachPowBackward0", lambda a, b, c, d: torch._foreach_pow([a, b], [c, d]), FOUR, "positive",
        live=SOME, dtypes=NO_HALF),
    Sample("ForeachPowBackward0Scalar", lambda a, b: torch._foreach_pow([a, b], 1.5), TWO, "positive"),
    Sample("ForeachPowBackward1", lambda a, b: torch._foreach_pow([a, b], [1.5, 2.0]), TWO, "positive"),
    Sample("ForeachPowBackward2", lambda a, b: torch._foreach_pow(1.5, [a, b]), TWO),
    Sample("ForeachLerpBackward1List", lambda *x: torch._foreach_lerp(x[:2], x[2:4], x[4:]), SIX,
        live=OF_SIX),
    Sample("ForeachLerpBackward0Scalar", lambda *x: torch._foreach_lerp(x[:2], x[2:], 0.3), FOUR, live=SOME),
    Sample("ForeachLerpBackward0ScalarList", lambda *x: torch._foreach_lerp(x[:2], x[2:], [0.3, 0.6]), FOUR,
        live=SOME),
    Sample("ForeachMulBackward0Tensor", lambda a, b, t: torch._foreach_mul([a, b], t), (*TWO, "")),
    Sample("ForeachDivBackward0Tensor", lambda a, b, t: torch._foreach_div([a, b], t), (*TWO, ""),
        "positive"),
    Sample("ForeachAddBackward0Tensor", lambda a, b, t: aten._foreach_add.Tensor([a, b], t), (*TWO, "")),
    Sample("ForeachMmBackward0", lambda a, b, c, d: aten._foreach_mm([a, b], [c, d]),
        ("n 3", "n 2", "3 2", "2 2"), live=SOME, dtypes=NO_HALF),
)  # fmt: skip
