"""State-space models of transformers, small and random: no missing rule, nothing lost, MambaLRP as published.

The oracle is transformers' Mamba slow path with MambaLRP's detaches written in by hand (arXiv 2406.07592,
``mamba_huggingface.py`` of its authors, slow path): gradient times input of that is the map.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import Tensor, nn
from transformers.models.mamba.modeling_mamba import MambaMixer, MambaRMSNorm

TOKENS: dict[str, Any] = dict(vocab_size=30, pad_token_id=0, bos_token_id=1, eos_token_id=2)
SMALL: dict[str, Any] = dict(**TOKENS, hidden_size=16, num_hidden_layers=2)
HEADS: dict[str, Any] = dict(num_attention_heads=2, num_key_value_heads=1)


def recurrent_gemma() -> nn.Module:
    config = hf.RecurrentGemmaConfig(
        **{**SMALL, "num_hidden_layers": 3},
        **HEADS,
        lru_width=16,
        intermediate_size=48,
        attention_window_size=8,
    )
    return hf.RecurrentGemmaForCausalLM(config)


def jamba() -> nn.Module:
    config = hf.JambaConfig(
        **SMALL, **HEADS, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
        expert_layer_offset=1, num_experts=2, intermediate_size=24, mamba_d_state=4, mamba_dt_rank=4,
    )  # fmt: skip
    return hf.JambaForCausalLM(config)


def qwen3_next() -> nn.Module:
    config = hf.Qwen3NextConfig(
        **SMALL, **HEADS, layer_types=["linear_attention", "full_attention"], head_dim=8,
        intermediate_size=24, linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=4,
        linear_value_head_dim=4, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
    )  # fmt: skip
    return hf.Qwen3NextForCausalLM(config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(**SMALL, state_size=4)),
    "mamba-2": lambda: hf.Mamba2ForCausalLM(
        hf.Mamba2Config(**SMALL, state_size=4, num_heads=4, head_dim=8, n_groups=2, chunk_size=4)
    ),
    "falcon-mamba": lambda: hf.FalconMambaForCausalLM(hf.FalconMambaConfig(**SMALL, state_size=4)),
    "rwkv": lambda: hf.RwkvForCausalLM(hf.RwkvConfig(**SMALL, attention_hidden_size=16, context_length=32)),
    "recurrent-gemma": recurrent_gemma,
    "jamba": jamba,
    "qwen3-next": qwen3_next,
    "xlstm": lambda: hf.xLSTMForCausalLM(
        hf.xLSTMConfig(**SMALL, num_heads=2, num_blocks=2, chunk_size=3, mode="train")
    ),
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for p in model.parameters():  # biases, and whatever else starts at 0 or 1
            p.add_(0.1 * torch.randn_like(p))
    return model


def embedded(model: nn.Module, ids: Tensor) -> Tensor:
    made: Tensor = model.get_input_embeddings()(ids).detach()  # type: ignore[operator]
    return made.requires_grad_()


def logit(model: nn.Module, x: Tensor) -> Tensor:
    with lrp.record():
        made: Tensor = model(inputs_embeds=x, use_cache=False).logits[:, -1, 5]
    return made


IDS = torch.tensor([[3, 17, 8, 9, 25, 11], [4, 4, 21, 7, 13, 29]])


@pytest.mark.parametrize("rules", ["default", "mambalrp"])
@pytest.mark.parametrize("name", MODELS)
def test_model(name: str, rules: str) -> None:
    """No missing rule; finite; closed books; frozen == trainable; batch == samples; again == first."""
    model = built(name)
    x = embedded(model, IDS)
    assert not lrp.coverage(logit(model, x), rules=rules, inputs=x).missing
    y = logit(model, x)
    run = lrp.propagate(y, x, rules=rules, ledger=True)
    (r,) = run.relevance
    assert bool(torch.isfinite(r).all()) and bool(r.any())
    assert run.ledger is not None and abs(run.ledger.residue) <= run.ledger.tolerance, str(run.ledger)
    # What stands in a buffer of zeros before the first write is not known to anybody.
    assert {node for node, _ in run.ledger.unattributed} <= {"CopySlices"}, str(run.ledger)
    torch.testing.assert_close(lrp.relevance(y, x, rules=rules)[0], r)
    scale = float(r.abs().max())
    for k in range(len(IDS)):
        one = embedded(model, IDS[k : k + 1])
        (alone,) = lrp.relevance(logit(model, one), one, rules=rules)
        torch.testing.assert_close(alone, r[k : k + 1], atol=2e-4 * scale, rtol=2e-3)
    frozen = built(name).requires_grad_(False)
    (same,) = lrp.relevance(logit(frozen, x), x, rules=rules)
    torch.testing.assert_close(same, r, atol=1e-5 * scale, rtol=1e-4)


class ByHand(MambaMixer):
    """MambaLRP's slow path: A, B, C discretised and detached, SiLU by the identity rule, half of the gate."""

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        x, gate = self.in_proj(hidden_states).transpose(1, 2).chunk(2, dim=1)
        x = identity(F.silu, self.conv1d(x)[..., : x.shape[-1]])
        rank, n = self.time_step_rank, self.ssm_state_size
        step, b, c = self.x_proj(x.transpose(1, 2)).split([rank, n, n], dim=-1)
        step = F.softplus(self.dt_proj(step)).transpose(1, 2)
        decay = torch.exp(-torch.exp(self.A_log)[None, :, None] * step[..., None]).detach()
        key = (step[..., None] * b[:, None]).detach()
        state, read = torch.zeros_like(decay[:, :, 0]), []
        for t in range(x.shape[-1]):
            state = decay[:, :, t] * state + key[:, :, t] * x[:, :, t, None]
            read.append((state @ c[:, t, :, None].detach())[..., 0])
        y = (torch.stack(read, -1) + x * self.D[:, None]) * identity(F.silu, gate)
        made: Tensor = self.out_proj((y / 2 + (y / 2).detach()).transpose(1, 2))
        return made


