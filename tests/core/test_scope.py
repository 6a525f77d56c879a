"""Rules for a part of a model: by name, by place, by a function; who wins where several hold."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Marked(lrp.Rule):
    """Multiplies by ``by``: which nodes got it is then seen in the map."""

    by: float

    def coefficient(self, op: lrp.Op, *c: Tensor | None):
        entries = op.row.cases[-1][1].coefficient(op, *c)
        return [e * self.by if isinstance(e, Tensor) else e for e in entries]


def marked(by: float) -> lrp.Rules:
    return lrp.override(affine=Marked(by=by), norm=Marked(by=by))


class Model(nn.Module):
    """Modules, a functional call with a module's weight, a shared layer, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4, affine=False), nn.ReLU())
        self.shared = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.heads = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 3)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).mT.contiguous()
        h = self.shared(F.gelu(self.shared(h)))
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.heads[1](F.linear(h, self.heads[0].weight)).mean(1)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model().double().eval()


def sites(model: nn.Module, glob: str | type[nn.Module], dtype: torch.dtype | None = None) -> list[str]:
    """The nodes that a rule for ``glob`` reaches."""
    seen: dict[object, str] = {}

    def note(op: lrp.Op) -> bool:
        seen[op.node] = op.node.name()
        return True

    class Noted(Marked):
        def coefficient(self, op: lrp.Op, *c: Tensor | None):
            note(op)
            return super().coefficient(op, *c)

    one = lrp.override(affine=Noted(by=1.0), norm=Noted(by=1.0))
    rules = lrp.load_rules().where(glob, one, model=model)
    x = torch.randn(2, 2, 5, dtype=next(model.parameters()).dtype, requires_grad=True)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        y = model(x)
    lrp.relevance(y, x, rules=rules)
    return sorted(seen.values())


GLOBS = {
    "stem.0": ["ConvolutionBackward0"],
    "stem": ["ConvolutionBackward0", "NativeBatchNormBackward0"],
    "stem.*": ["ConvolutionBackward0", "NativeBatchNormBackward0"],
    "stem.1": ["NativeBatchNormBackward0"],
    "shared": ["AddmmBackward0", "AddmmBackward0"],
    "shared.weight": ["AddmmBackward0", "AddmmBackward0"],
    "heads.0.weight": ["MmBackward0"],
    "heads.?": ["AddmmBackward0", "MmBackward0"],
    "attention.out_proj": ["AddmmBackward0"],
    nn.Conv1d: ["ConvolutionBackward0"],
    nn.BatchNorm1d: ["NativeBatchNormBackward0"],
    nn.Linear: [*["AddmmBackward0"] * 4, "MmBackward0"],
}


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("glob", GLOBS, ids=str)
def test_a_name_or_class_reaches_the_ops_that_use_it(
    model: Model, glob: str | type[nn.Module], frozen: bool
) -> None:
    model.requires_grad_(not frozen)
    assert sites(model, glob) == GLOBS[glob]


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_a_part_of_a_parameter_has_its_name(model: Model, frozen: bool) -> None:
    """Attention cuts its weight in three; which product torch takes depends on what is tracked."""
    model.requires_grad_(not frozen)
    assert sites(model, "attention.in_proj_weight") in (["MmBackward0"], ["BmmBackward0"])


@pytest.mark.parametrize("glob", ["shared", "heads.0.weight", "stem.0"])
def test_autocast_hides_no_name(model: Model, glob: str) -> None:
    """The weights that compute are copies in bfloat16, frozen or not."""
    model.float()
    trainable = sites(model, glob, torch.bfloat16)
    assert trainable == sites(model.requires_grad_(False), glob, torch.bfloat16) == GLOBS[glob]


def test_a_moved_model_keeps_its_names(model: Model) -> None:
    rules = lrp.load_rules().where("heads.1", marked(3.0), model=model)
    model.float()
    x = torch.randn(2, 2, 5, requires_grad=True)
    (plain,), (got,) = (lrp.relevance(model(x), x, rules=r) for r in ("default", rules))
    torch.testing.assert_close(got, 3 * plain)


def test_an_unknown_name_is_an_error_with_near_ones(model: Model) -> None:
    with pytest.raises(lrp.BadRule, match=r"where\('head\.1\.\*'\).*near it: .*heads\.1"):
        lrp.load_rules().where("head.1.*", marked(2.0), model=model)
    with pytest.raises(lrp.BadRule, match="add model=model"):
        lrp.load_rules().where("heads.1", marked(2.0))
    with pytest.raises(lrp.BadRule, match=r"afine.*did you mean affine"):
        lrp.load_rules().where("heads.1", lrp.override(afine=lrp.Gamma()), model=model)


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (
            nn.ReLU,
            r"where\(ReLU\): Model has no ReLU with parameters.*it has: BatchNorm1d, Conv1d.*node type",
        ),
        (nn.Conv3d, r"has no Conv3d"),
        (nn.Linear(2, 2), r"Linear is no name, class or function of an op.*the module's name"),
        (["shared", "stem"], r"list is no name, class or function"),
    ],
)
def test_what_no_op_can_be_told_by_is_an_error(model: Model, when, text: str) -> None:
    with pytest.raises(lrp.BadRule, match=f"(?s){text}"):
        lrp.load_rules().where(when, marked(2.0), model=model)


def test_a_rule_alone_is_no_table(model: Model) -> None:
    with pytest.raises(lrp.BadRule, match=r"lrp\.override\(affine=Gamma\("):
        lrp.load_rules().where("shared", lrp.Gamma(), model=model)  # type: ignore[arg-type]
    with pytest.raises(lrp.BadRule, match=r"Conv1d.*add model=model"):
        lrp.load_rules().where(nn.Conv1d, marked(2.0))


