"""Memory of a long context, with and without gradient checkpointing (``speed.py --case long-context``)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from measuring import Found, peak_bytes, seconds, sides, silenced
from torch import Tensor, nn
from transformer_cases import llama4

CHECKPOINTS = {"none": None, "not reentrant": False, "reentrant": True}


class LastLogit(nn.Module):
    """Embeddings (b, l, d) to one logit of the last position (b,); no other position's logits are made."""

    def __init__(self, model: Any, reentrant: bool | None) -> None:
        super().__init__()
        self.model = model
        if reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.train()  # Hugging Face checkpoints only then; Llama has no dropout

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs_embeds=x, logits_to_keep=1).logits[:, -1, 5]
        return logits


def peak_and_time(checkpoints: str, tokens: int) -> Found:
    """Of relevance under ``default`` and of the gradient. Runs in a process of its own."""
    torch.manual_seed(0)
    made = llama4()
    model = LastLogit(made, CHECKPOINTS[checkpoints])
    x = torch.randn(1, tokens, made.config.hidden_size, requires_grad=True)
    relevance, gradient, _ = sides(lambda: model(x), [x], "default")
    gradient()
    took = {"seconds": seconds(relevance), "gradient_s": seconds(gradient)}
    silenced()
    peaks = {"peak_mib": peak_bytes(relevance) / 2**20, "gradient_mib": peak_bytes(gradient) / 2**20}
    layers = made.config.num_hidden_layers
    return {"table": "long-context", "case": checkpoints, "tokens": tokens, "layers": layers, **took, **peaks}


def long_context(tokens: int = 4096) -> Iterator[Found]:
    """A Llama-style model of 4 layers, weights trainable: a row per kind of checkpoint."""
    for checkpoints in CHECKPOINTS:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            yield process.submit(peak_and_time, checkpoints, tokens).result()
