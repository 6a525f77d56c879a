"""Note [Promises]: a promised value is the true one, wherever it was found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from dynamiclrp_core.arguments import outputs_of
from dynamiclrp_core.engine import Sweep
from dynamiclrp_core.existing import Existing
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import Address, address
from dynamiclrp_core.op import Op
from dynamiclrp_core.saved_index import SavedIndex
from torch import Tensor, nn

PRESETS = ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"]
VALUE_PRESETS = PRESETS[1:]


def leaf_of(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()


@pytest.fixture(autouse=True)
def forget_recordings() -> None:
    for _ in range(8):
        with lrp.record():
            pass


# -- the graphs ------------------------------------------------------------------------------------


def mlp(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2))
    return net.double()(x)


def cnn(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 2, 2),
    )  # fmt: skip
    return net.double().eval()(x)


def residual(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    a, b, norm = nn.Linear(6, 8), nn.Linear(8, 6), nn.LayerNorm(6)
    a.double(), b.double(), norm.double()
    h = x
    for _ in range(3):
        h = h + b(F.gelu(a(norm(h))))
    return norm(h).mean(1, keepdim=True)


def arithmetic(x: Tensor) -> Tensor:
    a, b = x.split(3, dim=1)
    c = torch.cat([b * 2, a - b, (a * b).tanh()], 1)
    d = (c.exp() + 1).log() - c.abs().sqrt()
    return (d.view(-1, 3, 3).transpose(1, 2) @ torch.ones(3, 1, dtype=x.dtype)).flatten(1)


def constants(x: Tensor) -> Tensor:
    mask = torch.tensor([0.0, 1, 0, 1, 0, 1], dtype=x.dtype)
    h = (x + mask) * 2 - 0.5
    h = h.masked_fill(mask.bool(), 0.25)
    h = torch.where(mask.bool(), h + 1, h * 3)
    return F.pad(h, (1, 1), value=0.5).sum(1, keepdim=True) + 3


def recurrent(x: Tensor) -> Tensor:
    torch.manual_seed(1)
    cell = nn.GRUCell(2, 4).double()
    h = torch.zeros(x.shape[0], 4, dtype=x.dtype)
    for t in range(3):
        h = cell(x[:, 2 * t : 2 * t + 2], h)
    return h


def softmaxed(x: Tensor) -> Tensor:
    p = (x * 2).softmax(-1)
    return (p * x).sum(-1, keepdim=True) / (1 + p.amax(-1, keepdim=True))


GRAPHS: dict[str, Callable[[Tensor], Tensor]] = {
    f.__name__: f for f in (mlp, cnn, residual, arithmetic, constants, recurrent, softmaxed)
}
EACH_GRAPH = pytest.mark.parametrize("graph", GRAPHS)


def made(graph: str, frozen: bool = False, record: bool = True) -> tuple[Tensor, Tensor]:
    x = leaf_of(3, 6)
    hold: list[Any] = []
    original = nn.Module.double

    def frozen_double(self: nn.Module) -> nn.Module:
        return original(self).requires_grad_(False)

    with pytest.MonkeyPatch.context() as patch:
        if frozen:
            patch.setattr(nn.Module, "double", frozen_double)
        if record:
            with lrp.record():
                y = GRAPHS[graph](x)
        else:
            y = GRAPHS[graph](x)
    hold.append(y)
    return x, y[:, 0]


# -- a promised value is the true one --------------------------------------------------------------


class Watched(torch.overrides.TorchFunctionMode):
    """Keeps every tensor that the forward makes: the truth."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.values: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(t, Tensor) and t.grad_fn is not None:
                self.tensors.append(t)
                self.values.append(t.detach().clone())
        return result


def sweep_of(y: Tensor, x: Tensor, **known: Any) -> Sweep:
    return Sweep(Graph([address(o) for o in outputs_of(y)]), [address(x)], (), lrp.preset("epsilon"), {})


def hide_everything(patch: pytest.MonkeyPatch) -> None:
    """As if autograd had saved no floating point tensor that the graph made, anywhere."""
    own, result, scan = Op.kept, Existing.result, SavedIndex._scan

    def no_operand(op: Op, i: int) -> Tensor | None:
        value = own(op, i)
        tracked = op.edges[i][0] is not None  # an untracked one stands at the node or nowhere
        return None if value is None or (tracked and value.is_floating_point()) else value

    def no_result(self: Existing, op: Any, nr: int) -> Tensor | None:
        value = result(self, op, nr)
        return None if value is None or value.is_floating_point() else value

    def scanned(self: SavedIndex) -> None:
        scan(self)
        self.found, self.leaves = {}, {}

    patch.setattr(Op, "kept", no_operand)
    patch.setattr(Existing, "result", no_result)
    patch.setattr(SavedIndex, "_scan", scanned)


