"""What an error says."""

from __future__ import annotations

from typing import Any


def contains(info: Any, *parts: str) -> None:
    """Every part is in the message of what ``pytest.raises`` caught."""
    for part in parts:
        assert part in str(info.value), f"{part!r} is not in:\n{info.value}"
