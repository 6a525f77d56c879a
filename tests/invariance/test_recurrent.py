"""Where torch chooses the spelling by the memory layout, the map must not follow it."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import nn


@pytest.mark.parametrize("rules", ["epsilon", "gamma", "alpha-beta"])
@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_batch_is_its_samples(cell: type[nn.RNNBase], rules: str) -> None:
    """``batch_first`` gives mm and add for n > 1, whose input is not contiguous, and addmm for 1."""
    torch.manual_seed(0)
    net = cell(3, 4, num_layers=2, batch_first=True).double()
    x = torch.randn(3, 5, 3, dtype=torch.float64)

    def explained(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        with lrp.record():
            y = net(x)[0][:, -1]
        return lrp.relevance(y, x, rules=rules)[0]

    apart = torch.cat([explained(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(explained(x), apart, rtol=1e-7, atol=1e-9)
