"""Memory of a long context, with and without gradient checkpointing (``speed.py --case long-context``)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from measuring import Found, Work, peak_bytes, sides, silenced
from torch import Tensor, nn
from transformer_cases import llama4

CHECKPOINTS = {"none": None, "not reentrant": False, "reentrant": True}
ROWS = (
    ("none", "trainable"), ("not reentrant", "trainable"),
    ("none", "frozen"), ("not reentrant", "frozen"), ("reentrant", "frozen"),
)  # fmt: skip


class LastLogit(nn.Module):
    """Embeddings (b, l, d) to one logit of the last position (b,); no other position's logits are made."""

    def __init__(self, model: Any, checkpoints: str) -> None:
        super().__init__()
        self.model = model.eval()
        reentrant = CHECKPOINTS[checkpoints]
        if reentrant is not None:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            model.train()  # Hugging Face checkpoints only then; Llama has no dropout

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs_embeds=x, logits_to_keep=1).logits[:, -1, 5]
        return logits


def both(model: LastLogit, x: Tensor, checkpoints: str) -> tuple[Work, Work]:
    """Forward and relevance; forward and gradient: by ``backward`` where reentrant checkpoints want that."""
    relevance, gradient, _ = sides(lambda: model(x), [x], "default")

    def backward() -> object:
        x.grad = None
        return model(x).sum().backward()

    return relevance, backward if CHECKPOINTS[checkpoints] else gradient


def examined(checkpoints: str, weights: str, tokens: int) -> Found:
    """Peaks of relevance and of the gradient. Runs in a process of its own."""
    silenced()
    torch.manual_seed(0)
    inner = llama4().requires_grad_(weights == "trainable")
    model, size = LastLogit(inner, checkpoints), inner.config.hidden_size
    for work in both(model, torch.randn(1, 8, size, requires_grad=True), checkpoints):
        work()
    long = both(model, torch.randn(1, tokens, size, requires_grad=True), checkpoints)
    peak, gradient = (peak_bytes(work) / 2**20 for work in long)
    return {
        "table": "long-context", "case": checkpoints, "weights": weights, "tokens": tokens,
        "peak_mib": peak, "gradient_mib": gradient,
    }  # fmt: skip


def long_context(tokens: int = 4096) -> Iterator[Found]:
    """A Llama-style model of 4 layers: a row per kind of checkpoint, weights trainable or frozen."""
    for checkpoints, weights in ROWS:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            yield process.submit(examined, checkpoints, weights, tokens).result()
