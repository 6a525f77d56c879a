"""Mamba-130m at published size, random weights: nodes, coverage, speed of its unrolled slow path.

The metric is that of ``speed.py``. ``python benchmarks/state_space.py --steps 16 --pairs 7``
"""

from __future__ import annotations

import argparse
import gc

import dynamiclrp_core as lrp
import torch
import transformers as hf
from speed import Work, interval, paired_ratios
from torch import Tensor, nn


class MambaLogit(nn.Module):
    """Embeddings (b, l, 768) to the logit of one token after the last step (b,)."""

    def __init__(self, layers: int = 24) -> None:
        super().__init__()
        config = hf.MambaConfig(vocab_size=50280, hidden_size=768, state_size=16, num_hidden_layers=layers)
        self.model = hf.MambaForCausalLM(config)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(inputs_embeds=x, use_cache=False).logits[:, -1, 5]
        return made


def mamba_130m(steps: int, *, trainable: bool = True, layers: int = 24) -> tuple[nn.Module, Tensor]:
    """The model (129,135,360 weights) and an input of ``steps`` embeddings that requires grad."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MambaLogit(layers).eval().requires_grad_(trainable)
        x = torch.randn(1, steps, 768)
    return model, x.requires_grad_()


def coverage_16() -> tuple[nn.Module, Tensor]:
    """For ``dynamiclrp rules coverage``."""
    return mamba_130m(16)


def covered(model: nn.Module, x: Tensor, rules: str) -> str:
    """Nodes, those with a rule, and the books of one run whose forward is recorded."""
    with lrp.record():
        y = model(x)
    found = lrp.coverage(y, rules=rules, inputs=x)
    with_rule, missing = sum(found.covered.values()), sum(found.missing.values())
    ledger = lrp.propagate(y, x, rules=rules, ledger=True).ledger
    assert ledger is not None
    books = "closed" if ledger.closed else f"open, {len(ledger.unattributed)} unattributed"
    residue = ledger.residue / ledger.seed
    return f"{with_rule} of {with_rule + missing} nodes, ledger {books}, residue {residue:.0e}"


def sides(model: nn.Module, x: Tensor, rules: str) -> tuple[Work, Work]:
    """Forward and relevance, forward and gradient. Nothing is recorded: neither preset asks for it."""
    table = lrp.preset(rules)

    def gradient() -> object:
        y = model(x)
        return torch.autograd.grad(y, x, torch.ones_like(y))

    return lambda: lrp.propagate(model(x), x, rules=table).relevance, gradient


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", nargs="+", type=int, default=[16], help="lengths (default: 16)")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rules", nargs="+", default=["mambalrp", "default"])
    parser.add_argument("--weights", nargs="+", default=["trainable", "frozen"])
    parser.add_argument("--pairs", type=int, default=7, help="pairs of runs per figure, 0: coverage alone")
    args = parser.parse_args()
    for steps in args.steps:
        for weights in args.weights:
            model, x = mamba_130m(steps, trainable=weights == "trainable", layers=args.layers)
            for rules in args.rules:
                line = f"{steps:>5} steps  {weights:<10} {rules:<10}"
                if args.pairs:
                    time = interval(paired_ratios(*sides(model, x, rules), args.pairs))
                    print(f"{line} {time['median']:.3f} [{time['low']:.3f}, {time['high']:.3f}]", flush=True)
                else:
                    print(line, covered(model, x, rules), flush=True)
            del model, x
            gc.collect()


if __name__ == "__main__":
    main()
