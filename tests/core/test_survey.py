"""What ``rules coverage`` finds: nodes without a rule, refused ones, lost values and what cures them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.cli import survey as surveys
from dynamiclrp_core.cli.survey import load, survey

SCRIPT = """
import torch

def added():
    x = torch.randn(3, requires_grad=True)
    return ((x + torch.randn(3)).exp() + torch.randn(3)).sum()
"""


def added() -> torch.Tensor:
    x = torch.randn(3, requires_grad=True)
    return ((x + torch.randn(3)).exp() + torch.randn(3)).sum()


def written() -> torch.Tensor:
    """What stood in ``base`` where x is written is kept nowhere, record() included."""
    base = torch.randn(3)
    base[0] = torch.randn((), requires_grad=True)
    return (base * torch.randn(3)).sum()


def of(make: Any) -> surveys.Forward:
    return surveys._of_factory(make, None)


def test_lost_values_that_record_cures() -> None:
    found = survey(of(added), lrp.preset("dynamiclrp"))
    assert [(v.node, v.cured) for v in found.lost] == [
        ("SumBackward0", True), ("AddBackward0", True), ("AddBackward0", True),
    ]  # fmt: skip
    assert "'other' of AddBackward0" in found.lost[0].what
    assert found.complete and found.promises is not None and found.promises.sources["recorded"]
    # The same from outside: the plain graph fails, the recorded one does not.
    with pytest.raises(lrp.Unrecoverable):
        lrp.propagate(added(), rules="dynamiclrp")
    with lrp.record():
        y = added()
    assert lrp.propagate(y, rules="dynamiclrp").promises.promises == found.promises.promises


def test_lost_values_that_nothing_cures() -> None:
    found = survey(of(written), lrp.preset("dynamiclrp"))
    assert [(v.node, v.cured) for v in found.lost] == [("SumBackward0", False)]
    assert not found.complete
    with lrp.record():
        y = written()
    with pytest.raises(lrp.Unrecoverable):
        lrp.propagate(y, rules="dynamiclrp")


def test_rules_that_ask_for_nothing_lose_nothing() -> None:
    found = survey(of(lambda: torch.randn(3, requires_grad=True).neg()), lrp.preset("default"))
    assert found.lost == [] and found.complete and not found.note


def test_a_refused_node_is_not_covered() -> None:
    def steps() -> torch.Tensor:
        return torch.heaviside(torch.randn(3, requires_grad=True).exp(), torch.zeros(3))

    found = survey(of(steps), lrp.preset("default"))
    assert found.coverage.missing == {"NotImplemented": 1} and found.coverage.covered == {"ExpBackward0": 1}
    assert "torch cannot differentiate" in found.refused["NotImplemented"]
    assert not found.complete and found.promises is None and found.note
    assert lrp.coverage(steps()).fraction == 0.5


def test_a_script(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT)
    command = [str(Path(sys.executable).parent / "dynamiclrp"), "rules", "coverage", "--json"]
    here = [f"{tmp_path}/mine.py:added", "--rules", "dynamiclrp"]
    done = subprocess.run([*command, *here], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["covered"]["AddBackward0"] == 2 and told["complete"] and told["refused"] == {}
    assert {v["cured"] for v in told["unrecoverable"]} == {True}
    with pytest.raises(AttributeError):
        load(f"{tmp_path}/mine.py:absent")
    with pytest.raises(OSError):
        load(f"{tmp_path}/absent.py:added")


# -- transformers --------------------------------------------------------------------------------------


def small(name: str, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return getattr(transformers, f"{name}Config")(**sizes, **options)


BUILT = {
    "Bert": ({"vocab_size": 40, "architectures": ["BertForSequenceClassification"]}, "TanhBackward0"),
    "Llama": ({"vocab_size": 40, "architectures": ["LlamaForCausalLM"]}, "SiluBackward0"),
    "ViT": ({"image_size": 8, "patch_size": 4}, "ConvolutionBackward0"),  # no architectures: AutoModel
}


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("file", ["", "config.json"])
def test_a_transformers_config(name: str, file: str, tmp_path: Path) -> None:
    options, node = BUILT[name]
    small(name, **options).save_pretrained(tmp_path)
    found = survey(load(str(tmp_path / file)), lrp.preset("default"))
    assert found.complete and node in found.coverage.covered
    assert "EmbeddingBackward0" not in found.coverage.covered  # its output is what is explained
    assert found.promises is not None and found.promises.nodes > sum(found.coverage.covered.values())


BOTH_SIDES = {
    "T5": dict(d_model=16, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=40,
        decoder_start_token_id=0),
    "Bart": dict(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, vocab_size=50265),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BOTH_SIDES)
def test_an_encoder_decoder_is_explained_on_both_sides(name: str, tmp_path: Path) -> None:
    """By the words that the encoder reads and those that the decoder reads."""
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(
        **BOTH_SIDES[name], architectures=[f"{name}ForConditionalGeneration"]
    )
    config.save_pretrained(tmp_path)
    forward = load(str(tmp_path))
    y, sources = forward()
    assert sources is not None and len(sources) == 2
    assert all(bool(r.any()) for r in lrp.relevance(y, sources))
    found = survey(forward, lrp.preset("default"))
    assert found.complete and "EmbeddingBackward0" not in found.coverage.covered


@pytest.mark.filterwarnings("ignore")
def test_a_large_config_shows_its_nodes_on_meta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small("Bert", vocab_size=40).save_pretrained(tmp_path)
    real = survey(load(str(tmp_path)), lrp.preset("default"))
    monkeypatch.setattr(surveys, "MOST_WEIGHTS", 10)
    found = survey(load(str(tmp_path)), lrp.preset("default"))
    assert "meta" in found.note and found.promises is None
    assert found.coverage.missing == {} and found.complete
    heads = "ScaledDotProduct"  # another kernel on meta; the rest is the same
    assert {n for n in found.coverage.covered if heads not in n} >= {
        n for n in real.coverage.covered if heads not in n and "View" not in n and "Alias" not in n
    }


@pytest.mark.filterwarnings("ignore")
def test_an_input_of_another_kind_says_what_to_do(tmp_path: Path) -> None:
    small("Wav2Vec2").save_pretrained(tmp_path)
    with pytest.raises(lrp.InvalidInput, match=r"'input_values'(.|\n)*script\.py:factory"):
        load(str(tmp_path))
