"""Small models of the field with random weights: how each is built and called, what of it is explained.

An entry is an architecture as its authors spell it (transformers) or as torch brings it. Sizes are small;
nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from .unet import UNet

LENGTH, TARGETS, VOCABULARY, WIDTH = 7, 5, 60, 32
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """``build()``: the model. ``sample(n)``: a batch of n of what it is called with.

    ``explained``: names of the float tensors of the call that are explained. ``read``: the model's output
    -> the tensor to explain, a row per sample. ``ids``: the argument that takes token ids instead of
    the first of ``explained``.
    """

    build: Callable[[], nn.Module]
    sample: Callable[[int], Inputs]
    explained: tuple[str, ...]
    read: Callable[[Any], Tensor]
    ids: str | None = None

    def model(self, frozen: bool = False, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The model in evaluation mode, with the same weights each time."""
        torch.manual_seed(0)
        made = self.build().eval()
        torch.manual_seed(1)
        for p in made.parameters():
            p.data += 0.2 * torch.randn_like(p)  # fresh biases are 0, attention is even, norms do nothing
        return made.to(dtype).requires_grad_(not frozen)

    def inputs(self, n: int = 2, dtype: torch.dtype = torch.float32) -> Inputs:
        """A batch of n; what is explained requires grad. Sample k is the same for every n."""
        made = []
        for k in range(n):
            torch.manual_seed(2 + k)
            made.append(self.sample(1))
        batch = {name: torch.cat([one[name] for one in made]) for name in made[0]}
        for name in self.explained:
            batch[name] = batch[name].to(dtype).requires_grad_()
        return batch

    def of(self, inputs: Inputs) -> list[Tensor]:
        """The explained ones of ``inputs``."""
        return [inputs[name] for name in self.explained]

    def output(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """What is explained, a row per sample."""
        return self.read(model(**inputs))


def last(out: Any) -> Tensor:
    """Logit 3 of each sample, at the last position if there are several."""
    logits = out[0] if isinstance(out, tuple) else out if isinstance(out, Tensor) else out.logits
    return logits[:, 3] if logits.dim() == 2 else logits[:, -1, 3]


def transformer(
    cls: str, config: Any, sample: Callable[[int], Inputs], *explained: str, read: Any = last, ids: Any = None
) -> Architecture:
    """A model of transformers by its class name; ``config``: sizes, or a ready configuration."""

    def build() -> nn.Module:
        kind = getattr(hf, cls)
        return kind(kind.config_class(**config) if isinstance(config, dict) else config())

    return Architecture(build, sample, explained, read, ids)


def text(cls: str, **config: Any) -> Architecture:
    """A model of text, explained in what its token embeddings give."""
    sample = lambda n: {"inputs_embeds": torch.randn(n, LENGTH, WIDTH)}  # noqa: E731
    return transformer(cls, config, sample, "inputs_embeds", ids="input_ids")


def both_sides(n: int) -> Inputs:
    """Embeddings of source and target."""
    return {
        "inputs_embeds": torch.randn(n, LENGTH, WIDTH),
        "decoder_inputs_embeds": torch.randn(n, TARGETS, WIDTH),
    }


def image(size: int) -> Callable[[int], Inputs]:
    return lambda n: {"pixel_values": torch.randn(n, 3, size, size)}


def sound(n: int) -> Inputs:
    return {"input_values": torch.randn(n, 400)}


def captioned(n: int) -> Inputs:
    """An image and a text to match."""
    return {**image(16)(n), "input_ids": torch.arange(3, 3 + LENGTH).repeat(n, 1)}


def patches(n: int) -> Inputs:
    """Nine patches, each behind its row and column, and a target's embeddings."""
    places = torch.cartesian_prod(torch.arange(1.0, 4), torch.arange(1.0, 4))
    flat = torch.cat([places.repeat(n, 1, 1), torch.randn(n, 9, 12)], -1)
    return {"flattened_patches": flat, "decoder_inputs_embeds": torch.randn(n, TARGETS, WIDTH)}


def matched(out: Any) -> Tensor:
    """Each image with the text of its own row."""
    return out.logits_per_image.diagonal()


TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BLOCKS = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DENSE = {**TOKENS, **BLOCKS, "max_position_embeddings": 32}
ENCODER = {**DENSE, "num_labels": 5}
GROUPED = {**DENSE, "num_key_value_heads": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
SEEN = {**BLOCKS, "image_size": 16, "patch_size": 4, "num_labels": 5}
STACKS = {
    **TOKENS, "d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
}  # fmt: skip
WAVES = {
    **TOKENS, **BLOCKS, "conv_dim": [16, 16], "conv_stride": [5, 4], "conv_kernel": [10, 4],
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def _detr() -> Any:
    stem = hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    sizes = {k: v for k, v in STACKS.items() if k not in TOKENS}
    return hf.DetrConfig(backbone_config=stem, num_queries=3, num_labels=4, **sizes)


def _pair(config: Any) -> Callable[[], Any]:
    return lambda: config(text_config=dict(DENSE), vision_config=dict(SEEN))


def _transformer() -> nn.Module:
    class Translator(nn.Module):
        """nn.Transformer as it comes, target masked; in float32 its fast path stays off: it is tracked."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Transformer(WIDTH, 4, 2, 2, 48, batch_first=True)
            self.head = nn.Linear(WIDTH, 5)

        def forward(self, inputs_embeds: Tensor, decoder_inputs_embeds: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(
                decoder_inputs_embeds.shape[1], dtype=decoder_inputs_embeds.dtype
            )
            out: Tensor = self.head(self.body(inputs_embeds, decoder_inputs_embeds, tgt_mask=mask))
            return out

    return Translator()


ARCHITECTURES: dict[str, Architecture] = {
    # -- encoders of text ---------------------------------------------------------------------------
    "bert": text("BertForSequenceClassification", **ENCODER),
    "distilbert": text("DistilBertForSequenceClassification", **TOKENS, dim=WIDTH, n_layers=2, n_heads=4,
        hidden_dim=48, max_position_embeddings=32, num_labels=5),
    "albert": text("AlbertForSequenceClassification", **ENCODER, embedding_size=WIDTH),
    "electra": text("ElectraForSequenceClassification", **ENCODER, embedding_size=WIDTH),
    "deberta-v2": text("DebertaV2ForSequenceClassification", **ENCODER, relative_attention=True,
        position_buckets=4, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"],
        conv_kernel_size=3, position_biased_input=False),
    "modernbert": text("ModernBertForSequenceClassification", **ENCODER, local_attention=4,
        cls_token_id=1, sep_token_id=2),
    "xlnet": text("XLNetForSequenceClassification", **TOKENS, d_model=WIDTH, n_layer=2, n_head=4,
        d_inner=48, num_labels=5),
    # -- language models ----------------------------------------------------------------------------
    "gpt2": text("GPT2LMHeadModel", **TOKENS, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=32),
    "gpt-neox": text("GPTNeoXForCausalLM", **DENSE),
    "llama": text("LlamaForCausalLM", **GROUPED),
    "phi3": text("Phi3ForCausalLM", **GROUPED),
    "qwen2": text("Qwen2ForCausalLM", **GROUPED),
    "qwen3": text("Qwen3ForCausalLM", **GROUPED, head_dim=8),
    "gemma2": text("Gemma2ForCausalLM", **GROUPED, head_dim=8, sliding_window=4),
    "gemma3": text("Gemma3ForCausalLM", **GROUPED, head_dim=8, sliding_window=4),
    "mixtral": text("MixtralForCausalLM", **GROUPED, num_local_experts=4),
    "qwen3-moe": text("Qwen3MoeForCausalLM", **GROUPED, **EXPERTS, head_dim=8, moe_intermediate_size=16,
        norm_topk_prob=True),
    "olmoe": text("OlmoeForCausalLM", **GROUPED, **EXPERTS),
    "gpt-oss": text("GptOssForCausalLM", **GROUPED, head_dim=8, num_local_experts=4, num_experts_per_tok=2,
        sliding_window=4, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
    "bloom": text("BloomForCausalLM", **TOKENS, hidden_size=WIDTH, n_layer=2, n_head=4),
    # -- encoder and decoder ------------------------------------------------------------------------
    "t5": transformer("T5ForConditionalGeneration", dict(**TOKENS, d_model=WIDTH, d_kv=8, d_ff=48,
        num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"), both_sides,
        "inputs_embeds", "decoder_inputs_embeds"),
    "bart": transformer("BartForConditionalGeneration", dict(**STACKS, max_position_embeddings=32),
        both_sides, "inputs_embeds", "decoder_inputs_embeds"),
    "whisper": transformer("WhisperForConditionalGeneration", dict(**STACKS, num_mel_bins=8,
        max_source_positions=10, max_target_positions=16, decoder_start_token_id=1),
        lambda n: {"input_features": torch.randn(n, 8, 20), "decoder_inputs_embeds": both_sides(n)
            ["decoder_inputs_embeds"]}, "input_features", "decoder_inputs_embeds"),
    "pix2struct": transformer("Pix2StructForConditionalGeneration", dict(
        text_config=dict(vocab_size=VOCABULARY, hidden_size=WIDTH, d_kv=8, d_ff=48, num_layers=2,
            num_heads=4),
        vision_config=dict(BLOCKS, patch_embed_hidden_size=12, d_ff=48, d_kv=8, seq_len=16)), patches,
        "flattened_patches", "decoder_inputs_embeds"),
    "nn.Transformer": Architecture(_transformer, both_sides, ("inputs_embeds", "decoder_inputs_embeds"),
        last),
    # -- sound --------------------------------------------------------------------------------------
    "wav2vec2": transformer("Wav2Vec2ForCTC", WAVES, sound, "input_values"),
    "wav2vec2-stable": transformer("Wav2Vec2ForCTC", dict(WAVES, do_stable_layer_norm=True,
        feat_extract_norm="layer"), sound, "input_values"),
    "hubert": transformer("HubertForCTC", WAVES, sound, "input_values"),
    "conformer": transformer("Wav2Vec2ConformerForCTC", dict(WAVES, conv_depthwise_kernel_size=3), sound,
        "input_values"),
    "conformer-rotary": transformer("Wav2Vec2ConformerForCTC", dict(WAVES, conv_depthwise_kernel_size=3,
        position_embeddings_type="rotary"), sound, "input_values"),
    # -- images -------------------------------------------------------------------------------------
    "vit": transformer("ViTForImageClassification", SEEN, image(16), "pixel_values"),
    "dinov2": transformer("Dinov2ForImageClassification", SEEN, image(16), "pixel_values"),
    "swin": transformer("SwinForImageClassification", dict(image_size=16, patch_size=2, embed_dim=16,
        depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5), image(16), "pixel_values"),
    "convnext": transformer("ConvNextForImageClassification", dict(hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1], num_labels=5), image(32), "pixel_values"),
    "segformer": transformer("SegformerForSemanticSegmentation", dict(hidden_sizes=[8, 16], depths=[1, 1],
        num_encoder_blocks=2, sr_ratios=[2, 1], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=5), image(32),
        "pixel_values", read=lambda out: out.logits[:, 3, 2, 2]),
    "detr": transformer("DetrForObjectDetection", _detr, image(32), "pixel_values"),
    "clip": transformer("CLIPModel", _pair(hf.CLIPConfig), captioned, "pixel_values", read=matched),
    "siglip": transformer("SiglipModel", _pair(hf.SiglipConfig), captioned, "pixel_values", read=matched),
    "unet": Architecture(UNet, lambda n: {"x": torch.randn(n, 3, 8, 8), "steps": torch.full((n,), 7),
        "context": torch.randn(n, 4, 6)}, ("x", "context"), lambda out: out[:, 1, 2, 3]),
}  # fmt: skip
