"""A batch norm beside a layer: the map is that of the layer with merged weights, made here by loops."""

from __future__ import annotations

import copy

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn

RULES = {
    "epsilon": lrp.Epsilon(epsilon=0.05),
    "epsilon, clip": lrp.Epsilon(epsilon=0.3, clip=True),
    "epsilon, spread": lrp.Epsilon(bias="spread"),
    "gamma": lrp.Gamma(gamma=0.4),
    "gamma, bias ignored": lrp.Gamma(gamma=0.4, bias="ignore"),
    "gamma, bias spread": lrp.Gamma(bias="spread"),
    "z+": lrp.ZPlus(),
    "alpha-beta": lrp.AlphaBeta(alpha=3, beta=2),
    "w-square": lrp.WSquare(),
    "flat": lrp.Flat(),
    "z-box": lrp.ZBox(low=-3.0, high=2.5),
}
LAYERS = {
    "linear": (lambda: nn.Linear(4, 6), (5, 4)),
    "linear without bias": (lambda: nn.Linear(4, 6, bias=False), (5, 4)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (3, 4, 7)),
    "conv2d without bias": (lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False), (2, 4, 4, 5)),
    "conv2d in groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding="same"), (2, 4, 4, 3)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2, dilation=2), (2, 4, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2), (2, 4, 3, 2)),
    "transposed in groups": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 2, 3)),
}


def norm_like(dims: int, channels: int, training: bool) -> nn.Module:
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[dims](
        channels
    ).double()
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias), nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm.train(training)


def constants(norm: nn.Module, x: Tensor) -> list[tuple[float, float]]:
    """Scale and shift of each channel, from the definition of batch norm."""
    made = []
    for ch in range(x.shape[1]):
        entries = x.detach().movedim(1, 0)[ch].reshape(-1).tolist()
        mean = sum(entries) / len(entries) if norm.training else float(norm.running_mean[ch])
        var = float(norm.running_var[ch])
        if norm.training:
            var = sum((e - mean) ** 2 for e in entries) / len(entries)
        k = float(norm.weight.detach()[ch]) / (var + norm.eps) ** 0.5
        made.append((k, float(norm.bias.detach()[ch]) - mean * k))
    return made


def merged_behind(layer: nn.Module, norm: nn.Module, z: Tensor) -> nn.Module:
    """zennit's SequentialMergeBatchNorm, channel by channel."""
    whole = copy.deepcopy(layer)
    old = torch.zeros(z.shape[1]).double() if layer.bias is None else layer.bias.detach()
    new = torch.zeros_like(old)
    with torch.no_grad():
        for ch, (k, t) in enumerate(constants(norm, z)):
            if isinstance(layer, nn.modules.conv._ConvTransposeNd):
                per_group = layer.out_channels // layer.groups
                inputs = layer.in_channels // layer.groups
                group = ch // per_group
                whole.weight[group * inputs : (group + 1) * inputs, ch % per_group] *= k
            else:
                whole.weight[ch] *= k
            new[ch] = old[ch] * k + t
    whole.bias = nn.Parameter(new)
    return whole


def table(rule: lrp.Rule) -> lrp.Rules:
    return lrp.load_rules() | lrp.override(affine=rule, norm=lrp.Epsilon())


def check_same(model, whole, x: Tensor, labels) -> None:
    for label in labels:
        got, expected = (relevance(m, x, table(RULES[label])) for m in (model, whole))
        torch.testing.assert_close(
            got, expected, rtol=1e-9, atol=1e-9, msg=lambda m, label=label: f"{label}: {m}"
        )


def relevance(model, x: Tensor, rules: lrp.Rules, seed: Tensor | None = None) -> Tensor:
    x = x.detach().requires_grad_()
    with lrp.record():
        y = model(x)
    run = lrp.propagate(y, x, seed, rules=rules, ledger=True)
    assert run.ledger is not None and run.ledger.closed, run.ledger
    return run.relevance[0].detach()


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("name", LAYERS)
def test_behind_a_layer(name: str, training: bool, frozen: bool) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    z = layer(x)
    norm = norm_like(z.dim(), z.shape[1], training)
    model = nn.Sequential(layer, norm, nn.ReLU())
    whole = nn.Sequential(merged_behind(layer, norm, z), nn.ReLU())
    model.requires_grad_(not frozen)
    torch.testing.assert_close(model(x), whole(x))
    check_same(model, whole, x, RULES)


BEFORE = ["linear", "conv1d", "conv2d without bias", "conv2d in groups", "transposed in groups"]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("name", BEFORE)
def test_before_a_layer(name: str, training: bool) -> None:
    """The matrix of the layer, its columns scaled; padding is not shifted by the norm."""
    torch.manual_seed(1)
    make, shape = LAYERS[name]
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    norm = norm_like(x.dim(), x.shape[1], training)
    zero = layer(torch.zeros_like(x)[:1]).detach().reshape(-1)
    columns = []
    for k in range(x[0].numel()):
        e = torch.zeros_like(x[:1])
        e.view(-1)[k] = 1.0
        columns.append(layer(e).detach().reshape(-1) - zero)
    per_input = torch.zeros(2, *x.shape[1:], dtype=torch.float64)
    for ch, (k, t) in enumerate(constants(norm, x)):
        per_input[0, ch], per_input[1, ch] = k, t
    scale, shift = per_input.view(2, -1)
    dense = nn.Linear(len(columns), len(zero)).double()
    with torch.no_grad():
        matrix = torch.stack(columns, 1)
        dense.bias.copy_(zero + matrix @ shift)
        dense.weight.copy_(matrix * scale)
    model, whole = nn.Sequential(norm, layer, nn.ReLU()), nn.Sequential(nn.Flatten(), dense, nn.ReLU())
    torch.testing.assert_close(model(x).flatten(1), whole(x))
    # Flat, w-square and spread count inputs by weights, of which the dense layer has more.
    check_same(model, whole, x, ("epsilon", "gamma", "z+", "alpha-beta", "w-square", "z-box"))


