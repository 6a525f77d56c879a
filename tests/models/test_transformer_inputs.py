"""The models of the field, small: padding, dropout, and inputs of both sides."""

from __future__ import annotations

import pytest
import torch

from .explained import (
    PRESETS,
    explained,
    forgotten_models,
    model_of,
    relevance,
    same,
    some,
    with_dropout,
)
from .zoo import ARCHITECTURES, LENGTH

models_of_this_module_only = pytest.fixture(scope="module", autouse=True)(forgotten_models)


@some("bert", "distilbert", "electra", "albert", "deberta-v2", "modernbert")
@pytest.mark.parametrize("rules", PRESETS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_takes_nothing(name: str, rules: str, attention: str) -> None:
    """In an encoder padded places get 0, and the rest is the map of the text without them."""
    a = ARCHITECTURES[name]
    model = a.model()
    model.set_attn_implementation(attention)
    x = a.inputs(2)["inputs_embeds"].detach()
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, 4:] = 0
    padded = {"inputs_embeds": x.clone().requires_grad_(), "attention_mask": mask}
    (got,) = relevance(name, model, padded, rules)
    assert not got[1, 4:].any() and bool(got[1, :4].any())
    short = {"inputs_embeds": x[1:, :4].clone().requires_grad_()}
    same((got[1:, :4],), relevance(name, model, short, rules))


@some("t5", "bart")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_of_a_source_takes_nothing(name: str, attention: str) -> None:
    """Self-attention of the encoder and cross-attention of the decoder leave padded places out."""
    a = ARCHITECTURES[name]
    model = a.model()
    model.set_attn_implementation(attention)
    padded = a.inputs(2)
    padded["attention_mask"] = torch.ones(2, LENGTH, dtype=torch.long)
    padded["attention_mask"][1, 4:] = 0
    source, target = relevance(name, model, padded)
    assert not source[1, 4:].any()
    short = {key: t.detach()[1:] for key, t in a.inputs(2).items()}
    short["inputs_embeds"] = short["inputs_embeds"][:, :4]
    for key in a.explained:
        short[key] = short[key].clone().requires_grad_()
    same((source[1:, :4], target[1:]), relevance(name, model, short))


@some("gpt2", "llama", "gemma3", "mixtral", "gpt-oss")
@pytest.mark.parametrize("rules", PRESETS)
def test_padding_on_the_left_takes_nothing(name: str, rules: str) -> None:
    a, model = ARCHITECTURES[name], model_of(name)
    x = a.inputs(2)["inputs_embeds"].detach()
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, :3] = 0
    places = (mask.cumsum(1) - 1).clamp(min=0)
    padded = {"inputs_embeds": x.clone().requires_grad_(), "attention_mask": mask, "position_ids": places}
    (got,) = relevance(name, model, padded, rules)
    assert not got[1, :3].any()
    short = {"inputs_embeds": x[1:, 3:].clone().requires_grad_()}
    same((got[1:, 3:],), relevance(name, model, short, rules))


@some("bert", "gpt2", "llama", "t5", "vit", "nn.Transformer")
@pytest.mark.parametrize("rules", PRESETS)
def test_dropout_of_attention_weights(name: str, rules: str) -> None:
    """In training mode what is dropped is a constant mask: the books balance, frozen or not."""
    inputs, maps = ARCHITECTURES[name].inputs(), []
    for frozen in (False, True):
        model = with_dropout(ARCHITECTURES[name].model(frozen).train(), 0.2)
        torch.manual_seed(5)
        maps.append(explained(name, model, inputs, rules).relevance)
    same(maps[1], maps[0])
    evaluated = relevance(name, model_of(name), inputs, rules)
    assert not any(torch.allclose(a, b, rtol=0.1) for a, b in zip(maps[0], evaluated))


@some("t5", "bart", "whisper", "pix2struct", "nn.Transformer", "unet")
def test_one_side_alone_takes_what_the_other_would_share(name: str) -> None:
    """Naming one side holds the other constant: its share then goes to the side named, or is absorbed."""
    model, inputs = model_of(name), ARCHITECTURES[name].inputs()
    both = explained(name, model, inputs).relevance
    for x, shared in zip(ARCHITECTURES[name].of(inputs), both, strict=True):
        (alone,) = explained(name, model, inputs, of=[x]).relevance
        assert bool(alone.any()) and not torch.allclose(alone, shared, rtol=1e-3)
