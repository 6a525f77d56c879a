"""The named rules against their definitions, written as loops over single entries."""

from __future__ import annotations

import copy

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.families import elementwise
from torch import Tensor, nn

EPS = 1e-6


def stab(z: float, eps: float) -> float:
    return z + eps if z >= 0 else z - eps


def dense(seed: int, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)


def two_layers(bias: bool = True) -> tuple[nn.Sequential, Tensor]:
    model = nn.Sequential(dense(1, 5, 4, bias), nn.ReLU(), dense(2, 4, 3, bias))
    torch.manual_seed(3)
    return model, torch.randn(2, 5, dtype=torch.float64)


# -- one layer by each rule, entry by entry ----------------------------------------------------------


def epsilon_layer(a: list[float], w: Tensor, b: list[float], r: list[float]) -> list[float]:
    out = [0.0] * len(a)
    for j, rj in enumerate(r):
        z = b[j] + sum(a[i] * float(w[j, i]) for i in range(len(a)))
        for i in range(len(a)):
            out[i] += a[i] * float(w[j, i]) * rj / stab(z, EPS)
    return out


def gamma_layer(a: list[float], w: Tensor, b: list[float], r: list[float], g: float) -> list[float]:
    """Generalised gamma: the branch is the sign of z, numerators weigh what agrees with it."""
    out = [0.0] * len(a)
    for j, rj in enumerate(r):
        z = b[j] + sum(a[i] * float(w[j, i]) for i in range(len(a)))
        if z == 0:
            continue

        def weigh(v: float, up: bool = z > 0) -> float:
            return v * (1 + g) if (v > 0) == up else v

        terms = [weigh(a[i] * float(w[j, i])) for i in range(len(a))]
        whole = sum(terms) + weigh(b[j])
        for i in range(len(a)):
            out[i] += terms[i] * rj / stab(whole, EPS)
    return out


def zplus_layer(a: list[float], w: Tensor, b: list[float], r: list[float]) -> list[float]:
    out = [0.0] * len(a)
    for j, rj in enumerate(r):
        terms = [max(a[i] * float(w[j, i]), 0.0) for i in range(len(a))]
        whole = sum(terms) + max(b[j], 0.0)
        for i in range(len(a)):
            out[i] += terms[i] * rj / stab(whole, EPS)
    return out


def paper_layer(a: list[float], w: Tensor, b: list[float] | None, r: list[float]) -> list[float]:
    """DynamicLRP: first an add of bias and product by absolute ratio, then epsilon 1e-11."""
    out = [0.0] * len(a)
    for j, rj in enumerate(r):
        z = sum(a[i] * float(w[j, i]) for i in range(len(a)))
        share = 1.0 if b is None else abs(z) / (abs(z) + abs(b[j]))
        for i in range(len(a)):
            out[i] += a[i] * float(w[j, i]) * share * rj / stab(z, 1e-11)
    return out


LAYERS = {
    "epsilon": epsilon_layer,
    "gamma": lambda a, w, b, r: gamma_layer(a, w, b, r, 0.25),
    "dynamiclrp": paper_layer,
}


def by_hand(model: nn.Sequential, x: Tensor, layer) -> Tensor:
    first, second = copy.deepcopy(model[0]), copy.deepcopy(model[2])
    first.requires_grad_(False), second.requires_grad_(False)
    out = torch.zeros_like(x)
    for n in range(x.shape[0]):
        a0 = x[n].tolist()
        b1 = first.bias.tolist() if first.bias is not None else [0.0] * first.out_features
        b2 = second.bias.tolist() if second.bias is not None else [0.0] * second.out_features
        z1 = [b1[j] + sum(a0[i] * float(first.weight[j, i]) for i in range(5)) for j in range(4)]
        a1 = [max(z, 0.0) for z in z1]
        r2 = [b2[j] + sum(a1[i] * float(second.weight[j, i]) for i in range(4)) for j in range(3)]
        r1 = layer(a1, second.weight.detach(), b2, r2)
        out[n] = torch.tensor(layer(a0, first.weight.detach(), b1, r1), dtype=x.dtype)
    return out


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("rules", LAYERS)
def test_two_layer_net(rules: str, frozen: bool) -> None:
    model, x = two_layers()
    model.requires_grad_(not frozen)
    x.requires_grad_()
    with lrp.record():
        y = model(x)
    (r,) = lrp.relevance(y, x, rules=rules)
    torch.testing.assert_close(r, by_hand(model, x.detach(), LAYERS[rules]), rtol=1e-9, atol=1e-9)


