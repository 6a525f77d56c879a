"""Every spelling of a computation gives the map of the first one."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .groups import GROUPS
from .table import Group, Spelling, agree, difference, explain, read_out_weights

PAIRS = [pytest.param(g, s, id=f"{g.name}-{s}") for g in GROUPS for s in g.spellings if s != g.first]
ALL = [pytest.param(g, s, id=f"{g.name}-{s}") for g in GROUPS for s in g.spellings]
# The stabiliser is per node, so a spelling of more nodes has more of them: small, it must not matter.
RULES = {
    "default": lrp.preset("default"),
    "epsilon": lrp.preset("epsilon", epsilon=1e-10),
    "attnlrp": lrp.preset("attnlrp"),
    "cp-lrp": lrp.preset("cp-lrp"),
}
# Under rules that pass relevance unchanged through elementwise ops, f(0) included, a constant that is
# added last takes a share (docs/invariance.md).
LESS_A_CONSTANT = {
    ("sigmoid", "tanh"), ("sigmoid", "1 - sigmoid(-x)"), ("tanh", "2 sigmoid(2x) - 1"),
    ("tanh", "1 - 2 / (exp(2x) + 1)"), ("elu", "where exp"), ("elu", "relu + exp"), ("exp", "expm1 + 1"),
}  # fmt: skip
# Their spellings name the size of the batch.
HARD_SHAPES = ("softmax with a sink", "multi-head attention", "joined", "repeated", "convolution")
# What passes float32 on the way cannot agree better than that.
ROUNDED = ("Llama", "float32", "silu by hand")


ONE_MAP = [
    pytest.param(g, s, rules, id=f"{g.name}-{s}-{rules}")
    for g, s in (p.values for p in PAIRS)
    for rules in RULES
    if rules in ("default", "epsilon") or (g.name, s) not in LESS_A_CONSTANT
]


@pytest.mark.parametrize(("group", "spelling", "rules"), ONE_MAP)
def test_one_map(group: Group, spelling: str, rules: str) -> None:
    """Trainable and frozen weights; every subset of the live tensors a group of several is made of."""
    live, constants = group.tensors()
    f, first = group.spellings[spelling], group.spellings[group.first]
    torch.testing.assert_close(f(*live, *constants), first(*live, *constants), rtol=1e-6, atol=1e-6)
    subsets = [None] if len(live) == 1 else [None, *((i,) for i in range(len(live)))]
    for trainable in (True, False):
        for inputs in subsets:
            live, constants = group.tensors(trainable=trainable)
            expected = explain(first, live, constants, RULES[rules], inputs)
            made = explain(f, live, constants, RULES[rules], inputs)
            agree(made, expected, 1e-5 if spelling in ROUNDED else 1e-7)


@pytest.mark.parametrize(("group", "spelling"), PAIRS)
def test_one_map_in_float32(group: Group, spelling: str) -> None:
    live, constants = group.tensors(torch.float32)
    expected = explain(group.spellings[group.first], live, constants)
    agree(explain(group.spellings[spelling], live, constants), expected, 2e-4)


@pytest.mark.parametrize("preset", ["epsilon", "gamma"])
@pytest.mark.parametrize(("group", "spelling"), [p for p in PAIRS if p.values[0].layer])
def test_one_layer_to_the_rules_of_layers(group: Group, spelling: str, preset: str) -> None:
    """However a layer and its bias are spelled, one stabiliser divides their sum, one sign is theirs."""
    live, constants = group.tensors()
    rules = lrp.preset(preset, epsilon=0.3)
    expected = explain(group.spellings[group.first], live, constants, rules)
    found = explain(group.spellings[spelling], live, constants, rules)
    if spelling in group.several:
        assert difference(found, expected) > 1e-3
    else:
        agree(found, expected, 1e-7)


@pytest.mark.parametrize(("group", "spelling"), ALL)
def test_checkpointed(group: Group, spelling: str) -> None:
    f = group.spellings[spelling]
    live, constants = group.tensors()
    expected = explain(f, live, constants)

    def wrapped(reentrant: bool) -> Spelling:
        return lambda *tensors: checkpoint(f, *tensors, use_reentrant=reentrant)

    for reentrant in (False, True):
        agree(explain(wrapped(reentrant), live, constants), expected, 1e-9)


RECORDED = [
    pytest.param(g, s, rules, id=f"{g.name}-{s}-{rules}")
    for g, s in (p.values for p in ALL)
    for rules in ("default", "epsilon", "gamma")
    if rules == "default" or g.layer
]


@pytest.mark.parametrize(("group", "spelling", "rules"), RECORDED)
def test_a_recording_changes_nothing(group: Group, spelling: str, rules: str) -> None:
    """Where a value can be had without ``record()`` the map is the same; else an error says so.

    Under the rules of layers with frozen weights and biases, and a stabiliser that is seen: what is one
    layer with a recording is one without.
    """
    f = group.spellings[spelling]
    live, constants = group.tensors(trainable=rules == "default")
    table = lrp.preset(rules) if rules == "default" else lrp.preset(rules, epsilon=0.3)
    expected = explain(f, live, constants, table)
    try:
        made = explain(f, live, constants, table, recorded=False)
    except lrp.Unrecoverable as error:
        assert "record()" in str(error)
        return
    agree(made, expected, 1e-9)


@pytest.mark.parametrize("rules", ["epsilon", "gamma"])
def test_a_recording_changes_nothing_behind_a_saved_sum(rules: str) -> None:
    """The ReLU saved the sum, so only the bias itself is lost: epsilon does not ask for it, gamma must."""
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((3, 4), (4, 5), (5,)))
    x, w = x.requires_grad_(), w.requires_grad_()
    table = lrp.preset(rules, epsilon=0.3)

    def f(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return (x @ w + b).relu()

    def explained(recorded: bool) -> list[Tensor]:
        return explain(f, [x], [w, b], table, recorded=recorded)

    if rules == "gamma":
        with pytest.raises(lrp.Unrecoverable, match=r"record\(\)"):
            explained(False)
    else:
        agree(explained(False), explained(True), 1e-12)


@pytest.mark.parametrize(("group", "spelling"), [p for p in ALL if p.values[0].batched])
def test_rows_of_a_batch_do_not_mix(group: Group, spelling: str) -> None:
    """Reading out one sample alone gives its rows of the map, and zeros elsewhere."""
    f = group.spellings[spelling]
    live, constants = group.tensors()
    whole = explain(f, live, constants)

    def of_one(*tensors: Tensor) -> Tensor:
        mask = torch.arange(live[0].shape[0]) == 1
        y = f(*tensors)
        return y * mask.to(y).view(-1, *[1] * (y.dim() - 1))

    for made, expected in zip(explain(of_one, live, constants), whole):
        alone = torch.zeros_like(expected)
        alone[1] = expected[1]
        agree([made], [alone], 1e-9)


@pytest.mark.parametrize("group", [g for g in GROUPS if g.batched and g.name not in HARD_SHAPES], ids=str)
def test_batch_is_singles(group: Group) -> None:
    f = group.spellings[group.first]
    live, constants = group.tensors()
    whole = explain(f, live, constants)
    for n in range(live[0].shape[0]):
        one = [t.detach()[n : n + 1].requires_grad_() for t in live]
        y = f(*one, *constants)
        weights = read_out_weights(f(*live, *constants))[n : n + 1]
        made = lrp.relevance((y * weights).sum(), one)
        agree(list(made), [t[n : n + 1] for t in whole], 1e-9)
