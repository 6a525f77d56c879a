"""The snippets of docs/ run, in order, in one namespace per page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["attention.md", "readouts.md"]


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(page: str) -> None:
    pytest.importorskip("transformers")
    snippets = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert snippets
    names: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        for i, snippet in enumerate(snippets):
            exec(compile(snippet, f"{page}, snippet {i + 1}", "exec"), names)