@pytest.fixture(params=[False, True], ids=["seen", "hidden"])
def hidden(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    if request.param:
        hide_everything(monkeypatch)
    yield request.param


@EACH_GRAPH
def test_every_promised_value_is_the_forward_value(graph: str, hidden: bool) -> None:
    x = leaf_of(3, 6)
    watched = Watched()
    with lrp.record(), watched:
        y = GRAPHS[graph](x)
    order = set(Graph([address(y)]).order)
    compared = 0
    for t, value in zip(watched.tensors, watched.values):
        if t.grad_fn not in order:
            continue
        sweep = sweep_of(y, x)  # a new one: nothing may be remembered from another value
        found = sweep.values.edge(Address(t.grad_fn, t.output_nr))
        torch.testing.assert_close(found.detach(), value, rtol=1e-9, atol=1e-10)
        compared += 1
    assert compared >= 5


@EACH_GRAPH
@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_hiding_every_saved_value_changes_no_map(graph: str, rules: str, frozen: bool) -> None:
    x, y = made(graph, frozen)
    seen = lrp.relevance(y, x, rules=rules)[0]
    with pytest.MonkeyPatch.context() as patch:
        hide_everything(patch)
        run = lrp.propagate(y, x, rules=rules)
    torch.testing.assert_close(run.relevance[0], seen, rtol=1e-7, atol=1e-9)
    assert run.promises.sources["own"] == 0 and run.promises.sources["consumer"] == 0


@EACH_GRAPH
@pytest.mark.parametrize("rules", PRESETS)
def test_frozen_and_trainable_models_have_one_map(graph: str, rules: str) -> None:
    x, y = made(graph, frozen=False)
    z, w = made(graph, frozen=True)
    assert torch.equal(y, w)
    torch.testing.assert_close(
        lrp.relevance(y, x, rules=rules)[0], lrp.relevance(w, z, rules=rules)[0],
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


@EACH_GRAPH
@pytest.mark.parametrize("rules", PRESETS)
def test_a_second_run_equals_the_first_bit_for_bit(graph: str, rules: str) -> None:
    x, y = made(graph)
    first = lrp.propagate(y, x, rules=rules)
    second = lrp.propagate(y, x, rules=rules)
    assert torch.equal(first.relevance[0], second.relevance[0])
    assert first.promises.sources == second.promises.sources
    assert first.rules_used == second.rules_used


@EACH_GRAPH
def test_default_asks_for_no_lost_value(graph: str) -> None:
    # No recording, frozen: whatever default asks for must be there.
    if graph in ("constants", "softmaxed", "arithmetic", "recurrent"):
        pytest.skip("not a claim: matchers and exp ask for values here")
    x, y = made(graph, frozen=True, record=False)
    run = lrp.propagate(y, x)
    assert run.promises.sources["recorded"] == run.promises.sources["difference"] == 0


# -- each source by name ---------------------------------------------------------------------------


def sources(y: Tensor, x: Any, rules: Any = "dynamiclrp") -> dict[str, int]:
    return dict(lrp.propagate(y, x, rules=rules).promises.sources)


def test_source_own() -> None:
    x, w = leaf_of(2, 3), leaf_of(3, 2, seed=1)
    run = lrp.propagate((x @ w).sum(1), x)
    assert run.promises.promises == 0 and not run.promises.sources  # w stands at the node itself


def test_source_saved_of_the_caller() -> None:
    x = leaf_of(4)
    h = x * 2
    z = x * 3
    y = h + z
    found = sources(y, (h, z))
    assert found["saved"] >= 2


def test_source_consumer() -> None:
    x = leaf_of(4)
    h = x * 2.0  # its own value is saved by silu alone
    y = -(F.silu(h) + h)
    found = sources(y, x)
    assert found["consumer"] >= 1


def test_source_consumer_through_the_base_of_a_saved_view() -> None:
    x = leaf_of(2, 6)
    h = x.neg()
    v = h.view(3, 4)[1:]
    y = torch.cat([F.silu(v).flatten(), (h + h * 2).flatten()]).sum()
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources == {"consumer": 1}
    torch.testing.assert_close(found.detach(), h.detach())


def test_source_move() -> None:
    x = leaf_of(2, 6)
    h = x * 2.0
    v = h.clone().transpose(0, 1)
    y = F.silu(v).sum() + h.sum()
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources["move"] == 1
    torch.testing.assert_close(found.detach(), h.detach())


def test_source_recomputed() -> None:
    x = leaf_of(4)
    h = -x
    y = -(h + x)
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources == {"recomputed": 1, "leaf": 1}
    torch.testing.assert_close(found.detach(), -x.detach())


def test_source_leaf() -> None:
    x, p = leaf_of(4), nn.Parameter(torch.ones(4, dtype=torch.float64))
    assert sources(-(x + p), x)["leaf"] >= 1


def test_source_difference() -> None:
    x = leaf_of(4)
    y = x * 1.0 + 2.0
    run = lrp.propagate(y, x, rules=lrp.preset("dynamiclrp", epsilon=0.0))
    assert run.promises.sources["difference"] == 1
    expected = [(v + 2) * abs(v) / (abs(v) + 2) for v in x.detach().tolist()]
    torch.testing.assert_close(run.relevance[0], torch.tensor(expected, dtype=torch.float64))


class Branch(nn.Module):
    """``LayerNorm(x + views of W x)``: the norm saves the sum, nobody the branch."""

    def __init__(self, scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 6).to(dtype)
        self.norm = nn.LayerNorm(6).to(dtype)
        self.layer.weight.data *= scale
        self.made: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x.flatten(0, 1)).view(3, 2, 6).transpose(0, 1)
        self.made.append(h)
        y: Tensor = self.norm(x + h)
        return y


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_residual_branch_is_the_sum_less_the_stream(dtype: torch.dtype) -> None:
    model, x = Branch(3.0, dtype), leaf_of(2, 3, 6).detach().to(dtype).requires_grad_()
    sweep = sweep_of(model(x), x)
    (h,) = model.made
    assert h.grad_fn is not None
    layer = h.grad_fn.next_functions[0][0].next_functions[0][0]  # below transpose and view
    for node, expected in ((h.grad_fn, h), (layer, h.transpose(0, 1).flatten(0, 1))):
        found = sweep.values.output(sweep.op(node), 0)
        torch.testing.assert_close(found, expected, rtol=0, atol=20 * torch.finfo(dtype).eps)
        sweep.values.memo.clear()
    assert sweep.values.stats.sources["difference"] == 2
    assert sweep.values.stats.sources["recomputed"] == 0


@pytest.mark.parametrize(
    ("scale", "dtype"), [(0.01, torch.float32), (3.0, torch.bfloat16)], ids=["lost digits", "half precision"]
)
def test_a_branch_that_the_sum_rounds_away_is_computed_again(scale: float, dtype: torch.dtype) -> None:
    model, x = Branch(scale, dtype), leaf_of(2, 3, 6).detach().to(dtype).requires_grad_()
    model.layer.bias.data.zero_()
    sweep = sweep_of(model(x), x)
    (h,) = model.made
    assert h.grad_fn is not None
    torch.testing.assert_close(sweep.values.output(sweep.op(h.grad_fn), 0), h, rtol=0, atol=0)
    assert sweep.values.stats.sources["difference"] == 0


def test_a_branch_of_a_masked_sum_is_computed_again() -> None:
    """-inf less -inf is no value."""
    x, w, mask = leaf_of(3, 4), leaf_of(4, 4, seed=1), torch.zeros(3, 4, dtype=torch.float64)
    mask[0, 1] = -torch.inf
    h, masked = x @ w, x + mask
    total = masked + h
    sweep = sweep_of(total, x)
    sweep.values.known |= {address(t): t.detach() for t in (masked, total)}
    torch.testing.assert_close(sweep.values.output(sweep.op(h.grad_fn), 0), h)
    mask[0, 1] = 0
    masked.data.copy_(x + mask)
    total.data.copy_(masked + h)
    assert sweep.values.stats.sources["difference"] == 0
    sweep.values.memo.clear()
    torch.testing.assert_close(sweep.values.output(sweep.op(h.grad_fn), 0), h)
    assert sweep.values.stats.sources["difference"] == 1


def test_the_difference_is_refused_where_cancellation_eats_it() -> None:
    # float32: 1e6 + 0.01 has no digit of the constant left.
    x = (torch.rand(4) * 1e6 + 1e6).requires_grad_()
    y = x * 1.0 + 0.01
    with pytest.raises(lrp.Unrecoverable):
        lrp.relevance(y, x, rules="dynamiclrp")


def test_the_difference_is_refused_entry_by_entry() -> None:
    # One entry has all digits, the other none: the whole is not to be trusted.
    x = torch.tensor([1e8, 1.0]).requires_grad_()
    c = torch.tensor([1.0, 1e6])
    y = x * 1.0 + c
    try:
        sweep = sweep_of(y, x)
        sweep.values.known[address(y)] = y.detach()
        found = sweep.values._difference(sweep.op(y.grad_fn), 1)
    except lrp.Unrecoverable:
        return
    assert found is None or torch.allclose(found, c, rtol=1e-3)


def test_the_difference_is_refused_in_half_precision() -> None:
    x = torch.randn(4, dtype=torch.bfloat16).requires_grad_()
    with pytest.raises(lrp.Unrecoverable):
        lrp.relevance(x * 1.0 + 2.0, x, rules="dynamiclrp")


def test_source_inverse_is_noted() -> None:
    x = leaf_of(4)
    h = x * 1.0 + 2.0
    y = -h.tanh().neg()
    sweep = sweep_of(y, x)
    found = sweep.values.edge(address(h))
    assert sweep.values.stats.sources["inverse"] == 1
    torch.testing.assert_close(found.detach(), h.detach(), rtol=1e-6, atol=1e-6)
    assert any("inverted" in note for note in sweep.values.stats.notes)


def test_source_recorded() -> None:
    x = leaf_of(4)
    with lrp.record():
        y = -(x * 1.0 + 2.0)
    assert sources(y, x)["recorded"] >= 1


def test_recorded_is_exact_where_the_difference_would_not_be() -> None:
    x = (torch.rand(4) + 100).requires_grad_()
    with lrp.record():
        y = x * 1.0 + 0.1
    run = lrp.propagate(y, x, rules="dynamiclrp")
    assert run.promises.sources["recorded"] == 1 and run.promises.sources["difference"] == 0


def test_source_stand_in() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5, dtype=torch.float64)
    x = leaf_of(2, 6)
    run = lrp.propagate(layer(x).relu().sum(), x, rules="epsilon")
    assert run.promises.sources["stand-in"] == 1
    # The same numbers as with the pre-activation itself, by loops.
    w, b, a = layer.weight.detach(), layer.bias.detach(), x.detach()
    expected = torch.zeros_like(a)
    total = float(layer(a).relu().sum().detach())
    for n in range(2):
        for j in range(5):
            z = sum(float(a[n, i] * w[j, i]) for i in range(6)) + float(b[j])
            if z <= 0:
                continue
            r = total * z / (total + 1e-6)  # the sum's own epsilon
            for i in range(6):
                expected[n, i] += a[n, i] * w[j, i] * r / (z + 1e-6)
    torch.testing.assert_close(run.relevance[0], expected, rtol=1e-9, atol=1e-12)


