"""Known evidence tokens: tiny GPT-2, Llama and BERT that name the digit behind a marker (faithfulness.py)."""

from __future__ import annotations

import importlib

import torch
import torch.nn.functional as F
from methods import TEXT, Method, Table, input_times_gradient, note
from torch import Tensor, nn

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
