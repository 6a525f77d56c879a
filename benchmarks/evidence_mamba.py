"""Does the map find the evidence? A tiny Mamba, trained on a task whose evidence is known.

A marker stands somewhere in a sequence of random tokens; the class is the token right behind it, tokens of
the same kind elsewhere do not count. Printed: how often the token of most relevance is that one (top-1), how
often it or the marker before it, how often the last of the sequence, where the answer is read.

    python benchmarks/evidence_mamba.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import dynamiclrp_core as lrp
import torch
import torch.nn.functional as F
import transformers as hf
from dynamiclrp_core.op import Op
from dynamiclrp_core.table import Override, Rules
from dynamiclrp_rules_ssm.presets import Signal
from torch import Tensor, nn

LENGTH, CLASSES, FILLERS = 16, 4, 8
MARKER = CLASSES  # tokens: classes, marker, fillers
VOCABULARY = CLASSES + 1 + FILLERS


class Classifier(nn.Module):
    """Embeddings (b, l, 32) through two Mamba blocks to class logits (b, 4) of the last step."""

    def __init__(self) -> None:
        super().__init__()
        config = hf.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, state_size=8, num_hidden_layers=2)
        self.body = hf.MambaModel(config)
        self.head = nn.Linear(32, CLASSES)

    def embed(self, tokens: Tensor) -> Tensor:
        made: Tensor = self.body.get_input_embeddings()(tokens)
        return made

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.body(inputs_embeds=x, use_cache=False).last_hidden_state[:, -1])
        return made


def batch(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (n, l), classes (n,), positions of the evidence (n,)."""
    tokens = torch.randint(0, VOCABULARY - 1, (n, LENGTH), generator=generator)
    tokens = tokens + (tokens >= MARKER).long()  # no marker yet
    at = torch.randint(0, LENGTH - 2, (n,), generator=generator)
    classes = torch.randint(0, CLASSES, (n,), generator=generator)
    rows = torch.arange(n)
    tokens[rows, at], tokens[rows, at + 1] = MARKER, classes
    return tokens, classes, at + 1


def trained(steps: int = 400, seed: int = 0) -> tuple[Classifier, float]:
    """The model and its accuracy on fresh sequences."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Classifier()
    adam = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        tokens, classes, _ = batch(64, generator)
        loss = F.cross_entropy(model(model.embed(tokens)), classes)
        adam.zero_grad()
        loss.backward()
        adam.step()
    tokens, classes, _ = batch(512, generator)
    with torch.no_grad():
        right = model(model.embed(tokens)).argmax(-1) == classes
    return model.eval(), float(right.double().mean())


Method = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Model, embeddings, classes -> relevance of every entry."""


def by_rules(rules: str | Rules) -> Method:
    """The map of the logit of the class."""

    def method(model: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return lrp.relevance(model(x).gather(1, classes[:, None]), x, rules=rules)[0]

    return method


def input_times_gradient(model: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """x dy/dx."""
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(model(x).gather(1, classes[:, None]).sum(), x)
    return (x * g).detach()


def integrated_gradients(model: nn.Module, x: Tensor, classes: Tensor, steps: int = 32) -> Tensor:
    """Sundararajan et al. 2017 from the zero embedding, midpoints."""
    total = torch.zeros_like(x)
    for k in range(steps):
        at = (x.detach() * ((k + 0.5) / steps)).requires_grad_()
        (g,) = torch.autograd.grad(model(at).gather(1, classes[:, None]).sum(), at)
        total += g / steps
    return (x * total).detach()


def not_the_gate(op: Op) -> int | None:
    """The factor beside a SiLU, of the product that is a block's gate."""
    is_gate = [node is not None and node.name() == "SiluBackward0" for node, _ in op.edges]
    return is_gate.index(False) if sum(is_gate) == 1 and op.live_factors == 2 else None


WHOLE = Rules(overrides=(Override("product", "*", Signal(), not_the_gate),))
"""The gate takes nothing, instead of half of what comes."""

METHODS: dict[str, Method] = {
    "mambalrp": by_rules("mambalrp"),
    "gate takes nothing": by_rules(lrp.preset("mambalrp") | WHOLE),
    "default": by_rules("default"),
    "input * gradient": input_times_gradient,
    "integrated gradients": integrated_gradients,
}


def found(model: Classifier, method: Method, n: int = 256, seed: int = 1) -> tuple[float, float, float]:
    """How often the most relevant token is the evidence; that or the marker; the last one."""
    tokens, classes, at = batch(n, torch.Generator().manual_seed(seed))
    top = method(model, model.embed(tokens).detach(), classes).sum(-1).argmax(1)
    hits = (top == at, (top == at) | (top == at - 1), top == LENGTH - 1)
    first, pair, last = (float(hit.double().mean()) for hit in hits)
    return first, pair, last


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'seed':>4} {'accuracy':>8}  {'':<22}{'token':>7}{'or marker':>11}{'last':>7}")
    for seed in range(args.seeds):
        model, accuracy = trained(seed=seed)
        for name, method in METHODS.items():
            first, pair, last = found(model, method)
            print(f"{seed:>4} {accuracy:>8.3f}  {name:<22}{first:>7.3f}{pair:>11.3f}{last:>7.3f}", flush=True)


if __name__ == "__main__":
    main()
