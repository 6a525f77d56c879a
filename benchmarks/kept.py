"""Figures kept in a JSON file, so that a table can be made in several sittings, and tables of a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from measuring import Found

BELOW = "<!-- Below: written by the command. Above: by hand. -->"


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(str(c) for c in cells) + " |"


def table(head: Sequence[str], left: int, rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table; the first ``left`` columns are text, the others figures."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [row(*head), row(*rule), *[row(*cells) for cells in rows], ""]


def measured(results: Sequence[Found]) -> str:
    """When, and on what."""
    days = sorted({f["date"] for f in results if "date" in f})
    machines = sorted({f["machine"] for f in results if "machine" in f})
    when = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
    return f"Measured {when}. " + " ".join(f"{m}." for m in machines)


class Kept:
    """The results in ``path`` (None: in memory only). One with the same ``key`` takes the older's place."""

    def __init__(self, path: Path | None, *key: str) -> None:
        self.path, self.key = path, key
        self.results: list[Found] = []
        self._read()

    def _read(self) -> None:
        if self.path is not None and self.path.exists():
            self.results = json.loads(self.path.read_text())

    def add(self, *made: Found) -> None:
        """Keep, and write at once; another sitting may have written meanwhile."""
        self._read()
        again = {self._name(f) for f in made}
        self.results = [f for f in self.results if self._name(f) not in again] + list(made)
        if self.path is not None:
            self.path.write_text(json.dumps(self.results, indent=1) + "\n")

    def _name(self, found: Found) -> tuple[object, ...]:
        return tuple(found.get(k) for k in self.key)


def write_page(path: Path, lines: Sequence[str]) -> None:
    """Write the tables below what is written by hand in ``path``."""
    above = path.read_text().split(BELOW)[0] if path.exists() else ""
    path.write_text("\n".join([above + BELOW, "", *lines]))