class NormByHand(MambaRMSNorm):
    """RMSNorm with its statistic detached."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        scale = torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        made: Tensor = self.weight * (hidden_states * scale.detach())
        return made


def identity(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(x) whose gradient is f(x) / x."""
    return x * (f(x) / x).detach()


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' slow paths compute in float32 whatever the model is in; here in float64 throughout."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    cast = Tensor.to
    monkeypatch.setattr(
        Tensor, "to", lambda t, *a, **k: t.double() if a == (torch.float32,) else cast(t, *a, **k)
    )


@pytest.mark.usefixtures("in_double")
def test_mamba_is_mambalrp_as_its_authors_wrote_it() -> None:
    model = built("mamba").double()
    x = embedded(model, IDS)
    (r,) = lrp.relevance(logit(model, x), x, rules="mambalrp")
    (default,) = lrp.relevance(logit(model, x), x)
    held = copy.deepcopy(model)
    for module in held.modules():
        if isinstance(module, MambaMixer):
            module.__class__ = ByHand
        elif isinstance(module, MambaRMSNorm):
            module.__class__ = NormByHand
    y = logit(held, x)
    torch.testing.assert_close(y, logit(model, x), atol=1e-12, rtol=1e-12)
    (g,) = torch.autograd.grad(y.sum(), x)
    expected = (x * g).detach()
    assert r.dtype == torch.float64
    torch.testing.assert_close(r, expected, atol=1e-13, rtol=1e-10)
    assert float((default - expected).abs().max()) > 1e-5


@pytest.mark.usefixtures("in_double")
def test_without_biases_everything_reaches_the_input() -> None:
    torch.manual_seed(0)
    config = hf.MambaConfig(**SMALL, state_size=4, use_conv_bias=False)
    model = hf.MambaForCausalLM(config).double().eval()
    x = embedded(model, IDS)
    y = logit(model, x)
    (r,) = lrp.relevance(y, x, rules="mambalrp")
    torch.testing.assert_close(r.sum((1, 2)), y.detach(), atol=1e-14, rtol=1e-11)
