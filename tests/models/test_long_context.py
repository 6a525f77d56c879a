"""A long context under gradient checkpointing: the map of the plain model, in the memory of a gradient."""

from __future__ import annotations

import sys
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from long_context import LastLogit, both
from measuring import peak_bytes

LAYERS, TOKENS = 6, 192
KINDS = pytest.mark.parametrize(
    ("checkpoints", "trainable"),
    [("not reentrant", True), ("not reentrant", False), ("reentrant", False)],
    ids=["not reentrant, trainable", "not reentrant, frozen", "reentrant, frozen"],
)


def setting(checkpoints: str, trainable: bool) -> tuple[LastLogit, Tensor]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=31, hidden_size=32, intermediate_size=64, num_hidden_layers=LAYERS,
        num_attention_heads=4, num_key_value_heads=2, use_cache=False))  # fmt: skip
    x = torch.randn(1, TOKENS, 32, requires_grad=True)
    return LastLogit(model.requires_grad_(trainable), checkpoints), x


@KINDS
def test_the_map_is_that_of_the_plain_model(checkpoints: str, trainable: bool) -> None:
    model, x = setting(checkpoints, trainable)
    plain, _ = setting("none", trainable)
    expected = lrp.relevance(plain(x), x)[0]
    torch.testing.assert_close(lrp.relevance(model(x), x)[0], expected, rtol=1e-4, atol=1e-7)


@KINDS
def test_peak_memory_is_near_that_of_the_gradient(checkpoints: str, trainable: bool) -> None:
    relevance, gradient = both(*setting(checkpoints, trainable), checkpoints)
    relevance(), gradient()
    peak, of_gradient = peak_bytes(relevance), peak_bytes(gradient)
    plain = peak_bytes(both(*setting("none", trainable), "none")[0])
    assert peak < 1.5 * of_gradient  # 2.7 where every region that ran again is held
    assert peak < plain / 2


def test_a_second_explanation_of_the_same_graph_leaves_nothing_behind() -> None:
    """What a checkpoint ran again for fields that nobody read would stay as long as the graph."""
    model, x = setting("not reentrant", True)
    y = model(x)
    lrp.relevance(y, x)
    assert bytes_left_by(y, x) == 0


def bytes_left_by(y: Tensor, x: Tensor) -> int:
    with torch.profiler.profile(profile_memory=True) as profile:
        lrp.relevance(y, x)
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    return sum(e.nbytes() for e in profile.profiler.kineto_results.events() if e.name() == "[memory]")
