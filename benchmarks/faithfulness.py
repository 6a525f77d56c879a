"""Which map is right? Tokens that are known to decide, and pixels whose removal hurts.

    python benchmarks/faithfulness.py [--seeds 5] [--quick] [--only text|pixels]

Text: a tiny GPT-2, Llama and BERT learn to name the digit that follows a marker among other digits, so the
evidence is known. top-1: does the largest relevance fall on that digit; "of both": on it or on the marker;
IoU: of the two tokens of largest relevance with these two. Pixels: scikit-learn's digits, a CNN and a tiny
ViT; pixels are replaced by their mean over the data, most relevant first (MoRF) or least relevant first
(LeRF), and the probability of the predicted class is averaged over all steps; ABPC = LeRF - MoRF. Rows of LXT
and zennit appear where those packages import. Figures: mean over seeds (of training, data and examples) and
standard deviation.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import dynamiclrp_core as lrp
import torch
import torch.nn.functional as F
from dynamiclrp_core.cli.demo import Digits, digit_reader, digits
from dynamiclrp_rules_attention import constant_weights
from torch import Tensor, nn

Forward = Callable[[Tensor], Tensor]
Method = Callable[[Forward, Tensor], Tensor]
Table = dict[str, dict[str, dict[str, list[float]]]]  # model -> method -> metric -> value per seed


def ours(name: str, **parameters: Any) -> Method:
    """A rule set of this library."""
    return partial(by_rules, lrp.preset(name, **parameters))


def by_rules(rules: lrp.Rules, f: Forward, x: Tensor) -> Tensor:
    with lrp.record():
        y = f(x)
    return lrp.relevance(y, x, rules=rules)[0]


def dynamiclrp_vit() -> Method:
    """The setting of the DynamicLRP paper for ViT."""
    rules = lrp.preset("dynamiclrp", layer="gamma", gamma=0.001) | constant_weights()
    return partial(
        by_rules, rules | lrp.override(ConvolutionBackward0=lrp.Gamma(gamma=130, epsilon=1e-11, bias="share"))
    )


def input_times_gradient(f: Forward, x: Tensor) -> Tensor:
    return (x * torch.autograd.grad(f(x).sum(), x)[0]).detach()


def integrated_gradients(f: Forward, x: Tensor, steps: int = 32) -> Tensor:
    """Sundararajan et al. 2017, from zero, midpoint rule."""
    total = torch.zeros_like(x)
    for k in range(steps):
        at = (x.detach() * (k + 0.5) / steps).requires_grad_()
        total += torch.autograd.grad(f(at).sum(), at)[0]
    return (x * total / steps).detach()


def at_random(f: Forward, x: Tensor) -> Tensor:
    return torch.randn_like(x)


PEERS: dict[str, Method] = {
    "input*gradient": input_times_gradient,
    "integrated gradients": integrated_gradients,
    "random": at_random,
}
TEXT: dict[str, Method] = {
    "default": ours("default"),
    "attnlrp": ours("attnlrp"),
    "attnlrp, gate=signal": ours("attnlrp", gate="signal"),
    "attnlrp, gamma=0.001": ours("attnlrp", gamma=0.001, epsilon=1e-6),
    "cp-lrp": ours("cp-lrp"),
    "epsilon": ours("epsilon"),
    "dynamiclrp": ours("dynamiclrp"),
    "dynamiclrp, gamma=0.001": ours("dynamiclrp", layer="gamma", gamma=0.001),
    **PEERS,
}
CNN: dict[str, Method] = {
    "default": ours("default"),
    "epsilon": ours("epsilon"),
    "epsilon-plus": ours("epsilon-plus"),
    "gamma": ours("gamma"),
    "dynamiclrp": ours("dynamiclrp"),
    "dynamiclrp, z+": ours("dynamiclrp", layer="z+"),
    **PEERS,
}
VIT: dict[str, Method] = {
    "default": ours("default"),
    "attnlrp": ours("attnlrp"),
    "attnlrp, gamma=0.05, conv_gamma=0.25": ours("attnlrp", gamma=0.05, conv_gamma=0.25, epsilon=1e-6),
    "cp-lrp": ours("cp-lrp"),
    "cp-lrp, gamma=0.05, conv_gamma=0.25": ours("cp-lrp", gamma=0.05, conv_gamma=0.25, epsilon=1e-6),
    "dynamiclrp": ours("dynamiclrp"),
    "dynamiclrp, the paper's for ViT": dynamiclrp_vit(),
    **PEERS,
}


# -- text -------------------------------------------------------------------------------------------------

VALUES, LENGTH = 8, 12
MARKER, ASK, VOCABULARY = VALUES, VALUES + 1, VALUES + 2


class Reader(nn.Module):
    """A transformer that answers at one position: the last, or BERT's first."""

    def __init__(self, family: str) -> None:
        super().__init__()
        import transformers

        # From the module itself: LXT replaces its classes.
        classes = importlib.import_module(f"transformers.models.{family.lower()}.modeling_{family.lower()}")
        sizes = dict(
            vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=128, max_position_embeddings=LENGTH, attn_implementation="sdpa",
            bos_token_id=None, eos_token_id=None, pad_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        config = getattr(transformers, f"{family}Config")(**sizes)
        self.body = getattr(classes, f"{family}Model")(config)
        self.head = nn.Linear(64, VALUES)
        self.position = 0 if family == "Bert" else -1

    @property
    def embeddings(self) -> nn.Module:
        return self.body.get_input_embeddings()

    def forward(self, embedded: Tensor) -> Tensor:
        more = {} if self.position == 0 else {"use_cache": False}
        states = self.body(inputs_embeds=embedded, **more).last_hidden_state
        logits: Tensor = self.head(states[:, self.position])
        return logits


def examples(n: int, ask_first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (n, LENGTH), the answers (n), and where the marker stands (n)."""
    ids = torch.randint(VALUES, (n, LENGTH))
    marker = torch.randint(1, LENGTH - 2, (n,))
    ids[torch.arange(n), marker] = MARKER
    ids[:, 0 if ask_first else -1] = ASK
    return ids, ids[torch.arange(n), marker + 1], marker


def trained_reader(family: str, steps: int) -> Reader:
    """Adam until the answers are right (or ``steps`` are over)."""
    model = Reader(family)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    good = 0
    for _ in range(steps):
        ids, answer, _ = examples(64, model.position == 0)
        logits = model(model.embeddings(ids))
        optimizer.zero_grad()
        F.cross_entropy(logits, answer).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        good = good + 1 if bool((logits.argmax(1) == answer).all()) else 0
        if good == 20:
            break
    return model.eval()


def score_text(model: Reader, method: Method, seed: int, n: int) -> dict[str, float]:
    """Accuracy of the model, and of the method's tokens where the model is right."""
    torch.manual_seed(1000 + seed)
    ids, answer, marker = examples(n, model.position == 0)
    x = model.embeddings(ids).detach().requires_grad_()
    right = (model(x).argmax(1) == answer).nonzero()[:, 0]
    ids, answer, marker, x = ids[right], answer[right], marker[right], x[right].detach().requires_grad_()
    r = method(lambda e: model(e).gather(1, answer[:, None])[:, 0], x).sum(-1)
    two = r.topk(2, 1).indices
    hits = ((two == marker[:, None]) | (two == marker[:, None] + 1)).sum(1)
    return {
        "accuracy": len(right) / n,
        "top-1": (r.argmax(1) == marker + 1).double().mean().item(),
        "top-1 of both": torch.isin(r.argmax(1) - marker, torch.tensor([0, 1])).double().mean().item(),
        "IoU": (hits / (4 - hits)).double().mean().item(),
    }


def text(table: Table, seeds: int, quick: bool) -> None:
    models: dict[tuple[str, int], Reader] = {}
    for family in ("GPT2", "Llama", "Bert"):
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = models[family, seed] = trained_reader(family, 60 if quick else 1500)
            for name, method in TEXT.items():
                note(table[family][name], score_text(model, method, seed, 32 if quick else 256))
    lxt_text(table, models, quick)


def lxt_text(table: Table, models: dict[tuple[str, int], Reader], quick: bool) -> None:
    """LXT patches classes for good, so it comes last, on models built anew from its classes."""
    try:
        import lxt.efficient.models as patches
        from lxt.efficient import monkey_patch
    except Exception as error:
        print(f"LXT left out: {type(error).__name__}: {str(error).splitlines()[0]}\n")
        return
    for family in ("GPT2", "Llama", "Bert"):
        monkey_patch(getattr(getattr(patches, family.lower()), f"modeling_{family.lower()}"))
    for (family, seed), model in models.items():
        patched = Reader(family)
        patched.load_state_dict(model.state_dict())
        scored = score_text(patched.eval(), input_times_gradient, seed, 32 if quick else 256)
        note(table[family]["LXT (AttnLRP)"], scored)


# -- pixels -----------------------------------------------------------------------------------------------


class TinyViT(nn.Module):
    """Patches of 2 x 2 of an 8 x 8 image, a class token, two blocks."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        block = partial(nn.TransformerEncoderLayer, width, 4, 64, 0.0, "gelu", batch_first=True)
        self.blocks = nn.ModuleList(block(norm_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


def train(model: nn.Module, data: Digits, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.train)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(data.train[batch]), data.train_class[batch]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def flipping(model: nn.Module, images: Tensor, relevance: Tensor, mean: Tensor) -> dict[str, float]:
    """Pixel flipping (Samek et al. 2017; ABPC: Bluecher et al. 2024), one pixel at a time."""
    n, pixels = len(images), images[0].numel()
    predicted = model(images).argmax(1)
    areas: dict[str, float] = {}
    for name, descending in (("MoRF", True), ("LeRF", False)):
        order = relevance.reshape(n, -1).argsort(1, descending=descending)
        # Step k has the first k pixels of the order replaced: rank of each pixel < k.
        rank = order.argsort(1)
        kept = rank[:, None] >= torch.arange(pixels + 1)[:, None]
        flipped = torch.where(kept, images.reshape(n, 1, -1), mean.reshape(1, 1, -1))
        logits = model(flipped.view(-1, *images.shape[1:])).view(n, pixels + 1, -1)
        p = logits.softmax(-1).gather(-1, predicted.view(n, 1, 1).expand(-1, pixels + 1, 1))
        areas[name] = p.mean().item()
    return {**areas, "ABPC": areas["LeRF"] - areas["MoRF"]}


def score_pixels(model: nn.Module, data: Digits, method: Method, seed: int, n: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data.test), generator=generator)[:n]
    x = data.test[chosen].clone().requires_grad_()
    predicted = model(x).argmax(1, keepdim=True)
    torch.manual_seed(seed)
    r = method(lambda images: model(images).gather(1, predicted)[:, 0], x)
    accuracy = (model(data.test).argmax(1) == data.test_class).double().mean().item()
    return {"accuracy": accuracy, **flipping(model, x.detach(), r, data.train.mean(0))}


def pixels(table: Table, seeds: int, quick: bool) -> None:
    data = digits()
    for seed in range(seeds):
        for name, build, epochs, methods in (
            ("CNN", digit_reader, 12, {**CNN, **zennit_methods()}),
            ("ViT", TinyViT, 40, VIT),
        ):
            torch.manual_seed(seed)
            model = train(build(), data, 2 if quick else epochs)
            for method_name, method in methods.items():
                if method_name.startswith("zennit"):
                    method = partial(method, model)
                scored = score_pixels(model, data, method, seed, 16 if quick else 100)
                note(table[name][method_name], scored)


def zennit_methods() -> dict[str, Any]:
    """zennit's EpsilonPlus and EpsilonAlpha2Beta1 with its batch-norm canonizer, where it imports."""
    try:
        from zennit.attribution import Gradient
        from zennit.canonizers import SequentialMergeBatchNorm
        from zennit.composites import EpsilonAlpha2Beta1, EpsilonPlus
    except ImportError as error:
        print(f"zennit left out: {error}\n")
        return {}

    def relevance(composite: Any, model: nn.Module, f: Forward, x: Tensor) -> Tensor:
        predicted = model(x).argmax(1)
        with Gradient(model, composite(canonizers=[SequentialMergeBatchNorm()])) as attributor:
            return attributor(x.detach().requires_grad_(), torch.eye(10)[predicted])[1].detach()

    composites = {"EpsilonPlus": EpsilonPlus, "EpsilonAlpha2Beta1": EpsilonAlpha2Beta1}
    return {f"zennit {name}": partial(relevance, composite) for name, composite in composites.items()}


# -- the tables -------------------------------------------------------------------------------------------


def note(kept: dict[str, list[float]], scored: dict[str, float]) -> None:
    for metric, value in scored.items():
        kept.setdefault(metric, []).append(value)


def show(table: Table) -> None:
    """Markdown, a table per model, in the order of the methods."""
    for model, methods in table.items():
        first = next(iter(methods.values()))
        metrics = [m for m in first if m != "accuracy"]
        print(f"**{model}** (accuracy {statistics.mean(first['accuracy']):.3f})\n")
        print("| method | " + " | ".join(metrics) + " |\n" + "|---" * (len(metrics) + 1) + "|")
        for name, kept in methods.items():
            cells = [f"{statistics.mean(kept[m]):.3f} ± {statistics.pstdev(kept[m]):.3f}" for m in metrics]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="does it run? (the figures mean nothing)")
    parser.add_argument("--only", choices=("text", "pixels"))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    table: Table = defaultdict(lambda: defaultdict(dict))
    if chosen.only != "pixels":
        text(table, chosen.seeds, chosen.quick)
    if chosen.only != "text":
        pixels(table, chosen.seeds, chosen.quick)
    show(table)


if __name__ == "__main__":
    main()
