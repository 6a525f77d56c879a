"""Mamba-130m for the benchmarks of speed and coverage: published size, random weights."""

from __future__ import annotations

import torch
import transformers as hf
from torch import Tensor, nn


class MambaLogit(nn.Module):
    """Embeddings (b, l, 768) to the logit of one token after the last step (b,)."""

    def __init__(self, layers: int = 24) -> None:
        super().__init__()
        config = hf.MambaConfig(vocab_size=50280, hidden_size=768, state_size=16, num_hidden_layers=layers)
        self.model = hf.MambaForCausalLM(config)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(inputs_embeds=x, use_cache=False).logits[:, -1, 5]
        return made


def mamba_130m(steps: int, *, trainable: bool = True, layers: int = 24) -> tuple[nn.Module, Tensor]:
    """The model (129,135,360 weights) and an input of ``steps`` embeddings that requires grad."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MambaLogit(layers).eval().requires_grad_(trainable)
        x = torch.randn(1, steps, 768)
    return model, x.requires_grad_()


def coverage_16() -> tuple[nn.Module, Tensor]:
    """For ``dynamiclrp rules coverage``."""
    return mamba_130m(16)
