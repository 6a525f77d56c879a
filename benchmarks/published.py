"""The models of the coverage table at their published size, random weights: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from models import efficientnet_v2_m, resnet50, vgg16
from torch import Tensor, nn

Call = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """``build()``: the model. ``call(model)``: one sample, what is explained requires grad.

    ``given`` says in words what it is called with, and what is explained; the explained scalar is the
    largest logit (of the last position). ``read``: output -> logits.
    """

    title: str
    given: str
    build: Callable[[], nn.Module]
    call: Callable[[nn.Module], Call]
    pairs: int = 6
    read: Callable[[Any], Tensor] = lambda out: out if isinstance(out, Tensor) else out.logits

    def make(self) -> tuple[nn.Module, Call]:
        """The model in evaluation mode, its weights trainable, and its input."""
        torch.manual_seed(0)
        model = self.build().eval()
        return model, self.call(model)

    def explained(self, model: nn.Module, call: Call) -> Tensor:
        """One scalar: the largest logit, of the last position where there are several."""
        logits = self.read(model(**call)) if set(call) != {"x"} else self.read(model(call["x"]))
        return logits.reshape(-1, logits.shape[-1])[-1].max()


def settled(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A CNN as after its first step: convolutions after He et al. 2015, batch norms that saw an image.

    As torch starts them the signal dies on the way, and all relevance stays in the last bias.
    """

    def built() -> nn.Module:
        model = build().train()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean of what was seen
        with torch.no_grad():
            model(torch.randn(1, 3, 224, 224))
        return model

    return built


def image(name: str, size: int) -> Callable[[nn.Module], Call]:
    return lambda model: {name: torch.randn(1, 3, size, size, requires_grad=True)}


def tokens(model: nn.Module, length: int, name: str = "inputs_embeds") -> Call:
    """Embeddings of random tokens, as the model's own layer gives them."""
    layer: Any = model.get_input_embeddings()  # type: ignore[operator]
    ids = torch.randint(5, layer.num_embeddings, (1, length))
    return {name: layer(ids).detach().requires_grad_()}


def text(length: int) -> Callable[[nn.Module], Call]:
    return lambda model: tokens(model, length)


def _flan(model: nn.Module) -> Call:
    return {**tokens(model, 64), **tokens(model, 8, "decoder_inputs_embeds")}


def _whisper(model: nn.Module) -> Call:
    sound = torch.randn(1, 80, 3000, requires_grad=True)
    return {"input_features": sound, "decoder_inputs_embeds": torch.randn(1, 8, 768, requires_grad=True)}


def _deplot(model: nn.Module) -> Call:
    rows, columns = 16, 24
    places = torch.cartesian_prod(torch.arange(1.0, rows + 1), torch.arange(1.0, columns + 1))
    patches = torch.cat([places, torch.randn(rows * columns, 768)], -1)[None]
    target = torch.randn(1, 8, 768, requires_grad=True)
    return {"flattened_patches": patches.requires_grad_(), "decoder_inputs_embeds": target}


def _captioned(model: nn.Module) -> Call:
    return {**image("pixel_values", 384)(model), "input_ids": torch.randint(5, 256000, (1, 64))}


def _siglip() -> nn.Module:
    tower = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    return hf.SiglipModel(hf.SiglipConfig(
        text_config={**tower, "vocab_size": 256000, "max_position_embeddings": 64},
        vision_config={**tower, "image_size": 384, "patch_size": 14}))  # fmt: skip


def _deplot_model() -> nn.Module:
    return hf.Pix2StructForConditionalGeneration(hf.Pix2StructConfig(
        text_config={"vocab_size": 50244, "hidden_size": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12,
            "num_heads": 12},
        vision_config={"hidden_size": 768, "patch_embed_hidden_size": 768, "d_ff": 2048, "d_kv": 64,
            "num_hidden_layers": 12, "num_attention_heads": 12, "seq_len": 4096}, is_vqa=True))  # fmt: skip


MODELS: dict[str, Published] = {
    "vgg16": Published("VGG16", "image 224²", settled(vgg16), image("x", 224)),
    "resnet50": Published("ResNet-50", "image 224²", settled(resnet50), image("x", 224)),
    "efficientnetv2-m": Published("EfficientNetV2-M", "image 224²", settled(efficientnet_v2_m),
        image("x", 224)),
    "vit-b16": Published("ViT-B/16", "image 224²",
        lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000)), image("pixel_values", 224)),
    "siglip2-so400m": Published("SigLIP-2 so400m patch14-384", "image 384² (explained), text of 64 tokens",
        _siglip, _captioned, read=lambda out: out.logits_per_image),
    "xls-r-300m": Published("Wav2Vec2 XLS-R 300m (CTC)", "1 s of sound", lambda: hf.Wav2Vec2ForCTC(
        hf.Wav2Vec2Config(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
            intermediate_size=4096, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)),
        lambda model: {"input_values": torch.randn(1, 16000, requires_grad=True)}),
    "whisper-small": Published("Whisper-small", "30 s of sound, 8 target embeddings",
        lambda: hf.WhisperForConditionalGeneration(hf.WhisperConfig(d_model=768, encoder_layers=12,
            decoder_layers=12, encoder_attention_heads=12, decoder_attention_heads=12,
            encoder_ffn_dim=3072, decoder_ffn_dim=3072)), _whisper),
    "gpt2": Published("GPT-2 124M", "128 tokens", lambda: hf.GPT2LMHeadModel(hf.GPT2Config()), text(128)),
    "roberta-large": Published("RoBERTa-large (classifier)", "128 tokens",
        lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(vocab_size=50265, hidden_size=1024,
            num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
            max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)), text(128)),
    "llama-3.2-1b": Published("Llama-3.2-1B", "64 tokens", lambda: hf.LlamaForCausalLM(hf.LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
        num_attention_heads=32, num_key_value_heads=8, head_dim=64, max_position_embeddings=131072,
        rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters={"rope_type": "llama3",
            "rope_theta": 5e5, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192})), text(64)),
    "gemma-3-270m": Published("Gemma-3-270m", "128 tokens", lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18,
        num_attention_heads=4, num_key_value_heads=1, head_dim=256, sliding_window=512,
        max_position_embeddings=32768, query_pre_attn_scalar=256)), text(128)),
    "qwen3-0.6b": Published("Qwen3-0.6B", "128 tokens", lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
        tie_word_embeddings=True)), text(128)),
    "flan-t5-large": Published("Flan-T5-large", "64 tokens, 8 of the target",
        lambda: hf.T5ForConditionalGeneration(hf.T5Config(d_model=1024, d_kv=64, d_ff=2816,
            num_layers=24, num_heads=16, feed_forward_proj="gated-gelu", tie_word_embeddings=False)), _flan),
    "deplot": Published("DePlot (Pix2Struct-base)", "384 patches, 8 target embeddings", _deplot_model,
        _deplot),
    **{f"mamba-130m{'' if steps == 16 else f'-{steps}'}": Published("Mamba-130m", f"{steps} tokens",
        lambda: hf.MambaForCausalLM(hf.MambaConfig(
            vocab_size=50280, hidden_size=768, num_hidden_layers=24, state_size=16)), text(steps))
       for steps in (16, 128, 512)},
}  # fmt: skip