def test_a_tensor_that_is_read_out_gets_no_stand_in() -> None:
    layer = nn.Linear(6, 5, dtype=torch.float64)
    x = leaf_of(2, 6)
    h = layer(x)
    run = lrp.propagate(h.relu().sum(), (x, h), rules="epsilon")
    assert run.promises.sources["stand-in"] == 0


# -- statistics ------------------------------------------------------------------------------------


def test_statistics_of_a_tree_counted_by_hand() -> None:
    x = leaf_of(4)
    a = -x
    b = -a
    y = -b
    sweep = sweep_of(-y, x)
    sweep.values.edge(address(y))  # y <- b <- a <- x: three recomputed, depth 3
    stats = sweep.values.stats
    assert stats.internal_nodes == 3 and stats.max_depth == 3 and stats.promises == 1
    assert stats.path_length == 3 and stats.nodes == 5
    assert stats.density == pytest.approx(1 / 5)
    assert "1 promises on 5 nodes" in str(stats)


def test_a_value_is_computed_once_per_run() -> None:
    x = leaf_of(4)
    h = -x
    y = (h + h * 2.0) + (h + x)
    run = lrp.propagate(-y, x, rules="dynamiclrp")
    forwards = run.promises.sources["recomputed"]
    assert forwards == run.promises.internal_nodes
    assert forwards <= 6  # h, h * 2, and the three sums, -y is known