def test_epsilon_plus_is_z_plus_on_convolutions_and_epsilon_on_dense_layers() -> None:
    torch.manual_seed(4)
    conv = nn.Conv1d(1, 3, 1, dtype=torch.float64)  # a dense layer in disguise: one pixel
    x = torch.randn(2, 1, 1, dtype=torch.float64, requires_grad=True)
    head = dense(5, 3, 2)
    y = head(conv(x).flatten(1).relu())
    (r,) = lrp.relevance(y, x, rules="epsilon-plus")
    for n in range(2):
        a0 = [float(x[n, 0, 0].detach())]
        w = conv.weight.detach().view(3, 1)
        z = [float(conv.bias.detach()[j]) + a0[0] * float(w[j, 0]) for j in range(3)]
        a1 = [max(v, 0.0) for v in z]
        r2 = (head(torch.tensor(a1, dtype=torch.float64))).tolist()
        r1 = epsilon_layer(a1, head.weight.detach(), head.bias.tolist(), r2)
        expected = zplus_layer(a0, w, conv.bias.tolist(), r1)
        assert float(r[n, 0, 0]) == pytest.approx(expected[0], rel=1e-9)


CONVS = {
    "plain": dict(kernel_size=3),
    "stride with remainder": dict(kernel_size=2, stride=2),
    "dilation": dict(kernel_size=2, dilation=2),
    "groups": dict(kernel_size=3, groups=2),
    "padding": dict(kernel_size=3, padding=1),
    "same": dict(kernel_size=3, padding="same"),
}


@pytest.mark.parametrize(
    ("name", "transposed"),
    [(n, t) for n in CONVS for t in (False, True) if not (t and n == "same")],
)
@pytest.mark.parametrize("rules", ["epsilon", "gamma", "z+", "dynamiclrp"])
def test_convolution_is_the_dense_layer_it_unfolds_to(name: str, rules: str, transposed: bool) -> None:
    """The matrix of the convolution, column by column, then the loops for dense layers."""
    arguments = dict(CONVS[name])
    if transposed:
        conv = nn.ConvTranspose2d(2, 4, dtype=torch.float64, **arguments)
    else:
        conv = nn.Conv2d(2, 4, dtype=torch.float64, **arguments)
    torch.manual_seed(6)
    for p in conv.parameters():
        nn.init.normal_(p)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    n_in, y = x.numel(), conv(x).detach()
    bias = (conv(torch.zeros_like(x)).detach()).reshape(-1)
    matrix = torch.zeros(y.numel(), n_in, dtype=torch.float64)
    for k in range(n_in):
        e = torch.zeros(n_in, dtype=torch.float64)
        e[k] = 1.0
        matrix[:, k] = conv(e.view_as(x)).detach().reshape(-1) - bias
    layer = zplus_layer if rules == "z+" else LAYERS[rules]
    r_out = torch.randn(y.shape, dtype=torch.float64)
    expected = layer(x.reshape(-1).tolist(), matrix, bias.tolist(), r_out.reshape(-1).tolist())
    x.requires_grad_()
    table = lrp.load_rules() | lrp.override(affine=lrp.ZPlus()) if rules == "z+" else rules
    (r,) = lrp.relevance(conv(x), x, r_out, rules=table)
    got = r.reshape(-1)
    scale = max(abs(v) for v in expected)
    for k in range(n_in):
        assert float(got[k]) == pytest.approx(expected[k], abs=1e-8 * scale)


# -- default -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
def test_default_is_input_times_gradient_on_bias_free_relu_nets(frozen: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 2, bias=False), nn.LeakyReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(6, 5, bias=False),
    ).double()  # fmt: skip
    model.requires_grad_(not frozen)
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    y = model(x)
    (g,) = torch.autograd.grad(y[:, 1].sum(), x, retain_graph=True)
    (r,) = lrp.relevance(y[:, 1], x)
    torch.testing.assert_close(r, (x * g).detach())
    torch.testing.assert_close(r.sum((1, 2, 3)), y[:, 1].detach())  # nothing absorbs anything


# -- the paper's sums and products --------------------------------------------------------------------


def test_absolute_ratio_of_an_add() -> None:
    a = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([-3.0, -1.0, 3.0], dtype=torch.float64, requires_grad=True)
    r = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    ra, rb = lrp.relevance(torch.sub(a, b, alpha=2), (a, b), r, rules="dynamiclrp")
    for k in range(3):
        ta, tb = abs(float(a.detach()[k])), abs(2 * float(b.detach()[k]))
        assert float(ra[k]) == pytest.approx(float(r[k]) * ta / (ta + tb))
        assert float(rb[k]) == pytest.approx(float(r[k]) * tb / (ta + tb))


