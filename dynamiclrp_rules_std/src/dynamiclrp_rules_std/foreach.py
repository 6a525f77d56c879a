"""Calls on lists of tensors: one node for all. Each entry gets the rule of the plain op."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from dynamiclrp_core.families import composite
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from torch import Tensor

Call = Callable[..., Tensor]


def _listed(
    node: str, operands: str, call: Callable[[Op], Call], constant: str = "", each: bool = False
) -> Row:
    """``call(op)`` on the k-th tensor of every list, and on ``constant``, or its k-th entry (``each``)."""
    lists = len(operands.split())

    def forward(op: Op, *xs: Tensor) -> tuple[Tensor, ...]:
        n, f = len(xs) // lists, call(op)
        value: Any = op.constant(constant) if constant else None
        rest = [(v,) for v in value] if each else [(value,) if constant else ()] * n
        return tuple(f(*xs[k::n], *rest[k]) for k in range(n))

    return composite(node, operands, separate=True, forward=forward)


def _plain(node: str, operands: str, f: Call, constant: str = "", each: bool = False) -> Row:
    return _listed(node, operands, lambda op: f, constant, each)


def _with_one(node: str, f: Call) -> Row:
    """The lists of the others, and one tensor for all."""
    return composite(node, "self* other*", forward=lambda op, *xs: tuple(f(x, xs[-1]) for x in xs[:-1]))


def _scaled_sum(sign: int) -> Callable[[Op], Call]:
    return lambda op: lambda a, b: torch.add(a, b, alpha=sign * op.constant("alpha"))


def _reversed_pow(exponent: Tensor, base: float) -> Tensor:
    made: Tensor = base**exponent
    return made


OF_ONE = """Abs Acos Asin Atan Ceil Clone Cos Cosh Erf Erfc Exp Expm1 Floor Frac Lgamma Log Log10 Log1P Log2
    Neg Reciprocal Round Rsqrt Sigmoid Sign Sin Sinh Sqrt Tan Tanh Trunc""".split()

# With a list of tensors, with a number, with a list of numbers: the ending of each node's name.
OF_TWO: dict[str, tuple[Call, str, str, str]] = {
    "Mul": (torch.mul, "0List", "1Scalar", "1ScalarList"),
    "Div": (torch.div, "0", "1Scalar", "1ScalarList"),
    "ClampMin": (torch.clamp_min, "1List", "0Scalar", "0ScalarList"),
    "ClampMax": (torch.clamp_max, "1List", "0Scalar", "0ScalarList"),
    "Maximum": (torch.clamp_min, "0List", "0", "1"),
    "Minimum": (torch.clamp_max, "0List", "0", "1"),
}


def _of_two() -> Iterator[Row]:
    for name, (f, tensors, number, numbers) in OF_TWO.items():
        yield _plain(f"Foreach{name}Backward{tensors}", "self* other*", f)
        yield _plain(f"Foreach{name}Backward{number}", "self*", f, "scalar")
        yield _plain(f"Foreach{name}Backward{numbers}", "self*", f, "scalars", each=True)
    for name, sign in (("Add", 1), ("Sub", -1)):
        yield _listed(f"Foreach{name}Backward0List", "self* other*", _scaled_sum(sign))
        f = torch.add if sign == 1 else torch.sub
        yield _plain(f"Foreach{name}Backward1Scalar", "self*", f, "scalar")
        yield _plain(f"Foreach{name}Backward1ScalarList", "self*", f, "scalars", each=True)
    for name, f in (("Addcmul", torch.addcmul), ("Addcdiv", torch.addcdiv)):
        lists = "self* tensor1* tensor2*"
        yield _plain(f"Foreach{name}Backward0Scalar", lists, _with_value(f), "value")
        yield _plain(f"Foreach{name}Backward0ScalarList", lists, _with_value(f), "scalars", each=True)


def _with_value(f: Call) -> Call:
    return lambda s, a, b, value: f(s, a, b, value=value)


ROWS = (
    *(_plain(f"Foreach{name}Backward0", "self*", getattr(torch, name.lower())) for name in OF_ONE),
    *_of_two(),
    _plain("ForeachMaxBackward1", "self*", torch.max),
    _listed("ForeachNormBackward0", "self*",
        lambda op: lambda x: torch.linalg.vector_norm(x, op.constant("ord"))),
    _plain("ForeachPowBackward0", "self* exponent*", torch.pow),
    _plain("ForeachPowBackward0Scalar", "self*", torch.pow, "exponent"),
    _plain("ForeachPowBackward1", "self*", torch.pow, "exponent", each=True),
    _plain("ForeachPowBackward2", "exponent*", _reversed_pow, "self"),
    _plain("ForeachLerpBackward1List", "self* tensors1* weights*", torch.lerp),
    _plain("ForeachLerpBackward0Scalar", "self* tensors1*", torch.lerp, "weight"),
    _plain("ForeachLerpBackward0ScalarList", "self* tensors1*", torch.lerp, "weight", each=True),
    _plain("ForeachMmBackward0", "self* mat2*", torch.mm),
    _with_one("ForeachMulBackward0Tensor", torch.mul),
    _with_one("ForeachDivBackward0Tensor", torch.div),
    composite("ForeachAddBackward0Tensor", "self* other*",
        forward=lambda op, *xs: tuple(torch.add(x, xs[-1], alpha=op.constant("alpha")) for x in xs[:-1])),
)  # fmt: skip
