"""The demo's text: it learns, it finds the evidence, it escapes, and it reads local folders."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.cli import demo_text
from dynamiclrp_core.cli.demo_text import Line, as_html, colours
from rich.console import Console
from rich.progress import Progress


class Spans(HTMLParser):
    """Texts of all spans, as a browser reads them; and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "span":
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "span" and data.strip():
            self.texts[-1] += data.strip()


def test_html_escapes_tokens_and_titles() -> None:
    nasty = ["<script>alert(1)</script>", "a&b", '"quoted"', "</span><b>", "ok"]
    page = as_html([Line("for '<i>'", nasty, torch.randn(5))])
    read = Spans()
    read.feed(page)
    assert read.texts == nasty
    assert "script" not in read.tags and "i" not in read.tags and read.tags.count("b") == 1


def test_colours() -> None:
    assert colours(torch.tensor([2.0, -2.0, 0.0, 1.0])) == [
        (255, 0, 0), (0, 0, 255), (255, 255, 255), (255, 128, 128),
    ]  # fmt: skip
    one_large = torch.tensor([1.0, *[0.0] * 20, 5.0])  # it is the scale
    assert colours(one_large)[0] == (255, 204, 204)
    assert colours(torch.zeros(2)) == [(255, 255, 255)] * 2
    assert colours(torch.zeros(0)) == []


def test_the_model_learns_and_its_evidence_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("dynamiclrp_rules_attention")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = demo_text.TinyLanguageModel()
        console = Console(highlight=False)
        with Progress(console=console, transient=True) as progress:
            demo_text.train(model, 1200, progress)
        ids, evidence = demo_text.sentences(100)
    x = model.embed(ids).detach().requires_grad_()
    said, answer = model(x).max(1)
    right = answer == ids[torch.arange(100), evidence]
    assert right.float().mean() > 0.9
    r = lrp.relevance(said, x)[0].sum(-1)
    assert (r.argmax(1) == evidence)[right].float().mean() > 0.85


# -- folders of transformers ---------------------------------------------------------------------------


def saved(folder: Path, kind: str) -> Path:
    """A tiny random model with a tokenizer of words, as ``save_pretrained`` writes them."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "the", "cat", "<sat>", "on", "mat"]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]").save_pretrained(folder)
    sizes = dict(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=16, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    if kind == "causal":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    elif kind == "classifier":
        names = {0: "good", 1: "bad"}
        model = transformers.BertForSequenceClassification(transformers.BertConfig(id2label=names, **sizes))
    elif kind == "t5":
        config = transformers.T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=24, num_heads=2)
        model = transformers.T5EncoderModel(config).to(torch.bfloat16)
    else:
        model = transformers.BertModel(transformers.BertConfig(**sizes))
    model.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize(
    ("kind", "texts", "said"),
    [
        ("causal", ["the cat <sat>"], ("for '",)),
        ("classifier", ["the cat <sat>"], ("for 'good'", "for 'bad'")),
        ("encoder", ["the cat <sat>", "on mat"], ("for the similarity",)),
        ("t5", ["the cat <sat>", "on mat"], ("for the similarity",)),
    ],
)
def test_explains_a_local_folder(
    kind: str,
    texts: list[str],
    said: str | tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with torch.random.fork_rng(devices=[]):
        folder = saved(tmp_path / kind, kind)
    page = tmp_path / "text.html"
    demo_text.explain_folder(folder, texts, page)
    shown = capsys.readouterr().out
    assert any(s in shown for s in said)
    read = Spans()
    read.feed(page.read_text())
    assert read.texts == " ".join(texts).split()


@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        folder = saved(tmp_path / "encoder", "encoder")
    with pytest.raises(lrp.InvalidInput, match="compares two texts, not 1"):
        demo_text.explain_folder(folder, ["the cat"], tmp_path / "text.html")
    with pytest.raises(lrp.InvalidInput, match="no folder of a transformers model"):
        demo_text.explain_folder(tmp_path, [], tmp_path / "text.html")
    with pytest.raises(lrp.InvalidInput, match="makes no token"):
        demo_text.explain_folder(folder, ["", "the cat"], tmp_path / "text.html")


@pytest.mark.filterwarnings("ignore")
def test_similarity_is_shared_by_both_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text compared with itself: both sides say the same."""
    with torch.random.fork_rng(devices=[]):
        folder = saved(tmp_path / "encoder", "encoder")
    page = tmp_path / "text.html"
    demo_text.explain_folder(folder, ["the cat", "the cat"], page)
    first, second = (
        line.split("<br>")[1] for line in page.read_text().splitlines() if line.startswith("<p>")
    )
    assert first == second
    assert "similarity 1.000" in capsys.readouterr().out
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["BertModel"]
