"""Errors are read: they name the node or argument, the path, the cause and the cure.

Here those of outputs, graphs, seeds and inputs; of rules and packs in the files beside.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core import errors
from torch import nn

from tests.core.messages import contains
from tests.tensors import leaf_of

pytestmark = pytest.mark.usefixtures("forget_recordings")


def test_every_class_is_public_documented_and_tested_here() -> None:
    source = "".join(file.read_text() for file in Path(__file__).parent.glob("test_errors*.py"))
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


# -- empty tensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["default", "epsilon", "gamma", "epsilon-plus", "dynamiclrp"])
def test_empty_tensors_work(rules: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).double()
    x = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    run = lrp.propagate(net(x)[:, 0], x, rules=rules, ledger=True)
    assert run.relevance[0].shape == (0, 3)
    assert "relevance ledger" in str(run.ledger)