def conv_and_norm() -> tuple[nn.Conv2d, nn.Module, Tensor]:
    torch.manual_seed(2)
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    return conv, norm_like(4, 3, False), torch.randn(2, 2, 4, 4, dtype=torch.float64)


def test_a_layer_read_by_two_is_merged_on_its_way_to_the_norm_only() -> None:
    conv, norm, x = conv_and_norm()
    whole = merged_behind(conv, norm, conv(x))
    rules = table(lrp.Gamma())
    x.requires_grad_()
    z = conv(x)
    both = lrp.relevance((norm(z), z.relu()), x, rules=rules)[0]
    apart = lrp.relevance(whole(x), x, rules=rules)[0] + lrp.relevance(conv(x).relu(), x, rules=rules)[0]
    torch.testing.assert_close(both, apart)


def test_values_and_coefficients_that_meet_at_the_norm() -> None:
    """Seeds of both forms: the rule runs once for each, and both are redirected."""
    conv, norm, x = conv_and_norm()
    rules, x = table(lrp.ZPlus()), x.requires_grad_()
    y = norm(conv(x))
    r = torch.randn_like(y)
    (both,) = lrp.relevance((y, y), x, (None, r), rules=rules)
    (one,), (other,) = lrp.relevance(y, x, rules=rules), lrp.relevance(y, x, r, rules=rules)
    torch.testing.assert_close(both, one + other)
    y = conv(norm_like(4, 2, False)(x))
    r = torch.randn_like(y)
    (both,) = lrp.relevance((y, y), x, (None, r), rules=rules)
    (one,), (other,) = lrp.relevance(y, x, rules=rules), lrp.relevance(y, x, r, rules=rules)
    torch.testing.assert_close(both, one + other)


def test_biases_share_the_added_term() -> None:
    """at= reads what the merged bias takes: k b of the layer's, beta of the norm's, the rest the mean's."""
    conv, norm, x = conv_and_norm()
    whole = merged_behind(conv, norm, conv(x))
    rules = table(lrp.Gamma())
    y = norm(conv(x.requires_grad_()))
    run = lrp.propagate(y, x, rules=rules, at=(conv.bias, norm.bias))
    merged = lrp.propagate(whole(x), x, rules=rules, at=(whole.bias,))
    torch.testing.assert_close(run.relevance[0], merged.relevance[0])
    for ch, (k, _) in enumerate(constants(norm, conv(x))):
        taken, term = float(merged.at[0][ch]), float(whole.bias[ch].detach())
        assert float(run.at[0][ch]) == pytest.approx(taken * k * float(conv.bias[ch].detach()) / term)
        assert float(run.at[1][ch]) == pytest.approx(taken * float(norm.bias[ch].detach()) / term)


def test_the_layers_own_rule_decides() -> None:
    conv, norm, x = conv_and_norm()
    rules = table(lrp.Gamma()).where(lrp.first_layer, lrp.override(affine=lrp.WSquare()))
    run = lrp.propagate(norm(conv(x.requires_grad_())), x, rules=rules)
    (expected,) = lrp.relevance(merged_behind(conv, norm, conv(x))(x), x, rules=table(lrp.WSquare()))
    torch.testing.assert_close(run.relevance[0], expected)
    assert any(name.startswith("WSquare") for name in run.rules_used)


def test_a_norm_that_is_not_beside_a_layer_stays_a_norm() -> None:
    """Behind a ReLU, and behind a tensor that is explained itself: the epsilon rule of the affine map."""
    _, norm, x = conv_and_norm()
    norm = norm_like(4, 2, False)
    x.requires_grad_()
    (got,) = lrp.relevance(norm(x.relu()), x, rules=table(lrp.Gamma()))
    for ch, (k, t) in enumerate(constants(norm, x)):
        a = x.detach()[:, ch].clamp(min=0)
        y = k * a + t
        torch.testing.assert_close(got[:, ch], y * k * a / (y + 1e-6 * y.sign()))
    conv, norm, x = conv_and_norm()
    z = conv(x.requires_grad_())
    (at_z,) = lrp.relevance(norm(z), z, rules=table(lrp.Gamma()))
    assert at_z.shape == z.shape and bool(at_z.any())


def test_the_paper_takes_op_by_op() -> None:
    conv, norm, x = conv_and_norm()
    whole = merged_behind(conv, norm, conv(x))
    (apart,) = lrp.relevance(norm(conv(x.requires_grad_())), x, rules="dynamiclrp")
    (joint,) = lrp.relevance(whole(x), x, rules="dynamiclrp")
    assert not torch.allclose(apart, joint)


def test_can_be_differentiated() -> None:
    conv, norm, x = conv_and_norm()
    x.requires_grad_()
    for n in (norm, norm_like(4, 3, True)):

        def total(t: Tensor, n: nn.Module = n) -> Tensor:
            return lrp.relevance(n(conv(t)), t, rules=table(lrp.Gamma()), create_graph=True)[0].square().sum()

        (g,) = torch.autograd.grad(total(x), x)
        d = torch.randn_like(x)
        h = 1e-6
        up, down = ((x + s * h * d).detach().requires_grad_() for s in (1, -1))
        slope = (total(up) - total(down)) / (2 * h)
        assert float((g * d).sum().detach()) == pytest.approx(float(slope.detach()), rel=1e-5)
