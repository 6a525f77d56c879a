"""Every error is read here: it names the node or argument, the path, the cause and the cure."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core import errors, plugins
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.registry import Registry
from pydantic import ValidationError
from torch import Tensor, nn


def leaf_of(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()


def message(info: Any) -> str:
    return str(info.value)


def contains(info: Any, *parts: str) -> None:
    for part in parts:
        assert part in message(info), f"{part!r} is not in:\n{message(info)}"


@pytest.fixture(autouse=True)
def forget_recordings() -> None:
    for _ in range(8):
        with lrp.record():
            pass


def test_every_class_is_public_documented_and_tested_here() -> None:
    source = Path(__file__).read_text()
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    assert len(classes) >= 14
    for c in classes:
        assert issubclass(c, lrp.DynamicLRPError) and c.__doc__
        assert getattr(lrp, c.__name__) is c and c.__name__ in lrp.__all__
        if c is not lrp.DynamicLRPError:
            assert f"pytest.raises(lrp.{c.__name__})" in source, f"no test reads {c.__name__}"


# -- outputs ---------------------------------------------------------------------------------------


def test_no_grad_fn() -> None:
    for y in (torch.ones(2, 3), leaf_of(2, 3).detach()):
        with pytest.raises(lrp.NoGraph) as info:
            lrp.relevance(y, leaf_of(2))
        contains(info, "output 0", "(2, 3)", "no grad_fn", "no_grad", "cure", "requires_grad_()")


def test_an_output_of_inference_mode() -> None:
    x = leaf_of(2)
    with torch.inference_mode():
        y = x * 2
    with pytest.raises(lrp.NoGraph) as info:
        lrp.relevance(y, x)
    contains(info, "inference mode", "cure")


def test_outputs_that_are_no_tensors_or_none_at_all() -> None:
    x = leaf_of(2)
    with pytest.raises(lrp.NoGraph) as info:
        lrp.relevance([{"logits": x}], x)
    contains(info, "output 0", "dict", "logits")
    with pytest.raises(lrp.NoGraph) as info:
        lrp.relevance((), x)
    contains(info, "empty")


def test_an_output_that_is_a_model_output_object() -> None:
    class ModelOutput(dict):  # as of transformers: a mapping that iterates over names
        pass

    x = leaf_of(2)
    with pytest.raises(lrp.NoGraph) as info:
        lrp.relevance(ModelOutput(logits=x * 2), x)
    contains(info, "logits")


def test_an_output_that_cannot_be_iterated() -> None:
    x = leaf_of(2)
    with pytest.raises(lrp.NoGraph) as info:
        lrp.relevance(3.0, x)  # type: ignore[arg-type]
    contains(info, "float")


# -- the graph -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"])
def test_a_freed_graph(rules: str) -> None:
    x = leaf_of(2, 3)
    layer = nn.Linear(3, 2, dtype=torch.float64)
    y = layer(x).tanh()[:, 0].sum()
    y.backward()
    with pytest.raises(lrp.FreedGraph) as info:
        lrp.relevance(y, x, rules=rules)
    contains(info, "freed by an earlier backward", "retain_graph=True", "Backward0")


def test_a_freed_graph_of_a_checkpoint_and_a_custom_node() -> None:
    from torch.utils.checkpoint import checkpoint

    x = leaf_of(2, 3)
    y = checkpoint(lambda t: t.tanh(), x, use_reentrant=True).sum()
    y.backward()
    with pytest.raises(lrp.FreedGraph) as info:
        lrp.relevance(y, x)
    contains(info, "CheckpointFunction", "retain_graph=True")


def test_a_freed_slice_write() -> None:
    x = leaf_of(2, 3)
    base = x * 1.0
    base[0] = x[1] * 2
    y = base.sum()
    y.backward()
    with pytest.raises(lrp.FreedGraph) as info:
        lrp.relevance(y, x)
    contains(info, "retain_graph=True")


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "dynamiclrp"])
def test_a_saved_tensor_changed_in_place(rules: str) -> None:
    x = leaf_of(2, 3)
    layer = nn.Linear(3, 2, dtype=torch.float64)
    y = layer(x)[:, 0].sum()
    with torch.no_grad():
        layer.weight.add_(1.0)  # an optimizer step
    with pytest.raises(lrp.ModifiedInPlace) as info:
        lrp.relevance(y, x, rules=rules)
    contains(info, "changed in place after the forward", "cure", "(2, 2)")


def test_a_leaf_changed_between_the_forward_and_a_value_rule() -> None:
    x = leaf_of(4)
    p = nn.Parameter(torch.ones(4, dtype=torch.float64))
    with lrp.record():
        y = -(x * 1.0 + p)
    optimizer = torch.optim.SGD([p], lr=0.5)
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(lrp.ModifiedInPlace) as info:
        lrp.relevance(y, x, rules="dynamiclrp")
    contains(info, "(4,)", "changed in place after the forward", "forward again")
    lrp.relevance(y, x)  # default asks for no value: still right, still works


def test_a_compiled_graph() -> None:
    x = leaf_of(2, 3)
    layer = nn.Linear(3, 2, dtype=torch.float64)
    compiled = torch.compile(lambda t: layer(t).relu(), backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = compiled(x)[:, 0].sum()
    with pytest.raises(lrp.CompiledGraph) as info:
        lrp.relevance(y, x)
    contains(info, "CompiledFunction", "compiled into one node", "_orig_mod")


# -- seeds -----------------------------------------------------------------------------------------


def test_seeds_that_do_not_fit() -> None:
    x = leaf_of(2, 3)
    y = x * 2
    with pytest.raises(lrp.InvalidSeed) as info:
        lrp.relevance(y, x, torch.ones(3, 2))
    contains(info, "output_relevance[0]", "shape", "(3, 2)", "(2, 3)")
    with pytest.raises(lrp.InvalidSeed) as info:
        lrp.relevance(y, x, torch.ones(2, 3, dtype=torch.long))
    contains(info, "output_relevance[0]", "torch.int64", "floating point")
    with pytest.raises(lrp.InvalidSeed) as info:
        lrp.relevance(y, x, torch.ones(2, 3, dtype=torch.bool))
    contains(info, "torch.bool")
    with pytest.raises(lrp.InvalidSeed) as info:
        lrp.relevance(y, x, torch.ones(2, 3, device="meta"))
    contains(info, "device", "meta", "cpu")
    with pytest.raises(lrp.InvalidSeed) as info:
        lrp.relevance((y, y), x, (torch.ones(2, 3),))
    contains(info, "1 seeds for 2 outputs")
    with pytest.raises(lrp.InvalidSeed) as info:
        lrp.relevance((y, y), x, torch.ones(2, 3))
    contains(info, "1 seeds for 2 outputs", "one each")
    for wrong in (1.0, (1.0,), ("y",)):
        with pytest.raises(lrp.InvalidSeed) as info:
            lrp.relevance(y, x, wrong)  # type: ignore[arg-type]
        contains(info, type(wrong[0] if isinstance(wrong, tuple) else wrong).__name__, "tensor")


# -- inputs ----------------------------------------------------------------------------------------


def test_inputs_that_cannot_be_explained() -> None:
    x = leaf_of(2, 3)
    layer = nn.Linear(3, 2, dtype=torch.float64)
    y = layer(x).sum()
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.relevance(y, torch.tensor([1, 2]))
    contains(info, "inputs[0]", "torch.int64", "get_input_embeddings", "cure")
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.relevance(y, ())
    contains(info, "inputs is empty")
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.relevance(y, (x, layer.weight))
    contains(info, "inputs[1]", "Parameter", "(2, 3)", "at=[parameter]")
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.relevance(y, (x, "x"))  # type: ignore[arg-type]
    contains(info, "inputs[1]", "str")
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.relevance(y, torch.ones(2, 3))
    contains(info, "does not require grad", "requires_grad_()")
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.propagate(y, x, at=(torch.tensor([1]),))
    contains(info, "at[0]", "torch.int64")
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.relevance(y, 3)  # type: ignore[arg-type]
    contains(info, "int")


def test_inputs_none_without_a_candidate_lists_what_there_is() -> None:
    layer = nn.Linear(3, 2)
    y = layer(torch.ones(1, 3)).sum()
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.propagate(y)
    contains(info, "inputs=None", "(2, 3)", "(2,)", "requires_grad_()")
    table = nn.Embedding(5, 3), nn.Embedding(7, 3)
    y = table[0](torch.tensor([1, 2])).sum() + table[1](torch.tensor([[3]])).sum()
    with pytest.raises(lrp.InvalidInput) as info:
        lrp.propagate(y)
    contains(info, "embedding output", "(2, 3)", "(1, 1, 3)", "LRP(model, layer=")


def test_an_unreachable_input() -> None:
    x, z = leaf_of(3), leaf_of(2, 2)
    with pytest.raises(lrp.UnreachableInput) as info:
        lrp.relevance(x.sum(), (x, z))
    contains(info, "inputs[1]", "(2, 2)", "AccumulateGrad", "allow_unused=True", "cure")


def test_an_input_replaced_before_use_is_unreachable() -> None:
    x = leaf_of(3)
    z = x.detach().requires_grad_()
    with pytest.raises(lrp.UnreachableInput) as info:
        lrp.relevance(z.sum(), x)
    contains(info, "detached or replaced")


# -- rules -----------------------------------------------------------------------------------------


class Unknown(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        return x * 2

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        raise AssertionError("never run unasked")


def test_a_missing_rule() -> None:
    x = leaf_of(3, 4)
    y = (Unknown.apply(x.tanh()) * 2).sum()
    with pytest.raises(lrp.MissingRule) as info:
        lrp.relevance(y, x)
    contains(
        info, f"{__name__}.Unknown: no rule", "(3, 4)", "SumBackward0 -> MulBackward0 ->",
        "packs loaded", "rows)", "elementwise(", "forward=", 'on_missing="pass"',
    )  # fmt: skip


def test_no_matcher_of_the_row_holds() -> None:
    from dynamiclrp_core.rule import Row

    x = leaf_of(3)
    row = Row(node="NegBackward0", family="mine", cases=((lambda op: None, lrp.Epsilon()),))
    with pytest.raises(lrp.MissingRule) as info:
        lrp.relevance(-x, x, rules=lrp.Rules.of(row))
    contains(info, "NegBackward0", "none of the matchers")


def test_an_unrecoverable_value() -> None:
    x = leaf_of(3)
    y = -(x.tanh() + 2.0)
    with pytest.raises(lrp.Unrecoverable) as info:
        lrp.relevance(y, x, rules="dynamiclrp")
    contains(info, "AddBackward0", "'other'", "does not keep", "NegBackward0 -> AddBackward0", "record()")


def test_a_node_without_forward_names_the_row_to_complete() -> None:
    x = leaf_of(3)
    y = -(Unknown.apply(x) + x)
    rules = lrp.preset("dynamiclrp") | lrp.Rules.of(elementwise(f"{__name__}.Unknown"))
    with pytest.raises(lrp.Unrecoverable) as info:
        lrp.relevance(y, x, rules=rules)
    contains(info, "AddBackward0 needs the output of", "Unknown", "cure", "`forward`")


def test_nan_or_inf_names_the_first_node() -> None:
    x = leaf_of(3)
    y = ((x * float("inf")) * 2.0).tanh().sum()
    y = (x * 3.0 * float("inf")).sum() + x.sum()
    with pytest.raises(lrp.NonFinite) as info:
        lrp.relevance(y, x)
    contains(info, "MulBackward0 is the first node", "operand 0 (self)", "reached through", "cure")


def test_a_division_by_zero_is_named() -> None:
    x = leaf_of(3)
    y = (x.tanh() / torch.zeros(3, dtype=torch.float64)).sum()
    with pytest.raises(lrp.NonFinite) as info:
        lrp.relevance(y, x)
    contains(info, "DivBackward0")


def test_a_seed_that_is_not_finite() -> None:
    x = leaf_of(3)
    with pytest.raises(lrp.NonFinite) as info:
        lrp.relevance(x, x, torch.full((3,), float("nan"), dtype=torch.float64))
    contains(info, "the seed or the forward value")


class Short(lrp.Rule):
    def coefficient(self, op: Any, *c: Any) -> Any:
        return [c[0]]


class Raises(lrp.Rule):
    def coefficient(self, op: Any, *c: Any) -> Any:
        raise RuntimeError("mine")


class Misshapen(lrp.Rule):
    def coefficient(self, op: Any, *c: Any) -> Any:
        return [torch.ones(5, 7, dtype=torch.float64), None]


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (Short(), ("Short", "returned 1 entries", "AddBackward0", "2 operands")),
        (Raises(), ("AddBackward0", "failed: mine", "reached through")),
        (Misshapen(), ("AddBackward0",)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_bad_rule(rule: lrp.Rule, parts: tuple[str, ...]) -> None:
    x = leaf_of(3)
    with pytest.raises(lrp.BadRule) as info:
        lrp.relevance(x + x.tanh(), x, rules=lrp.load_rules() | lrp.override(AddBackward0=rule))
    contains(info, *parts)


def test_an_override_that_is_no_rule_and_a_row_with_unknown_facts() -> None:
    with pytest.raises(lrp.BadRule) as info:
        lrp.override(affine=3)  # type: ignore[arg-type]
    contains(info, "affine", "int")
    with pytest.raises(lrp.BadRule) as info:
        elementwise("XBackward0", slop=1)
    contains(info, "XBackward0", "slop")


@pytest.mark.parametrize("value", [[1], [[1]], {"a": 1}, {1}])
def test_a_parameter_of_a_preset_that_does_not_fit_is_named(value: object) -> None:
    """Lists and dicts cannot be kept in a cache; the error is still the rule's own."""
    with pytest.raises(ValidationError, match="gamma"):
        lrp.preset("gamma", gamma=value)


