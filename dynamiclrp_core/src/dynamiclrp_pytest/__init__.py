"""The pytest plugin of dynamiclrp: packs of one test. Outside of its fixture it imports nothing of the core.

A package of its own, because pytest imports the plugins of all installed packages at every start.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dynamiclrp_core.packs.registry import Registry


@pytest.fixture
def dynamiclrp_packs() -> Iterator[Registry]:
    """The installed packs, to which a test adds its own: ``dynamiclrp_packs.add("mine", *rows)``.

    Everything looked up before the test is looked up again, and what the test added is gone after it.
    """
    from dynamiclrp_core.packs.registry import isolated

    with isolated() as registry:
        yield registry