def test_a_deep_tree_of_promises_needs_no_recursion() -> None:
    x = leaf_of(2)
    y = x
    for _ in range(3_000):
        y = -y
    sweep = sweep_of(-y, x)
    torch.testing.assert_close(sweep.values.edge(address(y)).detach(), x.detach())
    assert sweep.values.stats.max_depth == 3_000


# -- constants -------------------------------------------------------------------------------------


def test_constants_pass_need_not_be_known() -> None:
    x = leaf_of(4)
    y = -(x * 2.0 + 3.0)
    rules = lrp.preset("dynamiclrp", epsilon=0.0, constants="pass")
    (r,) = lrp.relevance(y, x, y.detach(), rules=rules)
    torch.testing.assert_close(r, y.detach())


def test_constants_pass_in_both_forms_alike() -> None:
    x = leaf_of(4)
    y = x * 2.0 + 3.0
    rules = lrp.preset("dynamiclrp", epsilon=0.0, constants="pass")
    for seed in (None, y.detach()):
        torch.testing.assert_close(lrp.relevance(y, x, seed, rules=rules)[0], y.detach())


def test_constants_pass_a_frozen_bias() -> None:
    layer = nn.Linear(4, 3, dtype=torch.float64).requires_grad_(False)
    x = leaf_of(2, 4)
    y = layer(x)[:, 1]
    rules = lrp.preset("dynamiclrp", epsilon=0.0, constants="pass")
    (r,) = lrp.relevance(y, x, y.detach(), rules=rules)
    torch.testing.assert_close(r.sum(1), y.detach())
    for n in range(2):
        parts = [float(x.detach()[n, i] * layer.weight[1, i]) for i in range(4)]
        expected = [float(y.detach()[n]) * p / sum(parts) for p in parts]
        torch.testing.assert_close(r[n], torch.tensor(expected, dtype=torch.float64))


