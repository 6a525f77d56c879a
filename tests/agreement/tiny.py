"""Tiny models with weights from a formula: the same in every version of torch and transformers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LENGTH = 7
SIZES = {
    "vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 32,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 4, "tie_word_embeddings": False}


class TinyViT(nn.Module):
    """A vision transformer of the modules that torchvision's is made of."""

    def __init__(self, width: int = 16, heads: int = 4, depth: int = 2, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 5, width))
        self.blocks = nn.ModuleList(TinyBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class TinyBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def fill(model: nn.Module) -> nn.Module:
    """Weights from the parameters' names; norms around 1, biases not 0. In float64, evaluation mode."""
    model.double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            drawn = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            if p.dim() == 1:
                p.copy_(0.3 * drawn + (1.0 if "norm" in name.lower() and "bias" not in name else 0.0))
            else:
                p.copy_(drawn * p.shape[-1] ** -0.5)
    return model


def _causal(config: str, model: str, **more: Any) -> Callable[[str], nn.Module]:
    def build(attention: str) -> nn.Module:
        import transformers

        made = getattr(transformers, config)(**SIZES, **more, attn_implementation=attention)
        return fill(getattr(transformers, model)(made))

    return build


def _gpt2(attention: str) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=31, n_positions=32, n_embd=16, n_layer=2, n_head=4, attn_implementation=attention
    )
    return fill(GPT2LMHeadModel(config))


MODELS: dict[str, Callable[[str], nn.Module]] = {
    "llama": _causal("LlamaConfig", "LlamaForCausalLM", **GROUPED),
    "qwen2": _causal("Qwen2Config", "Qwen2ForCausalLM", num_key_value_heads=2, tie_word_embeddings=False),
    "qwen3": _causal("Qwen3Config", "Qwen3ForCausalLM", **GROUPED),
    "gemma3": _causal(
        "Gemma3TextConfig", "Gemma3ForCausalLM", sliding_window=4, query_pre_attn_scalar=4,
        sliding_window_pattern=2, **GROUPED,
    ),
    "gpt2": _gpt2,
    "bert": _causal("BertConfig", "BertForMaskedLM", type_vocab_size=2),
    "vit": lambda attention: fill(TinyViT()),
}  # fmt: skip


def given(name: str) -> Tensor:
    """What is explained: embeddings (1, 7, 16), or for the ViT an image (1, 3, 8, 8)."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    shape = (1, 3, 8, 8) if name == "vit" else (1, LENGTH, SIZES["hidden_size"])
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def explained(name: str, model: nn.Module, x: Tensor) -> Tensor:
    """Logit number 3 (of the last position, if there are several)."""
    if name == "vit":
        return model(x)[0, 3]
    logits: Tensor = (
        model(inputs_embeds=x, use_cache=False).logits if name != "bert" else model(inputs_embeds=x).logits
    )
    return logits[0, -1, 3]
