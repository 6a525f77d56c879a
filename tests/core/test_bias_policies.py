"""What a bias does under every rule for layers, by definition; sums and pools; padding by modes."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.core.layer_definitions import EPS, LAYERS, stab, unfolded

# A rule is branches: how much of the relevance, and how a contribution v to the output z counts.
Branch = tuple[float, Callable[[float, float], float]]


def _plus(v: float, z: float) -> float:
    return max(v, 0.0)


def _minus(v: float, z: float) -> float:
    return min(v, 0.0)


BRANCHES: dict[str, tuple[type[lrp.Rule], dict[str, float], list[Branch]]] = {
    "epsilon": (lrp.Epsilon, {}, [(1.0, lambda v, z: v)]),
    "gamma": (
        lrp.Gamma,
        {"gamma": 0.4},
        [(1.0, lambda v, z: 0.0 if z == 0 else 1.4 * v if v * z > 0 else v)],
    ),
    "z+": (lrp.ZPlus, {}, [(1.0, _plus)]),
    "alpha2-beta1": (lrp.AlphaBeta, {}, [(2.0, _plus), (-1.0, _minus)]),
    "alpha3-beta2": (lrp.AlphaBeta, {"alpha": 3.0, "beta": 2.0}, [(3.0, _plus), (-2.0, _minus)]),
}


def by_definition(
    branches: list[Branch], policy: str, a: list[float], w: list[float], b: float, r: float
) -> tuple[list[float], float]:
    """Relevance of the inputs, and of the bias, for one output."""
    terms = [x * v for x, v in zip(a, w)]
    inputs, kept = [0.0] * len(a), 0.0
    if policy == "share" and b:  # a sum of two terms, by absolute ratio; then a layer without a bias
        kept = abs(b) / (abs(b) + abs(sum(terms))) * r
        r, b = r - kept, 0.0
    z = sum(terms) + b  # gamma's branch is that of the output as it is, as in zennit
    b = 0.0 if policy == "ignore" else b
    connected = sum(v != 0 for v in w)
    for much, weigh in branches:
        counted, of_bias = [weigh(t, z) for t in terms], weigh(b, z)
        s = much * r / stab(sum(counted) + of_bias)
        share = of_bias / connected if policy == "spread" else 0.0
        inputs = [i + (t + (share if v else 0.0)) * s for i, t, v in zip(inputs, counted, w)]
        kept += 0.0 if policy == "spread" else of_bias * s
    return inputs, kept


@pytest.mark.parametrize("policy", ["absorb", "ignore", "spread", "share"])
@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("layer_name", ["linear", "conv2d, padded", "transposed 2d in groups", "einsum"])
def test_a_bias_absorbs_is_ignored_is_spread_or_has_a_share(layer_name: str, name: str, policy: str) -> None:
    layer, shape = LAYERS[layer_name]
    matrix, bias = unfolded(layer, shape)
    kind, parameters, branches = BRANCHES[name]
    rule = kind(epsilon=EPS, bias=policy, **parameters)
    torch.manual_seed(7)
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    with lrp.record():
        y = layer(x)
    seed = torch.randn_like(y)
    own = [layer.bias] if isinstance(layer, nn.Module) and policy in ("absorb", "share") else []
    run = lrp.propagate(y, x, seed, rules=lrp.load_rules() | lrp.override(affine=rule), at=own, ledger=True)
    kept = torch.zeros(y[0].numel(), dtype=torch.float64)
    for n in range(2):
        expected = [0.0] * x[0].numel()
        for j, (weights, b, r) in enumerate(zip(matrix, bias, seed[n].reshape(-1).tolist())):
            entries, of_bias = by_definition(branches, policy, x[n].reshape(-1).tolist(), weights, b, r)
            expected = [e + s for e, s in zip(expected, entries)]
            kept[j] += of_bias
        assert run.relevance[0][n].reshape(-1).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for read in run.at:  # "to the bias": one entry per channel
        per_channel = kept.view(len(read), -1).sum(1)
        assert read.tolist() == pytest.approx(per_channel.tolist(), rel=1e-9, abs=1e-9)
    assert run.ledger is not None and run.ledger.closed, str(run.ledger)
    assert run.ledger.by_cause.get("bias", 0.0) == pytest.approx(
        float(kept.sum()) if policy in ("absorb", "share") else 0.0
    )


@pytest.mark.parametrize("layer", ["epsilon", "gamma", "z+"])
def test_a_share_is_that_of_a_sum_in_a_node_of_its_own(layer: str) -> None:
    """The paper takes op by op, so addmm is mm and add: for the map, and for what the bias reads."""
    torch.manual_seed(12)
    module, x = nn.Linear(5, 4).double(), torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    seed = torch.randn(3, 4, dtype=torch.float64)
    rules = lrp.preset("dynamiclrp", layer=layer)
    fused, spelled = (
        lrp.propagate(y, x, seed, rules=rules, at=[module.bias])
        for y in (module(x), x @ module.weight.T + module.bias)
    )
    for got, expected in zip((*fused.relevance, *fused.at), (*spelled.relevance, *spelled.at)):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    assert all(run.at[0].all() for run in (fused, spelled))


# -- zennit's Norm: where there are no weights ---------------------------------------------------------

SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "average pool": lambda x: F.avg_pool2d(x, 2, 1),
    "average pool, padding counted": lambda x: F.avg_pool2d(x, 2, 2, 1),
    "adaptive average pool": lambda x: F.adaptive_avg_pool2d(x, 2),
    "mean": lambda x: x.mean((2, 3)),
    "residual sum": lambda x: x + x.flip(3),
    "difference": lambda x: torch.sub(x, x.flip(2), alpha=0.5),
}


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_norm_shares_by_contribution_where_there_are_no_weights(name: str, clip: bool) -> None:
    f, eps = SUMS[name], 0.3
    matrix, _ = unfolded(f, (2, 3, 4))
    torch.manual_seed(8)
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    y = f(x)
    seed = torch.randn_like(y)
    norm = lrp.Norm(epsilon=eps, clip=clip)
    run = lrp.propagate(
        y, x, seed, rules=lrp.load_rules() | lrp.override(linear=norm, adding=norm), ledger=True
    )
    for n in range(2):
        a, expected = x[n].reshape(-1).tolist(), [0.0] * 24
        for weights, r in zip(matrix, seed[n].reshape(-1).tolist()):
            z = sum(x * v for x, v in zip(a, weights))
            whole = (max(abs(z), eps) if clip else abs(z) + eps) * (1 if z >= 0 else -1)
            expected = [e + x * v * r / whole for e, x, v in zip(expected, a, weights)]
        assert run.relevance[0][n].reshape(-1).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert run.ledger is not None and run.ledger.closed


def test_pass_passes_whatever_the_op_does() -> None:
    torch.manual_seed(11)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    y = nn.LayerNorm(4).double()(x).exp() + 2
    seed = torch.randn_like(y)
    same = lrp.override(norm=lrp.Pass(), elementwise=lrp.Pass(), adding=lrp.Pass())
    run = lrp.propagate(y, x, seed, rules=lrp.load_rules() | same, ledger=True)
    assert torch.equal(run.relevance[0], seed) and run.ledger is not None and run.ledger.closed


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("name", BRANCHES)
def test_padding_by_mode_is_a_move_before_the_layer(name: str, mode: str) -> None:
    """An entry that padding repeats has the relevance of all its copies; each copy is a contribution."""
    kind, parameters, branches = BRANCHES[name]
    torch.manual_seed(9)
    conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    y = conv(x)
    seed = torch.randn_like(y)
    rules = lrp.load_rules() | lrp.override(affine=kind(epsilon=EPS, **parameters))
    (got,) = lrp.relevance(y, x, seed, rules=rules)
    where = torch.arange(1.0, 25.0, dtype=torch.float64).view(1, 2, 3, 4)
    how = "constant" if mode == "zeros" else mode
    source = F.pad(where, (1, 1, 1, 1), how).flatten().long().tolist()  # 0: padding with zeros
    padded = F.pad(x.detach(), (1, 1, 1, 1), how).flatten().tolist()
    bare = nn.Conv2d(2, 2, 3).double()
    bare.load_state_dict(conv.state_dict())
    matrix, bias = unfolded(bare, (2, 5, 6))
    expected = [0.0] * 25
    for weights, b, r in zip(matrix, bias, seed.flatten().tolist()):
        for k, share in zip(source, by_definition(branches, "absorb", padded, weights, b, r)[0]):
            expected[k] += share
    assert got.flatten().tolist() == pytest.approx(expected[1:], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", BRANCHES)
@pytest.mark.parametrize("options", [{"clip": True}, {"norm_scale": True}], ids=str)
def test_every_rule_has_the_options_of_the_stabiliser(name: str, options: dict[str, bool]) -> None:
    """Applied to the sum that the rule divides by: of each branch its own."""
    kind, parameters, branches = BRANCHES[name]
    layer, shape = LAYERS["linear"]
    matrix, bias = unfolded(layer, shape)
    torch.manual_seed(10)
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    y, eps = layer(x), 0.5
    seed = torch.randn_like(y)
    rules = lrp.load_rules() | lrp.override(affine=kind(epsilon=eps, **options, **parameters))
    run = lrp.propagate(y, x, seed, rules=rules, ledger=True)
    for n in range(2):
        a, expected = x[n].tolist(), [0.0] * 6
        for much, weigh in branches:
            sums, numerators = [], []
            for weights, b in zip(matrix, bias):
                terms = [xi * v for xi, v in zip(a, weights)]
                z = sum(terms) + b
                numerators.append([weigh(t, z) for t in terms])
                sums.append(sum(numerators[-1]) + weigh(b, z))
            by = eps * (sum(s * s for s in sums) / len(sums)) ** 0.5 if "norm_scale" in options else eps
            for terms, s, r in zip(numerators, sums, seed[n].tolist()):
                whole = (max(abs(s), by) if "clip" in options else abs(s) + by) * (1 if s >= 0 else -1)
                expected = [e + much * t * r / whole for e, t in zip(expected, terms)]
        assert run.relevance[0][n].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert run.ledger is not None and run.ledger.closed
