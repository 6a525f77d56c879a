"""Torch's losses and the same spelled out; losses of several nodes; kernels that are refused."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.rules_std.loss_tools import C, N, random

TARGET = torch.tensor([2, 0, 3])
SOFT = random(N, C, seed=4).softmax(-1)


def picked(x: Tensor) -> Tensor:
    return x.log_softmax(-1).gather(1, TARGET[:, None])[:, 0]


SPELLINGS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "cross entropy": (lambda x: F.cross_entropy(x, TARGET), lambda x: -picked(x).mean()),
    "cross entropy, smooth": (
        lambda x: F.cross_entropy(x, TARGET, label_smoothing=0.2),
        lambda x: -(0.8 * picked(x) + 0.05 * x.log_softmax(-1).sum(-1)).mean(),
    ),
    "cross entropy of odds": (
        lambda x: F.cross_entropy(x, SOFT),
        lambda x: -(x.log_softmax(-1) * SOFT).sum() / N,
    ),
    "cross entropy of pixels": (
        lambda x: F.cross_entropy(x.T[None], TARGET[None, :], reduction="sum"),
        lambda x: -picked(x).sum(),
    ),
    "odds": (
        lambda x: F.binary_cross_entropy_with_logits(x, SOFT),
        lambda x: -(SOFT * x.sigmoid().log() + (1 - SOFT) * (-x.sigmoid()).log1p()).mean(),
    ),
    "kl": (
        lambda x: F.kl_div(x.log_softmax(-1), SOFT, reduction="sum"),
        lambda x: (SOFT * (SOFT.log() - x.log_softmax(-1))).sum(),
    ),
    "poisson": (lambda x: F.poisson_nll_loss(x, SOFT), lambda x: (x.exp() - SOFT * x).mean()),
    "ctc, logits": (
        lambda x: F.ctc_loss(x.log_softmax(-1)[:, None], torch.tensor([[1]]), (N,), (1,), reduction="sum"),
        # 1 alone, at any time and for any time: blanks on both sides
        lambda x: -torch.stack([
            torch.stack([x.log_softmax(-1)[t, int(start <= t < end)] for t in range(N)]).sum()
            for start in range(N) for end in range(start + 1, N + 1)
        ]).logsumexp(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("preset", ["default", "attnlrp", "cp-lrp"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_torch_s_loss_and_the_same_by_hand(name: str, preset: str) -> None:
    x = random(N, C).requires_grad_()
    fused, by_hand = (f(x) for f in SPELLINGS[name])
    assert torch.allclose(fused, by_hand)
    rules = lrp.preset(preset)
    assert torch.allclose(*(lrp.relevance(y, x, rules=rules)[0] for y in (fused, by_hand)), atol=1e-12)


MADE_OF_OTHER_NODES: dict[str, Callable[..., Tensor]] = {
    "gaussian": lambda a, b, c: F.gaussian_nll_loss(a, b, c.exp()),
    "triplet": F.triplet_margin_loss,
    "cosine": lambda a, b, c: F.cosine_embedding_loss(a, b, c.sign()[:, 0]),
    "hinge": lambda a, b, c: F.hinge_embedding_loss(a, b.sign()),
    "ranking": lambda a, b, c: F.margin_ranking_loss(a, b, c.sign()),
    "multilabel soft margin": lambda a, b, c: F.multilabel_soft_margin_loss(a, b.sigmoid()),
    "kl": lambda a, b, c: F.kl_div(a.log_softmax(-1), b.softmax(-1), reduction="batchmean"),
}


@pytest.mark.parametrize("name", MADE_OF_OTHER_NODES)
def test_losses_of_several_nodes(name: str) -> None:
    a, b, c = (random(N, C, seed=s).requires_grad_() for s in range(3))
    with lrp.record():
        y = MADE_OF_OTHER_NODES[name](a, b, c)
    run = lrp.propagate(y, (a, b, c), ledger=True, allow_unused=True)
    assert run.ledger is not None and run.ledger.closed, str(run.ledger)
    assert run.relevance[0].any()


@pytest.mark.parametrize("kind", ["CudnnCtcLossBackward", "MiopenCtcLossBackward"])
def test_kernels_that_keep_too_little_refuse_by_name(kind: str) -> None:
    rows = lrp.load_rules()
    for node in (f"{kind}0", f"{kind}1"):
        assert "lengths of the sequences" in rows[node].cases[-1][1].reason
