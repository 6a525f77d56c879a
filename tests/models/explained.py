"""The models of the zoo, explained, and how the tests of transformers compare maps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn

from .zoo import ARCHITECTURES, Inputs

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


def forgotten_models() -> Iterator[None]:
    """For a fixture of a module: its models are not kept for the next one."""
    yield
    model_of.cache_clear()


def with_dropout(model: nn.Module, p: float) -> nn.Module:
    """The model with that chance to drop a value, however its modules name it; no layer is dropped."""
    for module in model.modules():
        for field in ("p", "dropout", "attention_dropout", "dropout_rate"):
            if isinstance(getattr(module, field, None), float):
                setattr(module, field, p)
        if isinstance(getattr(module, "layerdrop", None), float):
            module.layerdrop = 0.0
    return model


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
