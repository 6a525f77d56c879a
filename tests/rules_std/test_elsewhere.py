"""Rows of nodes that no CPU builds: their formulas on a stand-in for the node.

The stand-in has the fields that torch's own header gives the node, and no other: a row that reads a name
that the node does not have fails here. What comes out must be what torch computes on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.cli.torch_nodes import generated
from dynamiclrp_core.rule import Row
from torch import Tensor, nn


class Fields:
    """The fields of ``node`` by header; another name is an AttributeError, as on the node itself."""

    def __init__(self, node: str, values: dict[str, Any]) -> None:
        unknown = set(values) - generated()[node]
        assert not unknown, f"{node} has no field {unknown}"
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise AttributeError(name)
        return self._values[name]


@dataclass
class StandIn:
    """As much of an ``Op`` as a row's formulas use."""

    row: Row
    operands: Sequence[Tensor | None]
    saved: Any
    shape: torch.Size
    dtype: torch.dtype = torch.float64
    live_factors: int = 1
    sweep: Any = field(default_factory=lambda: SimpleNamespace(dtype=None))
    node: Any = None

    @property
    def edges(self) -> list[tuple[None, int]]:
        return [(None, 0)] * len(self.operands)

    @property
    def live(self) -> list[bool]:
        return [i == 0 for i in range(len(self.operands))]

    wanted = live

    def input(self, i: int) -> Tensor:
        value = self.operands[i]
        assert value is not None
        return value

    def optional(self, i: int) -> Tensor | None:
        return self.operands[i]

    def operand_shape(self, i: int) -> torch.Size:
        return self.input(i).shape


@dataclass(frozen=True)
class Elsewhere:
    """One node: what the CPU computes from the operands, and what the node saves."""

    node: str
    call: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...] | None, ...]
    saved: dict[str, Any]
    named: tuple[str, ...] = ()  # fields that hold an operand, by position
    exact_pull: bool = True

    def __str__(self) -> str:
        return self.node

    def made(self) -> tuple[StandIn, list[Tensor | None], Tensor]:
        torch.manual_seed(0)
        operands = [
            None if s is None else torch.randn(s, dtype=torch.float64, requires_grad=True)
            for s in self.shapes
        ]
        y = self.call(*operands)
        saved = dict(self.saved) | {name: operands[i] for i, name in enumerate(self.named) if name}
        row = lrp.load_rules()[self.node]
        return StandIn(row, operands, Fields(self.node, saved), y.shape), operands, y


