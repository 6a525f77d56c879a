"""Transformers for the benchmark of speed: from embeddings (or pixels) to logits, random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from models import Case
from torch import Tensor, nn


class Explained(nn.Module):
    """Embeddings (b, l, d) or pixels to all logits; ``one``: to one logit of the last position, (b,)."""

    def __init__(self, model: nn.Module, name: str = "inputs_embeds", one: bool = False) -> None:
        super().__init__()
        self.model, self.name, self.one = model, name, one

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(**{self.name: x}).logits
        return logits[:, -1, 5] if self.one else logits


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False))


def bert() -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig())


def llama4() -> Any:
    """Llama-style: 4 layers of 1,024, grouped queries, 83 M weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=4,
        num_attention_heads=16, num_key_value_heads=8, max_position_embeddings=8192, use_cache=False,
        tie_word_embeddings=True))  # fmt: skip


def qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, max_position_embeddings=40960,
        tie_word_embeddings=True, use_cache=False))  # fmt: skip


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return Explained(ViTForImageClassification(ViTConfig(num_labels=1000)), "pixel_values")


TEXT: dict[str, tuple[str, Callable[[], Any], int, dict[int, int]]] = {
    "gpt2": ("GPT-2 124M", gpt2, 768, {128: 15, 512: 6, 1024: 6}),
    "bert": ("BERT-base", bert, 768, {128: 15}),
    "llama4": ("Llama-style, 4 layers of 1,024", llama4, 1024, {128: 15, 512: 9}),
    "qwen3": ("Qwen3-0.6B", qwen3, 1024, {128: 6}),
}
"""Title, model, width, and pairs of runs by number of tokens."""


def _cases() -> Iterator[tuple[str, Case]]:
    yield "vit", Case("ViT-B/16, 224 x 224", vit, (1, 3, 224, 224), 15)
    for name, (title, build, width, lengths) in TEXT.items():
        for length, pairs in lengths.items():
            for one in (False, True):

                def made(build: Callable[[], Any] = build, one: bool = one) -> nn.Module:
                    return Explained(build(), one=one)

                full = f"{name}{'' if length == 128 else f'-{length}'}{'-one' if one else ''}"
                which = "one explained position" if one else "all positions"
                yield full, Case(f"{title}, {length:,} tokens, {which}", made, (1, length, width), pairs)


CASES = dict(_cases())
