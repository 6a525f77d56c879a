"""The demo's text: a tiny language model that must find one word, and which words it says it used.

With ``--model``: any causal language model, classifier or sentence encoder in a local transformers folder.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from rich.text import Text
from torch import Tensor, nn

from ..api import propagate
from ..errors import InvalidInput

WORDS = "moon lamp river stone tree glass bread cloud".split()
MARKER, ASK = "password:", "so it is"
VOCABULARY = [*WORDS, MARKER, ASK]
LENGTH = 10
RULES = ("default", "cp-lrp", "dynamiclrp")
HELD_OUT = 200
SHOWN = 3


class Line(NamedTuple):
    """Tokens with their relevance, and what they were explained for."""

    title: str
    tokens: Sequence[str]
    relevance: Tensor


# -- a tiny language model ------------------------------------------------------------------------------


class TinyLanguageModel(nn.Module):
    """Two blocks of causal attention; says the next word from embedded words (n, length, width)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(VOCABULARY), width)
        self.positions = nn.Parameter(torch.randn(LENGTH, width) * 0.3)
        block = nn.TransformerEncoderLayer(width, 4, 96, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, len(VOCABULARY))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, embedded: Tensor) -> Tensor:
        states = self.blocks(embedded + self.positions, mask=self.mask, is_causal=True)
        logits: Tensor = self.head(states[:, -1])
        return logits


def sentences(n: int) -> tuple[Tensor, Tensor]:
    """Word numbers (n, LENGTH) and the place of the evidence: the word after the marker."""
    ids = torch.randint(len(WORDS), (n, LENGTH))
    marker = torch.randint(LENGTH - 2, (n,))
    ids[torch.arange(n), marker] = VOCABULARY.index(MARKER)
    ids[:, -1] = VOCABULARY.index(ASK)
    return ids, marker + 1


