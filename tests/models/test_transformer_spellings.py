"""The models of the field, small: one computation, however it is spelled, run or fed, has one map."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .explained import (
    FUSED,
    FUSED_BY_DEFAULT,
    PRESETS,
    TEXT,
    explained,
    forgotten_models,
    model_of,
    nodes_of,
    relevance,
    same,
    some,
    with_dropout,
)
from .zoo import ARCHITECTURES, LENGTH, TARGETS

models_of_this_module_only = pytest.fixture(scope="module", autouse=True)(forgotten_models)


@some(*sorted(FUSED_BY_DEFAULT - {"nn.Transformer", "unet"}))
def test_eager_attention_is_fused_attention(name: str) -> None:
    model = ARCHITECTURES[name].model()
    inputs = ARCHITECTURES[name].inputs()
    fused = relevance(name, model, inputs)
    model.set_attn_implementation("eager")
    assert FUSED not in nodes_of(name, model)
    same(relevance(name, model, inputs), fused)


@some("nn.Transformer", "unet")
def test_the_math_kernel_is_the_fused_one(name: str) -> None:
    model, inputs = model_of(name), ARCHITECTURES[name].inputs()
    fused = relevance(name, model, inputs)
    with sdpa_kernel(SDPBackend.MATH):
        assert FUSED not in nodes_of(name, model)
        same(relevance(name, model, inputs), fused)


@some("mixtral", "qwen3-moe", "olmoe", "gpt-oss")
def test_experts_one_by_one_or_grouped(name: str) -> None:
    """Only for rules that do not see how a sum is grouped: one by one adds experts up in pairs."""
    model = ARCHITECTURES[name].model()
    inputs = ARCHITECTURES[name].inputs()
    maps, nodes = [], []
    for spelling in ("grouped_mm", "eager", "batched_mm"):
        model.set_experts_implementation(spelling)
        maps.append(relevance(name, model, inputs))
        nodes.append(nodes_of(name, model))
    assert ["GroupedMmBackward0" in n for n in nodes] == [True, False, False]
    same(maps[1], maps[0])
    same(maps[2], maps[0])


@pytest.mark.parametrize("name", TEXT)
def test_token_ids_are_explained_at_their_embeddings(name: str) -> None:
    """LRP(model, layer=embeddings) on ids gives the map of the embeddings themselves."""
    a, model = ARCHITECTURES[name], model_of(name)
    ids = torch.randint(3, 50, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    layer = model.get_input_embeddings()
    method = lrp.LRP(lambda tokens: model(input_ids=tokens), layer=layer)
    by_ids = method.attribute(ids, target=a.read)
    given = {"inputs_embeds": layer(ids).detach().requires_grad_()}
    if name == "xlnet":
        by_ids = by_ids.transpose(0, 1)  # it embeds with time first
    same((by_ids,), relevance(name, model, given))


@some("t5", "bart")
def test_token_ids_of_both_sides(name: str) -> None:
    """A list of layers: the embeddings of encoder and decoder, in order of use."""
    a, model = ARCHITECTURES[name], model_of(name)
    both = [model.get_encoder().embed_tokens, model.get_decoder().embed_tokens]
    generator = torch.Generator().manual_seed(0)
    ids, targets = (torch.randint(3, 50, (2, n), generator=generator) for n in (LENGTH, TARGETS))
    method = lrp.LRP(lambda i, d: model(input_ids=i, decoder_input_ids=d), layer=both)
    by_ids = method.attribute(ids, target=a.read, additional_forward_args=(targets,))
    embedded = [layer(t).detach().requires_grad_() for layer, t in zip(both, (ids, targets))]
    given = dict(zip(a.explained, embedded, strict=True))
    same(by_ids, relevance(name, model, given))


@some("bert", "gpt2", "llama", "qwen3-moe", "t5", "vit", "whisper")
@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("rules", PRESETS)
def test_checkpoints_change_nothing(name: str, reentrant: bool, rules: str) -> None:
    model = with_dropout(ARCHITECTURES[name].model().train(), 0.0)
    inputs = ARCHITECTURES[name].inputs()
    plain = relevance(name, model, inputs, rules)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    same(relevance(name, model, inputs, rules), plain)
    hidden = any(n.startswith("CheckpointFunction") or "Checkpoint" in n for n in nodes_of(name, model))
    assert hidden == reentrant


@some("bert", "gpt2", "llama", "gemma3", "mixtral", "t5", "vit", "whisper")
@pytest.mark.parametrize("rules", PRESETS)
def test_autocast(name: str, rules: str) -> None:
    inputs = ARCHITECTURES[name].inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = explained(name, model_of(name), inputs, rules)
    for r in run.relevance:
        assert r.dtype == torch.float32 and bool(torch.isfinite(r).all())
    if rules == "default":  # ratios of sums that cancel have no digits left in bfloat16
        same(run.relevance, relevance(name, model_of(name), inputs), tolerance=0.15)


@some("gpt2", "llama", "qwen3", "gemma2", "gemma3", "gpt-oss", "mixtral", "bloom")
def test_a_cache_of_keys_changes_nothing(name: str) -> None:
    """The last token read behind a cache of the others is the last token of the whole."""
    a, model = ARCHITECTURES[name], model_of(name)
    inputs = a.inputs()
    x = inputs["inputs_embeds"]
    whole = relevance(name, model, inputs)
    with lrp.record() as kept:
        first = model(inputs_embeds=x[:, :4], use_cache=True)
        y = a.read(model(inputs_embeds=x[:, 4:], past_key_values=first.past_key_values))
    same(lrp.relevance(y, x), whole)
    kept.clear()