def test_bounds_of_a_preset_in_a_list() -> None:
    made = [lrp.preset("epsilon-gamma-box", low=low, high=[1.0, 2.0]) for low in ([0.0, 0.0], (0.0, 0.0))]
    assert made[0].overrides[-1].rule == made[1].overrides[-1].rule == lrp.ZBox(low=(0, 0), high=(1, 2))


def test_a_preset_that_needs_parameters_names_them() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(lrp.DynamicLRPError, match=r"without high: lrp.preset.*high=\.\.\."):
        lrp.preset("epsilon-gamma-box", low=0.0)
    with pytest.raises(lrp.DynamicLRPError, match="cannot do without low, high"):
        lrp.relevance(x * 2, x, rules="epsilon-gamma-box")


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(lrp.DynamicLRPError) as info:
        lrp.relevance(leaf_of(2) * 2, rules="epsilom")
    contains(info, "epsilom", "epsilon", "dynamiclrp", "default")


# -- packs -----------------------------------------------------------------------------------------


def test_duplicate_rules() -> None:
    row = elementwise("SinBackward0")
    with pytest.raises(lrp.DuplicateRule) as info:
        lrp.Rules.of(row, row)
    contains(info, "SinBackward0")
    with pytest.raises(lrp.DuplicateRule) as info:
        lrp.Rules.joined({"one 1.0": [row], "two 2.1": [row]})
    contains(info, "SinBackward0", "one 1.0", "two 2.1", "DYNAMICLRP_PACKS")


