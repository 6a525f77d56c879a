"""Writes lxt/NAME.json: what LXT 2.1 says of the tiny models. Not a test; run by hand.

In an environment of its own (LXT's BERT does not import under transformers 5):

    pip install lxt==2.1 transformers==4.52.4 torchvision && python tests/agreement/make_lxt_fixtures.py

LXT patches classes for good, so every model and rule set gets a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.agreement.tiny import MODELS, explained, given  # noqa: E402

RULES = ("attnlrp", "cp-lrp")
GAMMA = "cp-lrp, gamma"  # LXT's example for vision transformers: 0.25 on convolutions, 0.05 on layers


def patch(name: str, rules: str) -> None:
    """LXT's own patch map where it has one; BERT's CP-LRP and the ViT's AttnLRP made of LXT's parts."""
    from lxt.efficient import monkey_patch
    from lxt.efficient import rules as rule
    from lxt.efficient.models import bert, gemma3, gpt2, llama, qwen2, qwen3, vit_torch
    from lxt.efficient.patches import patch_method
    from torch import nn
    from torch.nn import functional as F

    if name == "vit":
        maps = dict(vit_torch.cp_LRP)
        if rules == "attnlrp":

            def attention(self: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
                q, k, v = (rule.divide_gradient(t, n) for t, n in zip((q, k, v), (4, 4, 2)))
                return self.original_forward(q, k, v, *args, **kwargs)

            attention.__module__ = "lxt.efficient.patches"
            maps[nn.MultiheadAttention] = partial(patch_method, attention, keep_original=True)
        monkey_patch(vit_torch.vision_transformer, maps)
    elif name == "bert":
        monkey_patch(bert.modeling_bert)
        if rules == "cp-lrp":
            plain = F.scaled_dot_product_attention

            def held(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
                return plain(q.detach(), k.detach(), v, *args, **kwargs)

            bert.divide_gradient = lambda x, factor: x
            F.scaled_dot_product_attention = held
    else:
        module = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3, "gemma3": gemma3, "gpt2": gpt2}[name]
        maps = module.attnLRP if rules == "attnlrp" else module.cp_LRP
        monkey_patch(getattr(module, f"modeling_{name}"), maps)


def _register_gamma(model: Any) -> None:
    """zennit's rules on the modules that are called, as in LXT's examples/vit_torch.py."""
    from lxt.efficient import monkey_patch_zennit
    from torch import nn
    from zennit.composites import LayerMapComposite
    from zennit.rules import Gamma

    monkey_patch_zennit()
    LayerMapComposite([(nn.Conv2d, Gamma(0.25)), (nn.Linear, Gamma(0.05))]).register(model)


def one(name: str, rules: str) -> dict[str, Any]:
    """Relevance by LXT: input times the patched gradient."""
    patch(name, rules)
    model = MODELS[name]("sdpa" if name == "bert" else "eager")
    if rules == GAMMA:
        _register_gamma(model)
    x = given(name)
    y = explained(name, model, x)
    y.backward()
    assert x.grad is not None
    return {"output": y.item(), "relevance": (x * x.grad).flatten().tolist()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) == 3:
        print(json.dumps(one(*sys.argv[1:])))
        sys.exit()
    for name in sys.argv[1:] or MODELS:
        made = {}
        for rules in (*RULES, GAMMA) if name == "vit" else RULES:
            command = [sys.executable, "-W", "ignore", __file__, name, rules]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            made[rules] = json.loads(done.stdout.splitlines()[-1])
        (HERE / "lxt").mkdir(exist_ok=True)
        (HERE / "lxt" / f"{name}.json").write_text(json.dumps(made) + "\n")
        print(name, {rules: round(found["output"], 6) for rules, found in made.items()})
