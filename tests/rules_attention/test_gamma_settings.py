"""The published gamma settings for ViT and for text: the recipes of docs/attention.md by definition.

The definition is relevance values, layer by layer and connection by connection, on a tiny transformer. It
knows nothing of the graph.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.graph import Graph
from dynamiclrp_core.node import address
from dynamiclrp_rules_attention import constant_weights
from torch import Tensor, nn

WIDTH, HEADS, TOKENS = 4, 2, 5


class Tiny(nn.Module):
    """Two pre-norm blocks: of patches of a 4 x 4 image and a class token, or of five words, causal."""

    def __init__(self, image: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image = image
        self.patches = nn.Conv2d(2, WIDTH, 2, stride=2)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        for p in self.parameters():
            if p.dim() == 1:  # else norms are plain and attention has no bias
                nn.init.normal_(p)
        self.double()

    def forward(self, x: Tensor, eager: bool) -> Tensor:
        if self.image:
            x = torch.cat([self.first, self.patches(x).flatten(2).mT], 1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x, not self.image, eager)
        logits: Tensor = self.head(self.norm(x))
        return logits[0, 0 if self.image else -1, 1]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 6), nn.Linear(6, WIDTH)

    def forward(self, x: Tensor, causal: bool, eager: bool) -> Tensor:
        h = self.norm1(x)
        mask = nn.Transformer.generate_square_subsequent_mask(TOKENS, dtype=x.dtype) if causal else None
        x = x + self.attention(h, h, h, need_weights=eager, attn_mask=mask, is_causal=causal)[0]
        made: Tensor = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return made


# -- the definition ----------------------------------------------------------------------------------------


@dataclass
class Setting:
    """``by_size``: every sum, that with a bias too, by absolute ratio (DynamicLRP); else by its terms."""

    gamma: float
    conv_gamma: float
    in_attention: float
    by_size: bool
    softmax: Literal["skipped", "taylor"]
    norms_pass: bool = False

    def shares(self, terms: list[float]) -> list[float]:
        sizes = [abs(t) for t in terms] if self.by_size else terms
        return [s / sum(sizes) for s in sizes]

    def row(self, x: list[float], w: list[float], b: float, r: float, gamma: float) -> list[float]:
        """One output of a layer: what has the sign of the sum counts 1 + gamma times."""
        terms = [a * v for a, v in zip(x, w)]
        if self.by_size:
            r, b = r * self.shares([sum(terms), b])[0], 0.0
        z = sum(terms) + b
        favoured = [t * (1 + gamma) if t * z > 0 else t for t in [*terms, b]]
        return [f / sum(favoured) * r for f in favoured[:-1]]

    def layer(self, x: Tensor, w: Tensor, b: Tensor, r: Tensor, gamma: float) -> Tensor:
        """``x`` (tokens, inputs), ``r`` (tokens, outputs)."""
        made = torch.zeros_like(x)
        for t in range(len(x)):
            for j in range(len(w)):
                row = self.row(x[t].tolist(), w[j].tolist(), float(b[j]), float(r[t, j]), gamma)
                made[t] += torch.tensor(row, dtype=x.dtype)
        return made

    def norm(self, x: Tensor, norm: nn.LayerNorm, r: Tensor) -> Tensor:
        """The standard deviation is a constant; then ``y_i = sum_j m_ij x_j + b_i``."""
        if self.norms_pass:
            return r
        made = torch.zeros_like(x)
        for t in range(len(x)):
            mean = sum(x[t].tolist()) / WIDTH
            std = math.sqrt(sum((v - mean) ** 2 for v in x[t].tolist()) / WIDTH + norm.eps)
            for i in range(WIDTH):
                scale, b, kept = float(norm.weight[i]) / std, float(norm.bias[i]), float(r[t, i])
                z = scale * (float(x[t, i]) - mean)
                kept *= self.shares([z, b])[0]
                for j in range(WIDTH):
                    m = scale * ((i == j) - 1 / WIDTH)
                    made[t, j] += float(x[t, j]) * m / z * kept
        return made

    def sum(self, a: Tensor, b: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        made = torch.zeros_like(a), torch.zeros_like(b)
        for t in range(len(a)):
            for i in range(WIDTH):
                for part, share in zip(made, self.shares([float(a[t, i]), float(b[t, i])])):
                    part[t, i] = share * r[t, i]
        return made

    def head(self, q: Tensor, k: Tensor, v: Tensor, r: Tensor, causal: bool) -> tuple[Tensor, ...]:
        """Of one head. Skipped: all to v. Taylor: AttnLRP, propositions 3.1 and 3.3."""
        of_q, of_k, of_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for i in range(len(q)):
            seen = range(i + 1) if causal else range(len(k))
            logits = [float(q[i] @ k[j]) / math.sqrt(len(q[i])) for j in seen]
            weights = [math.exp(s) / sum(math.exp(u) for u in logits) for s in logits]
            of_weights = [0.0 for _ in seen]
            for e in range(v.shape[1]):
                terms = [p * float(v[j, e]) for j, p in zip(seen, weights)]
                for j in seen:
                    share = terms[j] / sum(terms) * float(r[i, e])
                    of_v[j, e] += share if self.softmax == "skipped" else share / 2
                    of_weights[j] += 0 if self.softmax == "skipped" else share / 2
            for j in seen:
                of_logit = logits[j] * (of_weights[j] - weights[j] * sum(of_weights))
                for e in range(q.shape[1]):
                    share = float(q[i, e] * k[j, e] / (q[i] @ k[j])) * of_logit / 2
                    of_q[i, e] += share
                    of_k[j, e] += share
        return of_q, of_k, of_v

    def attention(self, x: Tensor, module: nn.MultiheadAttention, r: Tensor, causal: bool) -> Tensor:
        w, b = module.in_proj_weight, module.in_proj_bias
        q, k, v = (x @ w.T + b).split(WIDTH, 1)
        size = WIDTH // HEADS
        heads = [tuple(t[:, h * size :][:, :size] for t in (q, k, v)) for h in range(HEADS)]
        blind = torch.full((TOKENS, TOKENS), -math.inf).triu(1) if causal else torch.zeros(TOKENS, TOKENS)
        attended = [(q @ k.T / math.sqrt(size) + blind).softmax(1) @ v for q, k, v in heads]
        out = module.out_proj
        r = self.layer(torch.cat(attended, 1), out.weight, out.bias, r, self.in_attention)
        each = [self.head(*heads[h], r[:, h * size :][:, :size], causal) for h in range(HEADS)]
        of_qkv = torch.cat([torch.cat(parts, 1) for parts in zip(*each)], 1)
        return self.layer(x, w, b, of_qkv, self.in_attention)

    def block(self, x: Tensor, block: Block, r: Tensor, causal: bool) -> Tensor:
        h = block.norm1(x)
        mask = nn.Transformer.generate_square_subsequent_mask(TOKENS, dtype=x.dtype) if causal else None
        attended = block.attention(h[None], h[None], h[None], attn_mask=mask)[0][0]
        middle = x + attended
        normed = block.norm2(middle)
        hidden = block.up(normed)
        through = block.down(nn.functional.gelu(hidden))
        r, of_mlp = self.sum(middle, through, r)
        # Relevance passes the activation unchanged.
        of_mlp = self.layer(
            nn.functional.gelu(hidden), block.down.weight, block.down.bias, of_mlp, self.gamma
        )
        of_mlp = self.layer(normed, block.up.weight, block.up.bias, of_mlp, self.gamma)
        r = r + self.norm(middle, block.norm2, of_mlp)
        r, of_attention = self.sum(x, attended, r)
        return r + self.norm(x, block.norm1, self.attention(h, block.attention, of_attention, causal))

    @torch.no_grad()
    def explain(self, model: Tiny, x: Tensor) -> Tensor:
        image = model.image
        tokens = torch.cat([model.first[0], model.patches(x)[0].flatten(1).T]) if image else x[0]
        states = [tokens + model.positions[0]]
        for block in model.blocks:
            states.append(block(states[-1][None], not image, True)[0])
        normed = model.norm(states[-1])
        r = torch.zeros(TOKENS, 3, dtype=x.dtype)
        at = 0 if image else TOKENS - 1
        r[at, 1] = model.head(normed)[at, 1]
        r = self.layer(normed, model.head.weight, model.head.bias, r, self.gamma)
        r = self.norm(states[-1], model.norm, r)
        for block, state in zip(reversed(model.blocks), reversed(states[:-1])):
            assert isinstance(block, Block)
            r = self.block(state, block, r, not image)
        r, _ = self.sum(tokens, model.positions[0], r)
        if not image:
            return r[None]
        made = torch.zeros_like(x)
        filters = model.patches.weight.flatten(1)
        for n in range(TOKENS - 1):
            i, j = 2 * (n // 2), 2 * (n % 2)
            patch = x[0, :, i : i + 2, j : j + 2]
            of_patch = r[n + 1 : n + 2]
            shares = self.layer(patch.reshape(1, -1), filters, model.patches.bias, of_patch, self.conv_gamma)
            made[0, :, i : i + 2, j : j + 2] = shares.view(patch.shape)
        return made


SETTINGS = {
    "images": Setting(0.05, 0.25, in_attention=0.05, by_size=False, softmax="skipped"),
    "lxt_images": Setting(0.05, 0.25, in_attention=0.0, by_size=False, softmax="skipped"),
    "text": Setting(0.001, 0.001, in_attention=0.001, by_size=True, softmax="taylor"),
    "paper_images": Setting(0.001, 130, in_attention=0.001, by_size=True, softmax="skipped"),
}


def recipes(vit: nn.Module) -> dict[str, lrp.Rules]:
    """The rules of the page, by the names that it gives them."""
    page = Path(__file__).parents[2] / "docs" / "attention.md"
    section = page.read_text().split("## Settings of the papers")[1].split("\n## ")[0]
    names = {"lrp": lrp, "nn": nn, "constant_weights": constant_weights, "vit": vit}
    for block in re.findall(r"```python\n(.*?)```", section, re.S):
        if "vit =" not in block:  # the test has a model of its own
            exec(compile(block, page.name, "exec"), names)
    return {name: names[name] for name in SETTINGS}


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "name, norms_pass", [*((name, False) for name in SETTINGS), ("text", True), ("paper_images", True)]
)
def test_a_recipe_gives_the_map_of_its_definition(name: str, norms_pass: bool, eager: bool) -> None:
    model = Tiny(image="images" in name)
    generator = torch.Generator().manual_seed(1)
    shape = (1, 2, 4, 4) if model.image else (1, TOKENS, WIDTH)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    rules = recipes(model)[name]
    if norms_pass:
        rules = rules | lrp.override(NativeLayerNormBackward0=lrp.Pass())
    with lrp.record():
        y = model(x, eager)
    run = lrp.propagate(y, x, rules=rules, ledger=True)
    fused = any(n.name().startswith("ScaledDotProduct") for n in Graph([address(y)]).order)
    assert fused is not eager
    setting = replace(SETTINGS[name], norms_pass=norms_pass)
    torch.testing.assert_close(run.relevance[0], setting.explain(model, x.detach()), rtol=1e-6, atol=1e-9)
    assert run.ledger is not None and run.ledger.closed