def test_squared_ratio_of_an_add() -> None:
    a = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([-3.0, -1.0], dtype=torch.float64, requires_grad=True)
    rules = lrp.load_rules() | lrp.override(adding=lrp.Ratio(power="squared", epsilon=0))
    ra, rb = lrp.relevance(a + b, (a, b), rules=rules)
    for k, (ta, tb) in enumerate([(1.0, -3.0), (-2.0, -1.0)]):
        y = ta + tb
        assert float(ra[k]) == pytest.approx(y * ta**2 / (ta**2 + tb**2))
        assert float(rb[k]) == pytest.approx(y * tb**2 / (ta**2 + tb**2))


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_absolute_ratio_of_a_reduction(reduce: str) -> None:
    x = torch.tensor([[1.0, -2.0, 4.0], [-1.0, 0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    r = torch.tensor([3.0, -2.0], dtype=torch.float64)
    (got,) = lrp.relevance(getattr(x, reduce)(-1), x, r, rules="dynamiclrp")
    for i in range(2):
        row = x.detach()[i].tolist()
        for j in range(3):
            expected = float(r[i]) * abs(row[j]) / sum(abs(v) for v in row)
            assert float(got[i, j]) == pytest.approx(expected)


def test_absolute_ratio_of_a_product() -> None:
    a = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([-3.0, 0.5], dtype=torch.float64, requires_grad=True)
    ra, rb = lrp.relevance(a * b, (a, b), rules="dynamiclrp")
    for k, (va, vb) in enumerate([(1.0, -3.0), (-2.0, 0.5)]):
        assert float(ra[k]) == pytest.approx(va * vb * abs(va) / (abs(va) + abs(vb)))
        assert float(rb[k]) == pytest.approx(va * vb * abs(vb) / (abs(va) + abs(vb)))


@pytest.mark.parametrize("f", [torch.sigmoid, torch.exp, torch.tanh])
def test_activations_pass_relevance_unchanged(f) -> None:
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    y = f(x)
    (r,) = lrp.relevance(y, x, rules="dynamiclrp")
    torch.testing.assert_close(r, y.detach())


def test_relevance_filter_keeps_the_top_fraction() -> None:
    layer = dense(8, 3, 4)
    x = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    run = lrp.propagate(y, x, rules=lrp.preset("dynamiclrp", top=0.5), ledger=True)
    values = y.detach()[0].tolist()
    kept = sorted(values, key=abs)[2:]
    filtered = [v if v in kept else 0.0 for v in values]
    expected = paper_layer(x.detach()[0].tolist(), layer.weight.detach(), layer.bias.tolist(), filtered)
    assert run.relevance[0][0].tolist() == pytest.approx(expected)
    assert run.ledger.by_cause["filter"] == pytest.approx(sum(values) - sum(kept))
    assert run.ledger.closed


def test_top_k_seed_is_a_seed() -> None:
    """The paper's top-k start: relevance of the k largest outputs enters, the rest is 0."""
    layer = dense(9, 3, 5)
    x = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    (r,) = lrp.relevance(y, x, lrp.top_k(y, 2))
    ranked = sorted(range(5), key=lambda k: -float(y.detach()[0, k]))
    expected = sum(float(y.detach()[0, k] - layer.bias[k].detach()) for k in ranked[:2])
    assert float(r.sum()) == pytest.approx(expected)


def test_a_row_with_only_a_forward_gets_the_secant() -> None:
    """A row with neither slope nor f(0): both come from the forward."""

    def f(t: Tensor) -> Tensor:
        return torch.special.log_ndtr(t)

    row = elementwise("SpecialLogNdtrBackward0", forward=lambda op, x: f(x))
    rules = lrp.load_rules() | lrp.Rules.of(row)
    x = torch.tensor([-2.0, -0.5, 0.0, 1.0], dtype=torch.float64, requires_grad=True)
    run = lrp.propagate(f(x), x, rules=rules, ledger=True)
    at_zero = float(f(torch.zeros((), dtype=torch.float64)))
    for k in range(4):
        assert float(run.relevance[0][k]) == pytest.approx(float(f(x.detach()[k])) - at_zero, abs=1e-12)
    assert run.coefficients[0] is not None
    slope = (float(f(torch.tensor(1e-6).double())) - float(f(torch.tensor(-1e-6).double()))) / 2e-6
    assert float(run.coefficients[0][2]) == pytest.approx(slope, rel=1e-6)
    assert run.ledger is not None and run.ledger.closed


def test_an_override_of_nothing_is_an_error() -> None:
    with pytest.raises(lrp.BadRule, match=r"afine.*did you mean affine"):
        lrp.load_rules() | lrp.override(afine=lrp.Gamma())
