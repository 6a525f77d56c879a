"""Fixtures of several files."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.packs.registry import Registry

from tests.core.commands import Command, MakePack, Result


@pytest.fixture
def forget_recordings() -> None:
    """No recording of an earlier test may help, or disturb, this one."""
    for _ in range(8):
        with lrp.record():
            pass
    gc.collect()


@pytest.fixture
def dynamiclrp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls what the console script calls."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="dynamiclrp")
    main = script.load()

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["dynamiclrp", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def make_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamiclrp_packs: Registry
) -> Iterator[MakePack]:
    """Installs a pack: a module and its metadata in a folder on the path. Gone afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    made: list[str] = []

    def make(name: str, source: str, version: str = "1.0") -> None:
        module = f"pack_{name}_{os.getpid()}_{tmp_path.name}".replace("-", "_")
        made.append(module)
        (site / f"{module}.py").write_text(source)
        info = site / f"dynamiclrp_rules_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: dynamiclrp-rules-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[dynamiclrp]\n{name} = {module}\n")
        dynamiclrp_packs.forget()

    yield make
    for module in made:
        sys.modules.pop(module, None)
