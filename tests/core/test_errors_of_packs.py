"""Errors about packs: they name the pack, its version, the cause and the cure."""

from __future__ import annotations

from typing import Any

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.packs import plugins
from dynamiclrp_core.packs.registry import Registry

from tests.core.messages import contains


def test_duplicate_rules() -> None:
    row = elementwise("SinBackward0")
    with pytest.raises(lrp.DuplicateRule) as info:
        lrp.Rules.of(row, row)
    contains(info, "SinBackward0")
    with pytest.raises(lrp.DuplicateRule) as info:
        lrp.Rules.joined({"one 1.0": [row], "two 2.1": [row]})
    contains(info, "SinBackward0", "one 1.0", "two 2.1", "DYNAMICLRP_PACKS")


class Pack:
    DYNAMICLRP_PACK_API = 1


@pytest.fixture
def packs(dynamiclrp_packs: Registry) -> Any:
    """``packs((name, module), ...)``: these are installed, and no others."""

    def install(*given: tuple[str, Any]) -> None:
        dynamiclrp_packs.only(*(name for name, _ in given))
        for name, module in given:
            dynamiclrp_packs.add_module(name, module, "9.9")

    return install


def test_a_pack_that_does_not_import(packs: Any) -> None:
    packs(("sad", ImportError("no module named sorrow")))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "sad 9.9", "no module named sorrow", "cure", "DYNAMICLRP_PACKS")


def test_a_pack_for_another_api(packs: Any) -> None:
    class Old:
        DYNAMICLRP_PACK_API = 0

    packs(("old", Old))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "old 9.9", "pack API 0", "has 1")


def test_a_pack_whose_hook_fails_or_gives_nonsense(packs: Any) -> None:
    class Fails(Pack):
        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_rules() -> Any:
            raise ValueError("oh no")

    packs(("fails", Fails))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "fails 9.9", "dynamiclrp_rules()", "oh no")

    class Nonsense(Pack):
        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_rules() -> Any:
            return ["SinBackward0"]

    packs(("nonsense", Nonsense))
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "nonsense 9.9", "SinBackward0", "not a Row")


def test_two_packs_with_one_node_or_one_preset(packs: Any) -> None:
    class Rows(Pack):
        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_rules() -> Any:
            return [elementwise("SinBackward0")]

        @staticmethod
        @lrp.hookimpl
        def dynamiclrp_presets() -> Any:
            return {"mine": lambda: lrp.Rules()}

    class Same(Rows):
        pass

    packs(("a", Rows), ("b", Same))
    with pytest.raises(lrp.DuplicateRule) as info:
        lrp.load_rules()
    contains(info, "SinBackward0", "a 9.9", "b 9.9")
    with pytest.raises(lrp.BrokenPack) as info:
        plugins.presets()
    contains(info, "'mine'", "a 9.9", "b 9.9")


def test_packs_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules(packs=("nowhere",))
    contains(info, "nowhere", "not installed", "std")
    monkeypatch.setenv("DYNAMICLRP_PACKS", "std, elsewhere")
    with pytest.raises(lrp.BrokenPack) as info:
        lrp.load_rules()
    contains(info, "elsewhere")
