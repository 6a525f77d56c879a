"""Packs of one test, the pytest plugin that hands them out, and failures that a pack expects."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dynamiclrp_core as lrp
import pytest
import torch
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.packs import plugins
from dynamiclrp_core.packs.registry import Registry, isolated
from dynamiclrp_core.samples import Sample
from dynamiclrp_core.testing import Case, check_rule, parametrize_pack

SINC = Sample("SincBackward0", torch.sinc)
ERF = Sample("ErfinvBackward0", torch.erfinv, domain="unit")
OWN = elementwise("OwnBackward0", forward=lambda op, x: x)


def test_a_pack_of_a_test_is_found_and_vanishes() -> None:
    before = lrp.load_rules()
    with isolated() as packs:
        packs.add("mine", OWN, version="3.1", presets={"my-own": lrp.Rules}, samples=[SINC])
        assert lrp.load_rules()["OwnBackward0"].pack == "mine 3.1"
        assert "my-own" in plugins.presets() and ("mine 3.1", SINC) in plugins.samples()
        assert set(lrp.load_rules()) == {*before, "OwnBackward0"}
        with isolated():
            assert "OwnBackward0" in lrp.load_rules()
        packs.only("mine")
        assert "std" not in {p.name for p in plugins.installed()}
    assert set(lrp.load_rules()) == set(before) and "my-own" not in plugins.presets()


def test_the_fixture_is_that(dynamiclrp_packs: Registry) -> None:
    dynamiclrp_packs.add("mine", OWN)
    assert "OwnBackward0" in lrp.load_rules()


def test_nothing_of_it_is_left() -> None:
    assert "OwnBackward0" not in lrp.load_rules()


def test_the_plugin_imports_neither_core_nor_torch() -> None:
    code = "import sys, dynamiclrp_pytest; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "dynamiclrp_pytest" in done.stdout.split()
    assert not {"torch", "dynamiclrp_core"} & set(done.stdout.split())


def test_the_line_of_the_error_settles_two_packs_with_one_node(
    dynamiclrp_packs: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamiclrp_packs.add("left", OWN, version="1.5")
    dynamiclrp_packs.add("right", OWN, version="2.0")
    with pytest.raises(lrp.DuplicateRule, match=r"OwnBackward0.*left 1\.5 and right 2\.0") as info:
        lrp.load_rules()
    lines = [line.strip() for line in str(info.value).splitlines() if "DYNAMICLRP_PACKS=" in line]
    owners = []
    for line in lines:
        name, _, value = line.partition("=")
        with monkeypatch.context() as here:
            here.setenv(name, value)
            rules = lrp.load_rules()
        owners.append(rules["OwnBackward0"].pack)
        assert "MulBackward0" in rules  # the other packs stay
    assert owners == ["left 1.5", "right 2.0"]


def test_a_pack_without_its_dependency_says_what_it_lacks(dynamiclrp_packs: Registry) -> None:
    missing = ModuleNotFoundError("No module named 'triton_of_old'", name="triton_of_old")
    dynamiclrp_packs.add_module("fast", missing, "0.3")
    with pytest.raises(lrp.BrokenPack, match=r"pack fast 0\.3 .* needs the module triton_of_old") as info:
        lrp.propagate(torch.ones(2, requires_grad=True).exp())
    assert "cure" in str(info.value)


# -- parametrize_pack -------------------------------------------------------------------------------


def wrong_sinc(op: Any, x: torch.Tensor) -> torch.Tensor:
    return x.cos()


@pytest.fixture
def two(dynamiclrp_packs: Registry) -> None:
    """A pack of a right row and a wrong one, alone."""
    dynamiclrp_packs.only("two")
    right = elementwise("ErfinvBackward0", "self", forward=lambda op, x: x.erfinv())
    wrong = elementwise("SincBackward0", "self", forward=wrong_sinc)
    dynamiclrp_packs.add("two", right, wrong, samples=[ERF, SINC])


def test_cases_of_a_pack(two: None) -> None:
    cases = parametrize_pack("two")
    assert [str(case) for case in cases] == ["ErfinvBackward0-0", "SincBackward0-0"]
    check_rule(cases[0], lrp.load_rules())
    with pytest.raises(AssertionError):
        check_rule(cases[1], lrp.load_rules())


@pytest.mark.parametrize("name", ["SincBackward0", "SincBackward0-0"])
def test_expected_failures_are_strict(two: None, name: str) -> None:
    fine, marked = parametrize_pack("two", expected_failed={name: "known"})
    assert not fine.marks
    (mark,) = marked.marks
    assert mark.name == "xfail" and mark.kwargs["strict"] and mark.kwargs["reason"] == "known"
    assert isinstance(marked.values[0], Case) and marked.id == "SincBackward0-0"


def test_an_expected_failure_of_nothing_is_an_error(two: None) -> None:
    with pytest.raises(lrp.BrokenPack, match="names no node, sample or case of two: SinhBackward0"):
        parametrize_pack("two", expected_failed={"SinhBackward0": "a typo"})