def test_a_table_is_printed_in_a_line() -> None:
    rules = lrp.preset("epsilon").where(lrp.first_layer, lrp.override(affine=lrp.Flat()))
    assert repr(rules).startswith("Rules('epsilon | override': ") and len(repr(rules)) < 80


def test_a_model_that_is_gone_is_an_error() -> None:
    one = nn.Linear(2, 2)
    rules = lrp.load_rules().where("weight", marked(2.0), model=one)
    x = torch.randn(1, 2, requires_grad=True)
    y = nn.Linear(2, 2)(x)
    del one
    with pytest.raises(lrp.BadRule, match="the model is gone"):
        lrp.relevance(y, x, rules=rules)


def product_of_marks(rules: lrp.Rules) -> float:
    """The factor by which a net of two linear layers is marked."""
    x = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    (got,), (plain,) = (lrp.relevance(NET(x), x, rules=r) for r in (rules, "default"))
    return float((got / plain)[0, 0])


torch.manual_seed(1)
NET = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()


def test_the_later_rule_wins() -> None:
    base = lrp.load_rules()
    inner = base.where("0", marked(2.0), model=NET)
    assert product_of_marks(inner) == pytest.approx(2)
    assert product_of_marks(inner | marked(5.0)) == pytest.approx(25)
    assert product_of_marks(base | marked(5.0)) == pytest.approx(25)
    assert product_of_marks((base | marked(5.0)).where("0", marked(2.0), model=NET)) == pytest.approx(10)
    twice = inner.where("*", marked(3.0), model=NET)
    assert product_of_marks(twice) == pytest.approx(9)
    assert product_of_marks(twice.where("1", marked(7.0), model=NET)) == pytest.approx(21)


def test_a_preset_for_a_part() -> None:
    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    rules = lrp.preset("epsilon").where("0", lrp.preset("gamma", gamma=0.7), model=NET)
    layers = [r for r in lrp.propagate(NET(x), x, rules=rules).rules_used if "(" in r]
    assert {r.split("(")[0] for r in layers} >= {"Gamma", "Epsilon"}
    z = NET[0](x).detach().requires_grad_()
    (r1,) = lrp.relevance(NET[1](z), z, rules="epsilon")
    (expected,) = lrp.relevance(NET[0](x), x, r1, rules=lrp.preset("gamma", gamma=0.7))
    torch.testing.assert_close(lrp.relevance(NET(x), x, rules=rules)[0], expected)


def test_a_function_of_the_op() -> None:
    rules = lrp.load_rules().where(lambda op: op.shape[-1] == 3, marked(4.0))
    assert product_of_marks(rules) == pytest.approx(4)


def test_first_layers_are_those_that_read_an_input() -> None:
    """Two branches have two; behind a norm and a ReLU is still first; behind a layer is not."""
    torch.manual_seed(2)
    a, b, c, d = (nn.Linear(4, 4).double() for _ in range(4))
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    rules = lrp.load_rules().where(lrp.first_layer, marked(2.0))

    def factor(f) -> float:
        (got,), (plain,) = (lrp.relevance(f(x), x, rules=r) for r in (rules, "default"))
        ratios = (got / plain).flatten()
        torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
        return float(ratios[0])

    assert factor(lambda x: c((a(x) + b(x)).relu())) == pytest.approx(2)
    assert factor(lambda x: d(c(a(F.layer_norm(x, (4,)).relu()).relu()))) == pytest.approx(2)
    z = torch.randn(3, 4, dtype=torch.float64)
    assert factor(lambda x: b(x * a(z))) == pytest.approx(2)  # a is not on the way from x


class Block(nn.Module):
    """Attention and a gated layer, each with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({name: nn.Linear(4, 4) for name in "qkvo"})
        self.gated = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("gate", "up", "down")})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.attention[name](x) for name in "qkv")
        x = x + self.attention["o"]((q @ k.mT).softmax(-1) @ v)
        return x + self.gated["down"](F.silu(self.gated["gate"](x)) * self.gated["up"](x))


BMM, MUL, SILU, SOFTMAX = "BmmBackward0", "MulBackward0", "SiluBackward0", "SoftmaxBackward0"


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize(
    ("glob", "nodes"),
    [
        ("0.attention", [BMM, BMM, SOFTMAX]),
        ("1.*", [BMM, BMM, MUL, SILU, SOFTMAX]),
        ("1", [BMM, BMM, MUL, SILU, SOFTMAX]),
        ("1.gated.*", [MUL, SILU]),
        ("1.gated.up", []),
        ("0.attention.q", []),
    ],
)
def test_ops_without_parameters_are_in_the_module_that_feeds_them(
    glob: str, nodes: list[str], frozen: bool
) -> None:
    """Residual sums are in neither block: the stream comes from outside of it."""
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block()).requires_grad_(not frozen)
    x = torch.randn(2, 3, 4, requires_grad=True)
    seen: list[str] = []

    class Noted(Marked):
        def coefficient(self, op: lrp.Op, *c: Tensor | None):
            seen.append(op.row.node)
            return super().coefficient(op, *c)

    noted = Noted(by=1.0)
    of_these = lrp.override(
        softmax=noted, product=noted, elementwise=noted, affine__bilinear=noted, AddBackward0=noted
    )
    lrp.relevance(model(x), x, rules=lrp.load_rules().where(glob, of_these, model=model))
    assert sorted(seen) == nodes