class Pack:
    DYNAMICLRP_PACK_API = 1


@pytest.fixture
def packs(dynamiclrp_packs: Registry) -> Any:
    """``packs((name, module), ...)``: these are installed, and no others."""

    def install(*given: tuple[str, Any]) -> None:
        dynamiclrp_packs.only(*(name for name, _ in given))
        for name, module in given:
            dynamiclrp_packs.add_module(name, module, "9.9")

    return install


def test_a_pack_that_does_not_import(packs: Any) -> None:
    packs(("sad", ImportError("no module named sorrow")))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "sad 9.9", "no module named sorrow", "cure", "DYNAMICLRP_PACKS")


def test_a_pack_for_another_api(packs: Any) -> None:
    class Old:
        DYNAMICLRP_PACK_API = 0

    packs(("old", Old))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "old 9.9", "pack API 0", "has 1")


def test_a_pack_whose_hook_fails_or_gives_nonsense(packs: Any) -> None:
    class Fails(Pack):
        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_rules() -> Any:
            raise ValueError("oh no")

    packs(("fails", Fails))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "fails 9.9", "dynamiclrp_rules()", "oh no")

    class Nonsense(Pack):
        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_rules() -> Any:
            return ["SinBackward0"]

    packs(("nonsense", Nonsense))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "nonsense 9.9", "SinBackward0", "not a Row")


def test_two_packs_with_one_node_or_one_preset(packs: Any) -> None:
    class Rows(Pack):
        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_rules() -> Any:
            return [elementwise("SinBackward0")]

        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_presets() -> Any:
            return {"mine": lambda: lrp.Rules()}

    class Same(Rows):
        pass

    packs(("a", Rows), ("b", Same))
    with pytest.raises(lrp.DuplicateRule) as info:
        lrp.load_rules()
    contains(info, "SinBackward0", "a 9.9", "b 9.9")
    with pytest.raises(lrp.BrokenPack) as info:
        plugins.presets()
    contains(info, "'mine'", "a 9.9", "b 9.9")


def test_packs_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules(packs=("nowhere",))
    contains(info, "nowhere", "not installed", "std")
    monkeypatch.setenv("DYNAMICLRP_PACKS", "std, elsewhere")
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "elsewhere")


# -- empty tensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"])
def test_empty_tensors_work(rules: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).double()
    x = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    run = lrp.propagate(net(x)[:, 0], x, rules=rules, ledger=True)
    assert run.relevance[0].shape == (0, 3)
    assert "relevance ledger" in str(run.ledger)
