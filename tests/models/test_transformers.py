"""The models of the field, small: what must hold of every map, whoever wrote the model.

Each property is asked of every model it makes sense for, or of a few where that says as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .zoo import ARCHITECTURES, LENGTH, TARGETS, Inputs

NAMES = list(ARCHITECTURES)
TEXT = [name for name, a in ARCHITECTURES.items() if a.ids]
PRESETS = ["default", "dynamiclrp"]
FUSED = "ScaledDotProductFlashAttentionForCpuBackward0"
FUSED_BY_DEFAULT = {
    "albert", "bart", "bert", "clip", "conformer-rotary", "detr", "dinov2", "distilbert", "electra",
    "gemma3", "gpt-neox", "gpt2", "hubert", "llama", "mixtral", "modernbert", "nn.Transformer", "olmoe",
    "phi3", "pix2struct", "qwen2", "qwen3", "qwen3-moe", "segformer", "siglip", "t5", "unet", "vit",
    "wav2vec2", "wav2vec2-stable", "whisper",
}  # fmt: skip
every_model = pytest.mark.parametrize("name", NAMES)


def some(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names)


@cache
def model_of(name: str, frozen: bool = False, dtype: torch.dtype = torch.float32) -> nn.Module:
    return ARCHITECTURES[name].model(frozen, dtype)


@pytest.fixture(scope="module", autouse=True)
def models_of_this_module_only() -> Iterator[None]:
    yield
    model_of.cache_clear()


def explained(
    name: str, model: nn.Module, inputs: Inputs, rules: str = "default", of: list[Tensor] | None = None
) -> lrp.Run:
    """A run on what the model explains (or on ``of``), its books checked."""
    a = ARCHITECTURES[name]
    with lrp.record() as kept:
        y = a.output(model, inputs)
    run = lrp.propagate(y, of or a.of(inputs), rules=rules, ledger=True)
    kept.clear()
    assert run.ledger is not None and run.ledger.closed, run.ledger
    return run


def relevance(name: str, model: nn.Module, inputs: Inputs, rules: str = "default") -> tuple[Tensor, ...]:
    a = ARCHITECTURES[name]
    with lrp.record() as kept:
        y = a.output(model, inputs)
    made = lrp.relevance(y, a.of(inputs), rules=rules)
    kept.clear()
    return made


def same(got: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 1e-4) -> None:
    """Equal up to rounding, measured by the largest entry: entries that cancel have no digits left."""
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        largest = float(b.abs().max())
        assert largest > 0, "nothing to compare"
        assert float((a.double() - b.double()).abs().max()) <= tolerance * largest


def nodes_of(name: str, model: nn.Module) -> set[str]:
    """Node types between the explained output and the inputs."""
    a = ARCHITECTURES[name]
    inputs = a.inputs()
    return set(lrp.coverage(a.output(model, inputs), inputs=a.of(inputs)).covered)


# -- every model -------------------------------------------------------------------------------------


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


# -- one computation, several spellings --------------------------------------------------------------


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


def with_dropout(model: nn.Module, p: float) -> nn.Module:
    """The model with that chance to drop a value, however its modules name it; no layer is dropped."""
    for module in model.modules():
        for field in ("p", "dropout", "attention_dropout", "dropout_rate"):
            if isinstance(getattr(module, field, None), float):
                setattr(module, field, p)
        if isinstance(getattr(module, "layerdrop", None), float):
            module.layerdrop = 0.0
    return model


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


# -- padding, chance, both sides ---------------------------------------------------------------------


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
