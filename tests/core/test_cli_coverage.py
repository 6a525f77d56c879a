"""``dynamiclrp rules coverage`` of models in a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.commands import Command

MODELS = """
import torch
from torch import nn

class Odd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x + 1
    @staticmethod
    def backward(ctx, g): return g

class Sum2(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(7, 4), nn.Embedding(3, 4)
        self.head = nn.Linear(4, 2)
    def forward(self, ids):
        return {"logits": self.head(self.words(ids) + self.places(torch.arange(3)))}

def cnn():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    return net.requires_grad_(False), (torch.randn(2, 1, 8, 8),)

def output():
    x = torch.randn(3, requires_grad=True)
    return (x * torch.randn(3)).relu()

def missing():
    x = torch.randn(3, requires_grad=True)
    return Odd.apply(Odd.apply(x).relu())

def text():
    return Sum2(), (torch.tensor([[1, 2, 3]]),)

def nothing():
    return (lambda x: None), (torch.randn(2),)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module in the current folder, as a user has it."""
    name = f"models_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def test_coverage_counts_nodes_of_a_model(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:cnn", "--json")
    assert result.code == 0
    assert result.json["covered"] == {
        "ConvolutionBackward0": 2,
        "ReluBackward0": 2,
        "ViewBackward0": 1,
        "AddmmBackward0": 1,
    }
    assert result.json["missing"] == {}
    assert result.json["fraction"] == 1
    assert result.json["promises"]["promises"] == 0  # the default rules ask for nothing here

    text = dynamiclrp("rules", "coverage", f"{models}:cnn").out
    assert "100.0% of the nodes have a rule" in text
    (line,) = [line for line in text.splitlines() if line.startswith("ConvolutionBackward0")]
    assert line.split() == ["ConvolutionBackward0", "2", "covered"]


def test_coverage_counts_the_promises_of_a_preset(dynamiclrp: Command, models: str) -> None:
    # Frozen biases are dropped by autograd: without record() this would be Unrecoverable.
    result = dynamiclrp("rules", "coverage", f"{models}:cnn", "--rules", "dynamiclrp", "--json")
    assert result.code == 0
    assert result.json["promises"]["promises"] > 0
    assert result.json["promises"]["sources"]["recorded"] > 0


def test_coverage_of_an_output_tensor(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:output", "--json")
    assert result.code == 0
    assert result.json["covered"] == {"MulBackward0": 1, "ReluBackward0": 1}


def test_coverage_with_a_missing_rule_exits_1(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:missing", "--json")
    assert result.code == 1
    ((node, count),) = result.json["missing"].items()
    assert node.endswith("Odd")
    assert count == 2
    assert result.json["covered"] == {"ReluBackward0": 1}
    assert result.json["fraction"] == pytest.approx(1 / 3)
    assert result.json["promises"] is None

    result = dynamiclrp("rules", "coverage", f"{models}:missing")
    assert result.code == 1
    assert "33.3% of the nodes have a rule" in result.out
    assert "missing" in next(line for line in result.out.splitlines() if node in line)


def test_coverage_of_token_ids_takes_a_layer(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:text")
    assert result.code == 1
    assert result.err.startswith("InvalidInput: ")
    result = dynamiclrp("rules", "coverage", f"{models}:text", "--layer", "words", "--json")
    assert result.code == 0
    assert result.json["covered"]["AddBackward0"] == 1
    assert "EmbeddingBackward0" not in result.json["covered"]


@pytest.mark.parametrize("wrong", ["{}:absent", "no_such_module_:make", "not a name"])
def test_coverage_of_what_cannot_be_loaded(dynamiclrp: Command, models: str, wrong: str) -> None:
    result = dynamiclrp("rules", "coverage", wrong.format(models))
    assert result.code == 2
    assert "cannot be loaded" in result.err


def test_coverage_of_a_model_without_tensors(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:nothing")
    assert result.code == 1
    assert "without a tensor" in result.err
