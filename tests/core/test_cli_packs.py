"""``dynamiclrp packs`` and what it says of broken packs and of two that claim one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dynamiclrp_core as lrp
import pytest

from tests.core.commands import PACK, Command, MakePack

ONE_ROW = PACK + "@hookimpl\ndef dynamiclrp_rules(): return [linear('SharedBackward0')]\n"


def test_packs_lists_what_is_installed(dynamiclrp: Command) -> None:
    result = dynamiclrp("packs", "--json")
    assert result.code == 0
    packs = {p["pack"]: p for p in result.json["packs"]}
    assert {"core", "std", "attention", "ssm"} <= set(packs)
    assert {p["status"] for p in packs.values()} == {"ok"}
    assert result.json["conflicts"] == []
    assert sum(p["rules"] for p in packs.values()) == len(lrp.load_rules())
    assert packs["core"]["presets"] == ["default"]
    assert "default" not in packs["std"]["presets"]
    assert "gamma" in packs["std"]["presets"]

    assert {p["torch"] for p in packs.values()} == {"2.13"}

    text = dynamiclrp("packs").out
    (line,) = [line for line in text.splitlines() if line.startswith("std ")]
    assert line.split()[1:3] == [packs["std"]["version"], "ok"]


BROKEN = {
    "no import": ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
    "old api": ("DYNAMICLRP_PACK_API = 0", "was written for pack API 0"),
    "failing hook": (PACK + "@hookimpl\ndef dynamiclrp_rules(): 1 / 0", "ZeroDivisionError"),
    "no rows": (PACK + "@hookimpl\ndef dynamiclrp_rules(): return [1]", "gave 1, not a Row"),
    "core's row": (
        PACK + "@hookimpl\ndef dynamiclrp_rules(): return [linear('CopySlices')]",
        "CopySlices has a rule in two packs",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_pack_is_located(dynamiclrp: Command, make_pack: MakePack, source: str, reason: str) -> None:
    make_pack("bad", source, version="3.1")
    result = dynamiclrp("packs", "--json")
    assert result.code == 1
    packs = {p["pack"]: p for p in result.json["packs"]}
    assert (packs["bad"]["version"], packs["bad"]["status"]) == ("3.1", "broken")
    assert reason in packs["bad"]["error"]
    assert {p["status"] for name, p in packs.items() if name != "bad"} == {"ok"}

    listed = dynamiclrp("rules", "list")
    assert (listed.code, listed.out) == (1, "")
    assert "bad 3.1" in listed.err
    assert reason in listed.err


def test_a_broken_pack_can_be_left_out(
    dynamiclrp: Command, make_pack: MakePack, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack("bad", "1 / 0")
    monkeypatch.setenv("DYNAMICLRP_PACKS", "std")
    assert dynamiclrp("rules", "list").code == 0
    listed = dynamiclrp("packs", "--json")
    assert listed.code == 0
    assert [p["pack"] for p in listed.json["packs"]] == ["core", "std"]


def test_a_rule_in_two_packs_is_a_conflict(dynamiclrp: Command, make_pack: MakePack) -> None:
    make_pack("left", ONE_ROW)
    assert dynamiclrp("packs").code == 0
    make_pack("right", ONE_ROW, version="2.0")
    result = dynamiclrp("packs", "--json")
    assert result.code == 1
    assert result.json["conflicts"] == [
        {"what": "rule", "name": "SharedBackward0", "packs": ["left 1.0", "right 2.0"]}
    ]
    assert {p["status"] for p in result.json["packs"]} == {"ok"}  # each alone is fine

    text = dynamiclrp("packs").out
    (line,) = [line for line in text.splitlines() if "SharedBackward0" in line]
    assert line.split() == ["rule", "SharedBackward0", "left", "1.0", "right", "2.0"]
    assert "DYNAMICLRP_PACKS" in text

    listed = dynamiclrp("rules", "list")
    assert (listed.code, listed.out) == (1, "")
    assert listed.err.startswith("DuplicateRule: ")
    assert "left 1.0" in listed.err
    assert "right 2.0" in listed.err


def test_a_preset_in_two_packs_is_a_conflict(dynamiclrp: Command, make_pack: MakePack) -> None:
    hook = "@hookimpl\ndef dynamiclrp_presets(): return {'mine': Rules}\n"
    make_pack("left", PACK + hook)
    make_pack("right", PACK + hook)
    result = dynamiclrp("packs", "--json")
    assert result.code == 1
    assert result.json["conflicts"] == [
        {"what": "preset", "name": "mine", "packs": ["left 1.0", "right 1.0"]}
    ]


def test_the_exit_code_reaches_the_shell(make_pack: MakePack) -> None:
    make_pack("bad", "1 / 0")
    command = [str(Path(sys.executable).parent / "dynamiclrp"), "rules", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pack bad 1.0 cannot be loaded: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tells_that_a_pack_was_run_on_another_torch(
    dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = dynamiclrp("rules", "check", "core", "--node", "CopyBackwards")
    assert here.code == 0 and "was run on" not in here.out
    monkeypatch.setattr("torch.__version__", "2.99.0")
    there = dynamiclrp("rules", "check", "core", "--node", "CopyBackwards")
    assert there.code == 0 and "core was run on torch 2.13" in there.out
