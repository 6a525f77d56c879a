"""Large dense layers are worked off in pieces: the same map as by all contributions at once."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor

EPS = 1e-6


def by_contributions(terms: Tensor, bias: Tensor, r: Tensor, rule: str) -> Tensor:
    """Relevance of one sample's inputs from ``terms[i, j] = x_i w_ij``."""
    z = terms.sum(0) + bias
    if rule == "z+":
        terms, bias = terms.clamp(min=0), bias.clamp(min=0)
    else:
        terms = torch.where(terms * z > 0, 1.25 * terms, terms)
        bias = torch.where(bias * z > 0, 1.25 * bias, bias)
    whole = terms.sum(0) + bias
    return (terms / torch.where(whole < 0, whole - EPS, whole + EPS) * r).sum(1)


@pytest.mark.parametrize("rule", [lrp.ZPlus(), lrp.Gamma()], ids=["z+", "gamma"])
@pytest.mark.parametrize("x_first", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_large_layers_by_their_contributions(rule: lrp.Rule, x_first: bool, signed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(700, 801, dtype=torch.float64, generator=generator)  # 4.5 MB: three pieces
    b = torch.randn(801, dtype=torch.float64, generator=generator)
    x = torch.randn(2, 700, dtype=torch.float64, generator=generator)
    x = (x if signed else x.abs()).requires_grad_()
    with lrp.record():
        y = torch.addmm(b, x, w) if x_first else torch.addmm(b[:, None], w.mT.contiguous(), x.mT).mT
    run = lrp.propagate(y, x, rules=lrp.load_rules() | lrp.override(affine=rule), ledger=True)
    name = "z+" if isinstance(rule, lrp.ZPlus) else "gamma"
    expected = torch.stack(
        [by_contributions(xn[:, None] * w, b, yn, name) for xn, yn in zip(x.detach(), y.detach())]
    )
    torch.testing.assert_close(run.relevance[0], expected, rtol=1e-9, atol=1e-9)
    assert run.ledger is not None
    assert run.ledger.closed, str(run.ledger)
