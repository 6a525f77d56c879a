"""Averages and integrals over maps, and occlusion, against what they must be where that is known."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.packs.plugins import presets
from torch import Tensor, nn


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).double()


def image(n: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(n, 2, 4, 4, dtype=torch.float64)


def test_smooth_is_the_mean_over_noise_of_each_samples_size() -> None:
    model, x = net(), image()
    x[1] *= 100
    seen: list[Tensor] = []

    class Spy(lrp.LRP):
        def attribute(self, inputs, *args, **kwargs):
            seen.append(inputs)
            return super().attribute(inputs, *args, **kwargs)

    generator = torch.Generator().manual_seed(3)
    got = lrp.smooth(Spy(model, rules="gamma"), x, 1, samples=50, noise=0.2, generator=generator)
    assert len(seen) == 50
    expected = torch.zeros_like(x)
    for point in seen:
        expected += lrp.LRP(model, rules="gamma").attribute(point, target=1)
    torch.testing.assert_close(got, expected / 50)
    for n in range(2):
        spread = float(x[n].max() - x[n].min())
        noise = torch.stack([point[n] - x[n] for point in seen])
        assert float(noise.std()) == pytest.approx(0.2 * spread, rel=0.1)
    again = lrp.smooth(lrp.LRP(model), x, 1, samples=3, generator=torch.Generator().manual_seed(5))
    twice = lrp.smooth(lrp.LRP(model), x, 1, samples=3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(again, twice)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_are_complete(baseline: float) -> None:
    """With plain gradients the map adds up to the difference of the outputs."""
    model, x = net(), image()
    got = lrp.integrated(lrp.LRP(model, rules="guided-backprop"), x, 1, baseline=baseline, steps=100)
    with torch.no_grad():
        rise = model(x)[:, 1] - model(torch.full_like(x, baseline))[:, 1]
    torch.testing.assert_close(got.sum((1, 2, 3)), rise, rtol=1e-3, atol=1e-3)


def test_integrated_values() -> None:
    """Rules that give values: the mean of R / x on the path."""
    model, x = net(), image()
    rules = lrp.preset("epsilon-plus-flat")
    got = lrp.integrated(lrp.LRP(model, rules=rules), x, 1, steps=3)
    expected = torch.zeros_like(x)
    for t in (1 / 6, 3 / 6, 5 / 6):
        expected += x / 3 * lrp.LRP(model, rules=rules).attribute(t * x, target=1) / (t * x)
    torch.testing.assert_close(got, expected)


def test_occlusion_of_an_additive_model_is_its_relevance() -> None:
    x, w = image(), torch.randn(2, 4, 4, dtype=torch.float64)
    got = lrp.occlusion(lambda t: (t * w).sum((1, 2, 3)), x, window=(2, 2))
    parts = (x * w).sum(1)
    for n in range(2):
        for i in range(4):
            for j in range(4):
                a, b = 2 * (i // 2), 2 * (j // 2)
                fall = float(parts[n, a : a + 2, b : b + 2].sum()) / 8
                assert got[n, :, i, j].tolist() == pytest.approx([fall, fall])
    torch.testing.assert_close(got.sum((1, 2, 3)), parts.sum((1, 2)))


def test_overlapping_and_cut_windows_are_averaged() -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    got = lrp.occlusion(lambda t: t.sum(1), x, window=(2,), stride=(1,))
    falls = [(1 + 2) / 2, (2 + 4) / 2, 4.0]
    assert got[0].tolist() == pytest.approx([falls[0], (falls[0] + falls[1]) / 2, (falls[1] + falls[2]) / 2])
    with pytest.raises(lrp.InvalidInput, match="does not fit"):
        lrp.occlusion(lambda t: t.sum(1), x, window=(2, 2))


def test_occlusion_and_relevance_agree_on_what_matters() -> None:
    """A net that looks at the upper left quarter only."""
    model, x = net(), image()
    mask = torch.zeros(4, 4, dtype=torch.float64)
    mask[:2, :2] = 1

    def looks(t: Tensor) -> Tensor:
        return model(t * mask)

    hidden = lrp.occlusion(looks, x, 1, window=(2, 2))
    relevance = lrp.LRP(looks, rules="gamma").attribute(x, target=1)
    for found in (hidden, relevance):
        inside = found.abs().sum(1)[:, :2, :2].sum()
        assert float(inside) == pytest.approx(float(found.abs().sum()))


@pytest.mark.parametrize("name", presets())
def test_averages_and_paths_take_every_preset_on_frozen_models(name: str) -> None:
    """The mean over the noise drawn; over a path of one step from 0, the map of its middle, doubled."""
    bounds = {"low": -9.0, "high": 9.0} if name == "epsilon-gamma-box" else {}
    model, x = net().requires_grad_(False), image()
    explainer = lrp.LRP(model, rules=lrp.preset(name, **bounds))
    drawn: list[Tensor] = []

    class Spy(lrp.LRP):
        def attribute(self, inputs, *args, **kwargs):
            drawn.append(inputs)
            return super().attribute(inputs, *args, **kwargs)

    mean = lrp.smooth(Spy(model, rules=explainer.rules), x, 1, samples=2)
    torch.testing.assert_close(mean, sum(explainer.attribute(point, 1) for point in drawn) / 2)
    path = lrp.integrated(explainer, x, 1, steps=1)
    torch.testing.assert_close(path, 2 * explainer.attribute(x / 2, 1))


def test_says_what_cannot_be_averaged() -> None:
    model, x = net(), image()
    explainer = lrp.LRP(model)
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: lrp.smooth(explainer, x, 1, samples=0), "samples=0: there is nothing"),
        (lambda: lrp.smooth(explainer, x, 1, noise=-0.1), "a standard deviation is not negative"),
        (lambda: lrp.smooth(model, x, 1), r"Sequential explains nothing.\n  cure: lrp.LRP\("),  # type: ignore[arg-type]
        (lambda: lrp.smooth(explainer, (x, x), 1), "inputs is a tuple: one tensor"),  # type: ignore[arg-type]
        (lambda: lrp.integrated(explainer, x, 1, steps=0), "steps=0: there is nothing"),
        (lambda: lrp.integrated(explainer, x, 1, baseline=torch.zeros(5)), r"baseline \(5,\) does not fit"),
        (lambda: lrp.integrated(explainer, x, 1, baseline=torch.zeros(2, *x.shape)), "does not fit inputs"),
        (lambda: lrp.occlusion(model, x, 1, window=4), "tuples of positive sizes"),  # type: ignore[arg-type]
        (lambda: lrp.occlusion(model, x, 1, window=(2, 2), stride=(0, 1)), "tuples of positive sizes"),
        (lambda: lrp.occlusion(model, x, 1, window=(2, 2), stride=(1,)), "tuples of positive sizes"),
        (lambda: lrp.occlusion(model, x, 1, window=(1, 1, 2, 2)), "does not fit inputs"),
    ]
    for call, text in wrong:
        with pytest.raises(lrp.InvalidInput, match=text):
            call()
