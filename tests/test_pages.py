"""The code of the pages runs, each page from top to bottom, and prints as many lines as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["cnn", "porting", "presets", "tuning"])
def test_the_code_of_the_page_runs(page: str, capsys, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)  # pictures go there
    text = (DOCS / f"{page}.md").read_text()
    names: dict[str, object] = {}
    for block in re.finditer(r"```python\n(.*?)```(?:\n```\n(.*?)```)?", text, re.S):
        capsys.readouterr()
        exec(compile(block.group(1), f"{page}.md", "exec"), names)
        if block.group(2) is not None:
            assert len(capsys.readouterr().out.splitlines()) == len(block.group(2).splitlines())
