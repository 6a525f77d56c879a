"""What the user drops is gone: no graph, no activation outlives a run."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.packs import plugins
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PRESETS = sorted(set(plugins.presets()) - {"epsilon-gamma-box"})  # which needs the bounds of its inputs


class Residents:
    """Weak references to the storages that a forward made, by their Python tensors."""

    def __init__(self) -> None:
        self.alive: list[Any] = []

    def watch(self, t: Tensor) -> Tensor:
        self.alive.append(weakref.ref(t.untyped_storage()))
        self.alive.append(weakref.ref(t))
        return t


class Token:
    """Lives as long as the saved tensor it was packed with: one per field that autograd keeps."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def forward(tokens: list[Any], frozen: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """A small model whose saved tensors can be watched: each is packed into a Token."""
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)])
    net.requires_grad_(not frozen)
    x = torch.randn(3, 4, requires_grad=True)

    def pack(t: Tensor) -> Token:
        token = Token(t.detach())  # the tensor itself would make a cycle with its node
        tokens.append(weakref.ref(token))
        return token

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda token: token.tensor), lrp.record():
        h = net[1](x + F.gelu(net[0](x))) * 2.0
        h = h + F.silu(x) * h  # a gate: matchers look at where its operands come from
        y = net[2](h.relu() + 1.0)[:, 0]
    return x, h, y


@pytest.fixture(autouse=True)
def no_collector() -> Any:
    for _ in range(8):
        with lrp.record():
            pass
    gc.collect()
    yield
    gc.enable()


def alive(tokens: list[Any]) -> int:
    return sum(token() is not None for token in tokens)


def dropped(tokens: list[Any], collect: bool) -> None:
    if collect:
        gc.collect()
    assert len(tokens) >= 5, "the test must have something to watch"
    assert alive(tokens) == 0


@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_the_graph_goes_with_the_output_though_the_run_is_held(rules: str, frozen: bool) -> None:
    tokens: list[Any] = []
    x, h, y = forward(tokens, frozen)
    run = lrp.propagate(y, x, rules=rules)
    assert alive(tokens) > 0
    del y, h
    dropped(tokens, collect=True)
    assert run.relevance[0].shape == x.shape


@pytest.mark.parametrize("rules", PRESETS)
def test_no_collector_is_needed(rules: str) -> None:
    """Reference counts do it: a loop of explanations must not wait for the cyclic collector."""
    tokens: list[Any] = []
    x, h, y = forward(tokens)
    gc.disable()
    lrp.relevance(y, x, rules=rules)
    del y, h
    dropped(tokens, collect=False)


def test_the_ledger_does_not_keep_the_graph() -> None:
    tokens: list[Any] = []
    x, h, y = forward(tokens)
    run = lrp.propagate(y, x, ledger=True)
    before = str(run.ledger)
    del y, h
    dropped(tokens, collect=True)
    assert str(run.ledger) == before


def test_intermediate_inputs_and_read_outs() -> None:
    tokens: list[Any] = []
    x, h, y = forward(tokens)
    run = lrp.propagate(y, (x, h), at=h, rules="dynamiclrp")
    del y, h
    dropped(tokens, collect=True)
    assert all(not r.requires_grad for r in (*run.relevance, *run.at))


def test_a_differentiable_run_keeps_it_as_long_as_its_result_lives() -> None:
    tokens: list[Any] = []
    x, h, y = forward(tokens)
    run = lrp.propagate(y, x, create_graph=True)
    del y, h
    gc.collect()
    assert alive(tokens) > 0
    del run
    dropped(tokens, collect=True)


class Unknown(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return x * 1

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        return g


def fails_missing(x: Tensor, h: Tensor, y: Tensor) -> None:
    lrp.relevance(y, x, rules=lrp.Rules(rows={}))


def fails_unrecoverable(x: Tensor, h: Tensor, y: Tensor) -> None:
    lrp.relevance(-(y + 2.0), x, rules="dynamiclrp")


def fails_nonfinite(x: Tensor, h: Tensor, y: Tensor) -> None:
    lrp.relevance(y * float("inf"), x)


def fails_seed(x: Tensor, h: Tensor, y: Tensor) -> None:
    lrp.relevance(y, x, torch.ones(7))


def fails_unreachable(x: Tensor, h: Tensor, y: Tensor) -> None:
    lrp.relevance(y, torch.ones(2, requires_grad=True))


def fails_in_a_rule(x: Tensor, h: Tensor, y: Tensor) -> None:
    class Bad(lrp.Rule):
        def coefficient(self, op: Any, *c: Any) -> Any:
            raise RuntimeError("mine")

    lrp.relevance(y, x, rules=lrp.load_rules() | lrp.override(norm=Bad()))


@pytest.mark.parametrize(
    "fails",
    [
        fails_missing,
        fails_unrecoverable,
        fails_nonfinite,
        fails_seed,
        fails_unreachable,
        fails_in_a_rule,
    ],
    ids=lambda f: f.__name__,
)
def test_errors_keep_nothing_once_they_are_gone(fails: Callable[..., None]) -> None:
    tokens: list[Any] = []
    x, h, y = forward(tokens)
    with pytest.raises(lrp.DynamicLRPError):
        fails(x, h, y)
    del y, h
    dropped(tokens, collect=True)


def test_attribute_keeps_nothing_but_its_result() -> None:
    tokens: list[Any] = []
    net = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2))

    def pack(t: Tensor) -> Token:
        token = Token(t.detach())  # the tensor itself would make a cycle with its node
        tokens.append(weakref.ref(token))
        return token

    explainer = lrp.LRP(net, rules="epsilon")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda token: token.tensor):
        explainer.attribute(torch.randn(2, 4), target=1)
    dropped(tokens, collect=True)
    assert explainer.run is not None


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_keep_nothing(reentrant: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    residents = Residents()

    def region(h: Tensor) -> Tensor:
        return residents.watch(layer(residents.watch(F.gelu(h))))

    x = torch.randn(3, 4, requires_grad=True)
    with lrp.record():
        y = checkpoint(region, x, use_reentrant=reentrant).sum()
    lrp.relevance(y, x, rules="epsilon")
    del y
    gc.collect()
    assert len(residents.alive) >= 6
    assert all(ref() is None for ref in residents.alive)


def test_nothing_is_written_to_the_nodes_of_parameters() -> None:
    # AccumulateGrad nodes outlive every graph: state left there would leak and disturb the next.
    layer = nn.Linear(4, 2)
    x = torch.randn(3, 4, requires_grad=True)
    for rules in PRESETS:
        lrp.relevance(layer(x)[:, 0], x, rules=rules)
    y = layer(x)
    for node, _ in y.grad_fn.next_functions:
        if node is not None:
            assert dict(node.metadata) == {}
    assert dict(y.grad_fn.metadata) == {}


def test_the_collector_is_left_as_it_was() -> None:
    x = torch.randn(3, requires_grad=True)
    y = (x * 2).sum()
    for turn in (gc.disable, gc.enable):
        turn()
        was = gc.isenabled()
        lrp.relevance(y, x)
        assert gc.isenabled() == was


def test_values_are_freed_while_the_sweep_goes_on() -> None:
    """The memo of a node goes when the sweep has passed it: memory does not grow with depth."""
    x = torch.randn(4, 1000, dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(60):
        y = -y
    kept: list[int] = []
    refs: list[Any] = []

    class Counting(lrp.Rule):
        def coefficient(self, op: Any, *c: Any) -> Any:
            refs.append(weakref.ref(op.input(0)))
            kept.append(sum(r() is not None for r in refs))
            return [-c[0]]

    rules = lrp.load_rules() | lrp.override(NegBackward0=Counting())
    lrp.relevance(y, x, rules=rules)
    del y
    gc.collect()
    assert len(refs) == 60 and sum(r() is not None for r in refs) <= 1  # x itself
