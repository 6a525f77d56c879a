"""The demo in its quick form: what it prints, what it writes, what it leaves alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from dynamiclrp_core.cli import demo


class Shown(NamedTuple):
    text: str
    folder: Path
    state_kept: bool


def quick(folder: Path, capture: pytest.CaptureFixture[str]) -> Shown:
    before = torch.random.get_rng_state()
    demo.main(folder, quick=True)
    kept = torch.equal(before, torch.random.get_rng_state())
    text = " ".join(capture.readouterr().out.split())  # however wide the console is
    return Shown(text, folder, kept)


def test_demo_shows_the_main_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = quick(tmp_path / "first", capsys)
    accuracy = re.search(r"([\d.]+)% read", first.text)
    assert accuracy is not None and float(accuracy[1]) > 80
    assert "5 read as" in first.text
    for rules in ("default", "epsilon-plus", "gamma", "dynamiclrp"):
        assert len(re.findall(re.escape(rules), first.text)) >= 2  # promises, rules used
    assert "Gamma(" in first.text and "ZPlus(" in first.text
    assert "relevance ledger" in first.text and "NOT EXPLAINED" not in first.text
    for what in ("forward", "gradient", "relevance, default"):
        assert re.search(rf"{what}\s+[\d.]+ ms", first.text)
    assert re.search(r"[1-9]\d* nodes", first.text)
    assert re.search(r"names the word after 'password:': [\d.]+% of 200", first.text)
    for rules in ("default", "cp-lrp", "dynamiclrp", r"gradient \* input"):
        assert re.search(rf"{rules} +[\d.]+%", first.text)
    assert (first.folder / "text.html").read_text().count("<p>") == 12
    for name in ("digits.png", "photograph.png"):
        assert (first.folder / name).read_bytes().startswith(b"\x89PNG")
    assert first.state_kept

    torch.rand(7)  # wherever the caller's generator stands
    second = quick(tmp_path / "second", capsys)
    for name in ("digits.png", "text.html"):
        heatmaps = [(shown.folder / name).read_bytes() for shown in (first, second)]
        assert heatmaps[0] == heatmaps[1]


def test_the_test_images_are_not_trained_on() -> None:
    data = demo.digits()
    assert len(data.train) + len(data.test) == 1797
    assert len(data.train) == len(data.train_class) and len(data.test) == len(data.test_class)
    assert float(data.train.min()) >= 0 and float(data.train.max()) <= 1
    assert sorted(set(data.test_class.tolist())) == list(range(10))
