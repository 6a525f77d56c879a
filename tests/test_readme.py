"""The README's example runs and prints what the README says (digits of rounding errors aside)."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_prints_what_it_says(capsys) -> None:  # type: ignore[no-untyped-def]
    text = README.read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)
    shown = re.search(r"```python\n.*?```\n```\n(.*?)```", text, re.S)
    assert code is not None and shown is not None
    exec(compile(code.group(1), "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    expected = shown.group(1).splitlines()
    assert len(printed) == len(expected)
    for got, wanted in zip(printed, expected):
        if wanted.lstrip().startswith(("epsilon", "residue")):
            assert got.split()[0] == wanted.split()[0]
        else:
            assert got == wanted
