"""``LRP(model, layer=...)``: token ids, hidden layers, layers used twice; and what it passes on."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch
from torch import Tensor, nn


def net(bias: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6, bias=bias), nn.ReLU(), nn.Linear(6, 4, bias=bias)).double()


def data() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 4)
        self.positions = nn.Embedding(6, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, ids: Tensor, scale: float = 1.0) -> Tensor:
        h = self.embed(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(torch.nn.functional.gelu(self.norm(h)).mean(1)) * scale


@pytest.mark.parametrize("rules", ["default", "epsilon", "dynamiclrp"])
def test_token_ids_through_the_embedding_frozen_and_trainable(rules: str) -> None:
    ids = torch.tensor([[1, 2, 3], [4, 4, 0]])
    found = []
    for frozen in (False, True):
        model = Tokens().double().requires_grad_(not frozen)
        explainer = lrp.LRP(model, layer=model.embed, rules=rules)
        found.append(explainer.attribute(ids, target=1))
        assert found[-1].shape == (2, 3, 4)
        assert all(p.requires_grad is not frozen for p in model.parameters())
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)
    assert found[0].abs().sum() > 0


def test_the_map_of_a_layer_is_that_of_its_output_as_input() -> None:
    model = Tokens().double()
    ids = torch.tensor([[1, 2, 3], [4, 4, 0]])
    found = lrp.LRP(model, layer=model.embed).attribute(ids, 1, additional_forward_args=2.0)
    e = model.embed(ids).detach().requires_grad_()
    h = e + model.positions(torch.arange(3))
    y = model.head(torch.nn.functional.gelu(model.norm(h)).mean(1)) * 2.0
    torch.testing.assert_close(found, lrp.relevance(y[:, 1], e)[0])


def test_a_hidden_layer_frozen_trainable_and_in_place_after_it() -> None:
    x = data()
    for frozen in (False, True):
        model = net(bias=True).requires_grad_(not frozen)
        model[1] = nn.ReLU(inplace=True)
        found, delta = lrp.LRP(model, layer=model[0]).attribute(x, 1, return_convergence_delta=True)
        reference = net(bias=True)
        h = reference[0](x).detach().requires_grad_()
        y = reference[1:](h)[:, 1]
        torch.testing.assert_close(found, lrp.relevance(y, h)[0])
        assert delta.shape == (4,)


def test_a_layer_used_twice_gives_a_tensor_per_use() -> None:
    layer = nn.Linear(5, 5, bias=False, dtype=torch.float64)
    x = data()
    found = lrp.LRP(lambda t: layer(layer(t)), layer=layer).attribute(x, 1)
    assert isinstance(found, tuple) and len(found) == 2
    y = layer(layer(x))[:, 1].detach()
    torch.testing.assert_close(found[1][:, 1], y)
    torch.testing.assert_close(found[0].sum(1), y)


def test_token_ids_without_a_layer_and_a_layer_that_is_not_used() -> None:
    model = Tokens()
    with pytest.raises(lrp.InvalidInput, match="get_input_embeddings"):
        lrp.LRP(model).attribute(torch.tensor([[1, 2]]), 1)
    with pytest.raises(lrp.InvalidInput, match="not used"):
        lrp.LRP(model, layer=nn.Linear(1, 1)).attribute(torch.tensor([[1, 2]]), 1)


def test_arguments_of_propagate_and_the_last_run() -> None:
    model, x = net(bias=True), data()
    explainer = lrp.LRP(model, rules="epsilon")
    assert explainer.run is None
    found = explainer.attribute(x, 1, ledger=True, dtype=torch.float64)
    assert explainer.run is not None and explainer.run.relevance[0] is found
    assert "bias" in explainer.run.ledger.by_cause


@pytest.mark.parametrize("layer", ["embed", 3, [nn.Linear(1, 1), "embed"]], ids=str)
def test_a_layer_is_a_module(layer: object) -> None:
    with pytest.raises(lrp.InvalidInput, match=r"is no module: layer=model.get_submodule\(name\)"):
        lrp.LRP(Tokens(), layer=layer)  # type: ignore[arg-type]
