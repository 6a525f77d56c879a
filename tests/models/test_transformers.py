"""The models of the field, small: what must hold of every map, whoever wrote the model.

Each property is asked of every model it makes sense for, or of a few where that says as much.
"""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F

from .explained import (
    FUSED,
    FUSED_BY_DEFAULT,
    PRESETS,
    every_model,
    explained,
    forgotten_models,
    model_of,
    relevance,
    same,
)
from .zoo import ARCHITECTURES

models_of_this_module_only = pytest.fixture(scope="module", autouse=True)(forgotten_models)


@pytest.mark.parametrize("rules", PRESETS)
@every_model
def test_every_node_has_a_rule_and_the_ledger_closes(name: str, rules: str) -> None:
    a = ARCHITECTURES[name]
    model, inputs = model_of(name), a.inputs()
    y = a.output(model, inputs)
    found = lrp.coverage(y, rules, a.of(inputs))
    assert found.missing == {}
    assert (FUSED in found.covered) == (name in FUSED_BY_DEFAULT)
    for r, x in zip(explained(name, model, inputs, rules).relevance, a.of(inputs), strict=True):
        assert r.shape == x.shape and bool(torch.isfinite(r).all())
        assert float(r.abs().sum()) > 1e-3 * float(y.detach().abs().sum())  # each side takes part


@pytest.mark.parametrize("rules", PRESETS)
@every_model
def test_frozen_weights_change_nothing(name: str, rules: str) -> None:
    inputs = ARCHITECTURES[name].inputs()
    models = [ARCHITECTURES[name].model(frozen) for frozen in (True, False)]
    if name in ("t5", "pix2struct", "swin") and rules == "dynamiclrp":
        # torch fuses attention with a bias only if that is frozen; a ratio rule sees the sum or does not.
        for model in models:
            model.set_attn_implementation("eager")
    frozen, trainable = (relevance(name, model, inputs, rules) for model in models)
    same(frozen, trainable)


@pytest.mark.parametrize("rules", PRESETS)
@every_model
def test_a_batch_is_its_samples(name: str, rules: str) -> None:
    a = ARCHITECTURES[name]
    model = model_of(name)
    whole = relevance(name, model, a.inputs(3), rules)
    for k in range(3):
        one = {key: t.detach()[k : k + 1] for key, t in a.inputs(3).items()}
        for key in a.explained:
            one[key].requires_grad_()
        # Ratios at sums near 0 have few digits in float32: 1e-13 in float64 is 1e-3 here.
        tolerance = 1e-3 if rules == "default" else 1e-2
        same(tuple(r[k : k + 1] for r in whole), relevance(name, model, one, rules), tolerance)


@every_model
def test_half_precision(name: str) -> None:
    a = ARCHITECTURES[name]
    inputs = a.inputs(dtype=torch.bfloat16)
    made = relevance(name, model_of(name, dtype=torch.bfloat16), inputs)
    expected = relevance(name, model_of(name), a.inputs())
    for r, e in zip(made, expected, strict=True):
        assert r.dtype == torch.bfloat16 and bool(torch.isfinite(r).all()) and bool(r.any())
        # DETR's sums cancel: its amplification is a hundred times that of the others.
        assert (
            name == "detr" or float(F.cosine_similarity(r.double().flatten(), e.double().flatten(), 0)) > 0.97
        )