def conv(node: str, groups: int = 1, image: str = "self", extra: Any = None, bias: bool = True) -> Elsewhere:
    made = dict(stride=[2, 1], padding=[1, 0], dilation=[1, 2], groups=groups)
    settings = {name: value for name, value in made.items() if name in generated()[node]}
    used = {name: settings.get(name, 1) for name in ("stride", "padding", "dilation")}

    def call(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.conv2d(x, w, b, groups=groups, **used)

    shapes = ((2, 4, 6, 7), (4, 4 // groups, 2, 3), (4,) if bias else None)
    return Elsewhere(node, call, shapes, settings | (extra or {}), (image, "weight"))


def transposed(node: str, image: str = "self", extra: Any = None) -> Elsewhere:
    settings = dict(stride=[2, 1], padding=[1, 0], output_padding=[1, 0], groups=2, dilation=[1, 2])

    def call(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return F.conv_transpose2d(x, w, b, **settings)

    return Elsewhere(
        node, call, ((2, 4, 3, 4), (4, 1, 2, 3), (2,)), settings | (extra or {}), (image, "weight")
    )


def batch_norm(node: str, training: bool) -> Elsewhere:
    mean, var = torch.arange(3).double() / 4, torch.arange(3).double() + 0.5
    saved = dict(epsilon=1e-3, training=training, running_mean=mean, running_var=var)

    def call(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.batch_norm(x, mean.clone(), var.clone(), w, b, training, eps=1e-3)

    return Elsewhere(node, call, ((4, 3, 5), (3,), (3,)), saved, ("input", "weight"), False)


MASK = (torch.arange(12) % 3 > 0).view(3, 4)
POOL = dict(kernel_size=[2, 3], stride=[1, 2], padding=[1, 0], dilation=[1, 1], ceil_mode=True)

CASES = [
    conv("CudnnConvolutionBackward0", 2, bias=False),
    conv("MiopenConvolutionBackward0", 2),
    conv("MiopenDepthwiseConvolutionBackward0", 4),
    conv("MpsConvolutionBackward0", 2),
    conv("ConvDepthwise2DBackward0", 4),
    conv("NnpackSpatialConvolutionBackward0", image="input"),
    conv("ConvolutionOverrideableBackward0", 2, "input", dict(transposed=False, output_padding=[0, 0])),
    transposed("ConvolutionOverrideableBackward0", "input", dict(transposed=True)),
    transposed("CudnnConvolutionTransposeBackward0"),
    transposed("MiopenConvolutionTransposeBackward0"),
    transposed("MpsConvolutionTransposeBackward0"),
    Elsewhere(
        "ConvDepthwise3DBackward0", lambda x, w, b: F.conv3d(x, w, b, padding=1, groups=2),
        ((2, 2, 3, 4, 3), (4, 1, 2, 2, 2), (4,)),
        dict(stride=[1] * 3, padding=[1] * 3, dilation=[1] * 3), ("self", "weight"),
    ),
    batch_norm("CudnnBatchNormBackward0", True),
    batch_norm("CudnnBatchNormBackward0", False),
    batch_norm("MiopenBatchNormBackward0", True),
    batch_norm("MiopenBatchNormBackward0", False),
    Elsewhere("LinearBackward0", F.linear, ((2, 3, 4), (5, 4), (5,)), {}, ("input", "weight")),
    Elsewhere("MkldnnLinearBackward0", F.linear, ((3, 4), (5, 4), (5,)), {}, ("self", "weight")),
    Elsewhere("MatmulBackward0", torch.matmul, ((2, 3, 4), (4, 5)), {}, ("self", "other")),
    Elsewhere("MaxPool2DBackward0", lambda x: F.max_pool2d(x, **POOL), ((2, 3, 5, 6),), POOL, ("self",)),
    Elsewhere("FusedDropoutBackward0", lambda x: x * MASK / 0.75, ((3, 4),), dict(result1=MASK, p=0.75)),
    Elsewhere("PinMemoryBackward0", lambda x: x * 1, ((3, 4),), {}),
    Elsewhere(
        "CudnnGridSamplerBackward0", lambda x, g: F.grid_sample(x, g, align_corners=True),
        ((2, 1, 3, 4), (2, 2, 2, 2)), {}, ("self", "grid"),
    ),
    Elsewhere(
        "CudnnAffineGridGeneratorBackward0",
        lambda t: F.affine_grid(t, [2, 1, 3, 4], align_corners=True), ((2, 2, 3),), dict(N=2, C=1, H=3, W=4),
    ),
]  # fmt: skip
CELLS = {"ThnnFusedLstmCellBackward0", "ThnnFusedGruCellBackward0"}


def test_every_unexecuted_row_has_a_stand_in() -> None:
    rows = {row.node for row in lrp.load_rules(("std",)).values() if row.unexecuted}
    assert rows == {case.node for case in CASES} | CELLS


KEEP_NO_OPERAND = {"FusedDropoutBackward0", "PinMemoryBackward0", "CudnnAffineGridGeneratorBackward0"}


@pytest.mark.parametrize(
    "row", [r for r in lrp.load_rules(("std",)).values() if r.unexecuted], ids=lambda r: r.node
)
def test_operands_and_results_have_the_names_of_the_header(row: Row) -> None:
    """An operand under a wrong name would be taken for one that autograd drops. (Biases it does drop.)"""
    fields = generated()[row.node]
    assert set(row.results) <= fields
    if row.node in KEEP_NO_OPERAND:
        assert not set(row.operands) & fields
    else:
        assert set(row.operands) - fields <= {"bias"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_on_the_saved_fields(case: Elsewhere) -> None:
    op, operands, y = case.made()
    assert op.row.forward is not None
    made = op.row.forward(op, *operands)
    assert torch.allclose(made, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.exact_pull and (row := lrp.load_rules()[c.node]).pull and row.family == "affine"],
    ids=str,
)
def test_pull_is_the_gradient(case: Elsewhere) -> None:
    op, operands, y = case.made()
    c = torch.randn_like(y)
    given = [t for t in operands if t is not None]
    expected = torch.autograd.grad(y, given, c)
    assert op.row.pull is not None
    for i, gradient in enumerate(expected):
        made = op.row.pull(op, c, i, lambda j: operands[j])
        assert torch.allclose(made, gradient, rtol=1e-10, atol=1e-12), i


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
def test_lstm_cell(biased: bool) -> None:
    torch.manual_seed(0)
    cell = nn.LSTMCell(3, 2, bias=biased, dtype=torch.float64)
    x, h, c = (torch.randn(4, n, dtype=torch.float64) for n in (3, 2, 2))
    gates = dict(input_gates=x @ cell.weight_ih.t(), hidden_gates=h @ cell.weight_hh.t(), cx=c)
    check_cell("ThnnFusedLstmCellBackward0", cell, gates, cell(x, (h, c)))


@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no-bias"])
def test_gru_cell(biased: bool) -> None:
    torch.manual_seed(0)
    cell = nn.GRUCell(3, 2, bias=biased, dtype=torch.float64)
    x, h = (torch.randn(4, n, dtype=torch.float64) for n in (3, 2))
    gates = dict(input_gates=x @ cell.weight_ih.t(), hidden_gates=h @ cell.weight_hh.t(), hx=h)
    check_cell("ThnnFusedGruCellBackward0", cell, gates, (cell(x, h),))


def check_cell(node: str, cell: Any, gates: dict[str, Any], expected: Sequence[Tensor]) -> None:
    row = lrp.load_rules()[node]
    biases = dict(input_bias=getattr(cell, "bias_ih", None), hidden_bias=getattr(cell, "bias_hh", None))
    saved = {**gates, **biases}
    op: Any = StandIn(row, [saved[n] for n in row.operands], Fields(node, saved), expected[0].shape)
    rule: Any = row.cases[-1][1]
    outputs, operands = rule.rebuild(op, lambda t, wanted: t.detach().requires_grad_(wanted))
    assert len(operands) == len(row.operands)
    for made, y in zip(outputs, expected):
        assert torch.allclose(made, y, rtol=1e-10, atol=1e-12)