def test_absorbing_is_the_default_and_loses_by_name_not_in_silence() -> None:
    layer = nn.Linear(4, 3, dtype=torch.float64).requires_grad_(False)
    x = leaf_of(2, 4)
    y = -(layer(x) * torch.ones(3, dtype=torch.float64))
    with pytest.raises(lrp.Unrecoverable, match="AddmmBackward0"):
        lrp.relevance(y, x, rules="dynamiclrp")


# -- runs do not disturb each other ----------------------------------------------------------------


@pytest.mark.parametrize("rules", PRESETS)
def test_two_graphs_of_one_model(rules: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x, z = leaf_of(2, 6), leaf_of(2, 6, seed=1)
    with lrp.record():
        y, w = net(x)[:, 0], net(z)[:, 0]
    alone = [lrp.relevance(y, x, rules=rules)[0], lrp.relevance(w, z, rules=rules)[0]]
    together = lrp.relevance((y, w), (x, z), rules=rules)
    for a, b in zip(alone, together):
        assert torch.equal(a, b)


def test_interleaved_runs_in_two_threads() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*[m for _ in range(5) for m in (nn.Linear(6, 6), nn.GELU())]).double()
    xs = [leaf_of(2, 6, seed=s) for s in range(4)]
    ys = [net(x)[:, 0] for x in xs]
    expected = [[lrp.relevance(y, x, rules=r)[0] for r in ("default", "epsilon")] for x, y in zip(xs, ys)]
    failed: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for _ in range(10):
                for r, e in zip(("default", "epsilon"), expected[k]):
                    assert torch.equal(lrp.relevance(ys[k], xs[k], rules=r)[0], e)
                    # and another thread's graph: shared nodes of the parameters
                    other = (k + 1) % 4
                    lrp.relevance(ys[other], xs[other], rules=r)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed[0]


@pytest.mark.parametrize("rules", PRESETS)
def test_sweeps_stepped_in_turn(rules: str) -> None:
    """A run started in the middle of another one (from a rule) disturbs neither."""
    x, y = made("residual")
    expected = lrp.relevance(y, x, rules=rules)[0]
    seen: list[Tensor] = []
    table = lrp.preset(rules)

    def nosy(op: Any) -> bool:
        if len(seen) < 3:
            seen.append(lrp.relevance(y, x, rules=rules)[0])
        return False

    rules_with = table.where(nosy, lrp.override(norm=lrp.Epsilon()))
    found = lrp.relevance(y, x, rules=rules_with)[0]
    assert torch.equal(found, expected)
    assert len(seen) == 3 and all(torch.equal(s, expected) for s in seen)


def test_one_half_saved_by_a_consumer_and_the_other_made() -> None:
    """Outputs of one node come from different sources: the second is not there because the first is."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    a, b = (x * 2.0).chunk(2, -1)
    run = lrp.propagate(a * b.sigmoid(), x, ledger=True)  # the product keeps a, nothing keeps b
    assert run.ledger is not None and run.ledger.closed, run.ledger