def train(model: TinyLanguageModel, steps: int, progress: Progress) -> None:
    """Adam on new sentences at every step, until twenty batches in a row are all right."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    task = progress.add_task("training on sentences", total=steps)
    good = 0
    for _ in range(steps):
        ids, evidence = sentences(64)
        answer = ids[torch.arange(64), evidence]
        logits = model(model.embed(ids))
        optimizer.zero_grad()
        F.cross_entropy(logits, answer).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress.advance(task)
        good = good + 1 if bool((logits.argmax(1) == answer).all()) else 0
        if good == 20:
            break
    model.eval()
    progress.remove_task(task)


def explain_sentences(page: Path, quick: bool, console: Console, progress: Progress) -> None:
    """Train, count how often the most relevant word is the evidence, show some sentences."""
    model = TinyLanguageModel()
    train(model, 30 if quick else 1200, progress)
    ids, evidence = sentences(HELD_OUT)
    x = model.embed(ids).detach().requires_grad_()
    said, answer = model(x).max(1)
    right = answer == ids[torch.arange(HELD_OUT), evidence]
    maps = {rules: propagate(said, x, rules=rules).relevance[0].sum(-1) for rules in RULES}
    maps["gradient * input"] = (x * torch.autograd.grad(said.sum(), x)[0]).detach().sum(-1)
    console.print(
        f"Text: a language model of {sum(p.numel() for p in model.parameters()):,} weights names the word "
        f"after {MARKER!r}: {right.float().mean():.1%} of {HELD_OUT} new sentences right.\n"
        "The most relevant word is that word in:",
        soft_wrap=True,
    )
    for name, r in maps.items():
        console.print(f"  {name:<18}{(r.argmax(1) == evidence).float().mean():7.1%}")
    console.print()
    lines = [
        Line(f"{name}, for {VOCABULARY[int(answer[i])]!r}", [VOCABULARY[j] for j in ids[i].tolist()], r[i])
        for i in range(SHOWN)
        for name, r in maps.items()
    ]
    show(lines, page, console)


# -- a model of the user's ------------------------------------------------------------------------------


def explain_folder(folder: Path, texts: Sequence[str], page: Path) -> None:
    """Explain ``texts`` by the model and tokenizer that transformers finds in ``folder``, offline.

    A causal language model: its next token. A classifier: its class. Any other: a sentence encoder, two
    texts, and why it takes them for similar; of an encoder with a decoder, the encoder. In float32.

    Raises InvalidInput where the folder has no model or texts are missing, ModuleNotFoundError without
    transformers.
    """
    import transformers

    if not (folder / "config.json").is_file():
        raise InvalidInput(f"{folder} is no folder of a transformers model: it has no config.json")
    loading: dict[str, Any] = {"local_files_only": True, "dtype": torch.float32}
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    built_for = " ".join(config.architectures or ())
    causal = "CausalLM" in built_for or "LMHead" in built_for
    if not causal and "SequenceClassification" not in built_for:
        model: Any = transformers.AutoModel.from_pretrained(folder, **loading).eval()
        if hasattr(model, "decoder"):  # AutoModel makes a pair of a folder that holds T5's encoder alone
            model = model.encoder
        if len(texts) not in (0, 2):
            raise InvalidInput(f"a sentence encoder compares two texts, not {len(texts)}: give --text twice")
        lines = _similarity(model, tokenizer, texts or ["A cat sleeps.", "The animal is resting."])
    else:
        auto = (
            transformers.AutoModelForCausalLM if causal else transformers.AutoModelForSequenceClassification
        )
        model = auto.from_pretrained(folder, **loading).eval()
        lines = [_one_text(model, tokenizer, text, causal) for text in texts or ["The cat sat on the"]]
    show(lines, page, Console(highlight=False))


def _embedded(model: Any, tokenizer: Any, text: str) -> tuple[list[str], Tensor, Tensor]:
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    if not ids.numel():
        raise InvalidInput(f"the tokenizer makes no token of {text!r}")
    x = model.get_input_embeddings()(ids).detach().requires_grad_()
    return [tokenizer.decode([i]) for i in ids[0].tolist()], x, torch.ones_like(ids)


def _one_text(model: Any, tokenizer: Any, text: str, causal: bool) -> Line:
    tokens, x, mask = _embedded(model, tokenizer, text)
    logits = model(inputs_embeds=x, attention_mask=mask).logits
    y, best = (logits[0, -1] if causal else logits[0]).max(0)
    what = tokenizer.decode([int(best)]) if causal else model.config.id2label[int(best)]
    return Line(f"for {what!r} ({y.item():.3g})", tokens, propagate(y, x).relevance[0][0].sum(-1))


def _similarity(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[Line]:
    """Mean-pooled sentence vectors, their cosine; both sides are explained, half each."""
    both = [_embedded(model, tokenizer, text) for text in texts]
    vectors = [model(inputs_embeds=x, attention_mask=m).last_hidden_state.mean(1) for _, x, m in both]
    y = F.cosine_similarity(*vectors)
    run = propagate(y, [x for _, x, _ in both])
    title = f"for the similarity {y.item():.3f}"
    return [Line(title, tokens, r[0].sum(-1)) for (tokens, _, _), r in zip(both, run.relevance)]


# -- pictures of text -----------------------------------------------------------------------------------


def show(lines: Sequence[Line], page: Path, console: Console) -> None:
    """Coloured tokens in the terminal, and the same as an HTML page: red speaks for, blue against."""
    for line in lines:
        shown = Text(f"  {line.title:<34} ")
        for token, (red, green, blue) in zip(line.tokens, colours(line.relevance)):
            shown.append(f" {token.strip() or token} ", style=f"black on rgb({red},{green},{blue})")
        console.print(shown, soft_wrap=True)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(as_html(lines), encoding="utf-8")
    console.print(f"\nWritten: {page}\n", soft_wrap=True)


def colours(relevance: Tensor) -> list[tuple[int, int, int]]:
    """Red for positive, blue for negative, white for 0; (tokens,) in, saturated at the largest."""
    r = relevance.detach().float().cpu()
    limit = float(r.abs().max()) if len(r) else 0.0
    shares = (r / (limit or 1.0)).tolist()
    faded = [round(255 * (1 - abs(share))) for share in shares]
    return [(255, f, f) if share >= 0 else (f, f, 255) for share, f in zip(shares, faded)]


def as_html(lines: Sequence[Line]) -> str:
    """A page of its own; tokens and titles are escaped, relevance stands in the tooltip."""
    rows = []
    for line in lines:
        spans = [
            f'<span style="background:rgb{colour}" title="{r:.4g}">{html.escape(token)}</span>'
            for token, colour, r in zip(line.tokens, colours(line.relevance), line.relevance.tolist())
        ]
        rows.append(f"<p><b>{html.escape(line.title)}</b><br>{' '.join(spans)}</p>")
    style = "body{font:16px sans-serif;margin:2em}span{padding:.15em .3em;border-radius:.2em}"
    head = f'<meta charset="utf-8"><title>Relevance of tokens</title><style>{style}</style>'
    return f"<!doctype html>\n<html><head>{head}</head>\n<body>\n" + "\n".join(rows) + "\n</body></html>\n"


__all__ = ["Line", "as_html", "colours", "explain_folder", "explain_sentences", "show"]
