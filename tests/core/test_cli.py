"""The command line, run through its entry point, on the installed packs and on packs made here."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import types
from pathlib import Path

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.packs.registry import Registry

from tests.core.commands import PACK, Command, MakePack

STD = f"std {importlib.metadata.version('dynamiclrp-rules-std')}"


# -- rules list -----------------------------------------------------------------------------------


def test_list_missing(dynamiclrp: Command) -> None:
    listed = dynamiclrp("rules", "list", "--missing", "--json")
    assert listed.code == 0
    states = {record["node"]: record["state"] for record in listed.json}
    assert states["ToMkldnnBackward0"] == "refused"
    table = dynamiclrp("rules", "list", "--missing")
    assert "node types in torch" in table.out and "oneDNN's opaque layout" in table.out


def test_docs(dynamiclrp: Command) -> None:
    printed = dynamiclrp("rules", "docs")
    assert printed.code == 0 and printed.out.startswith("# Rules\n") and "| ReluBackward0 |" in printed.out


def test_rules_list_has_a_line_for_every_row(dynamiclrp: Command) -> None:
    result = dynamiclrp("rules", "list")
    assert result.code == 0
    title, header, *lines = result.out.splitlines()
    assert header.split() == (
        "node family rule forward operands results form conserves pack source tested shadows".split()
    )
    assert [line.split()[0] for line in lines] == sorted(lrp.load_rules())
    assert title.startswith(f"{len(lines)} nodes")


def test_rules_list_of_one_pack(dynamiclrp: Command) -> None:
    records = dynamiclrp("rules", "list", "--pack", "ssm", "--json").json
    rows = [row.node for row in lrp.load_rules().values() if row.pack.startswith("ssm ")]
    assert [r["node"] for r in records] == sorted(rows) != []
    assert all(r["tested"] and r["source"] for r in records)
    result = dynamiclrp("rules", "list", "--pack", "sm")
    assert result.code == 1 and "there are: attention, core, ssm, std" in result.err


def test_rules_list_json_holds_the_same_records(dynamiclrp: Command) -> None:
    table = dynamiclrp("rules", "list").out.splitlines()[2:]
    records = dynamiclrp("rules", "list", "--json").json
    assert [line.split()[0] for line in table] == [record["node"] for record in records]
    bmm = next(r for r in records if r["node"] == "BmmBackward0")
    assert bmm["family"] == "affine"
    assert bmm["operands"] == ["self", "mat2"]
    assert bmm["rule"] == "bilinear: Product; Affine"
    assert bmm["forward"] is True
    assert bmm["pack"] == f"std {importlib.metadata.version('dynamiclrp-rules-std')}"


def test_rules_list_tells_the_facts_of_a_row(dynamiclrp: Command, make_pack: MakePack) -> None:
    make_pack(
        "facts",
        PACK
        + """
@hookimpl
def dynamiclrp_rules():
    yield linear("PlainBackward0", "self other", results="result", source="Someone 2020, eq. 7",
                 forward=lambda op, x, y: x)
    yield custom("ValueBackward0", ByValue(), "tensors*")
    yield custom("BothBackward0", ByBoth(), cases=((seldom, ByValue()),))

@hookimpl
def dynamiclrp_samples():
    return [Sample("PlainBackward0", lambda x: x)]
""",
        version="2.5",
    )
    records = {r["node"]: r for r in dynamiclrp("rules", "list", "--json").json}
    plain, value, both = (records[f"{n}Backward0"] for n in ("Plain", "Value", "Both"))
    assert plain == {
        "node": "PlainBackward0",
        "family": "linear",
        "rule": "Linear",
        "forward": True,
        "operands": ["self", "other"],
        "results": ["result"],
        "form": "coefficient",
        "conserves": "exact",
        "pack": "facts 2.5",
        "source": "Someone 2020, eq. 7",
        "tested": True,
        "shadows": "",
    }
    assert (value["forward"], value["tested"], value["operands"]) == (False, False, ["tensors*"])
    assert (value["form"], value["conserves"]) == ("value", "none")
    assert value["source"].endswith(".ByValue")
    # "none" holds in one of its cases, so no more is promised for the node.
    assert (both["form"], both["conserves"]) == ("coefficient value", "none")
    assert both["rule"] == "seldom: ByValue; ByBoth"


def test_rules_list_under_a_preset(dynamiclrp: Command) -> None:
    def rule_of_mul(*arguments: str) -> str:
        records = dynamiclrp("rules", "list", "--json", *arguments).json
        return next(str(r["rule"]) for r in records if r["node"] == "MulBackward0")

    listed = "softmax_by_hand: Gradient; gate: ScalarFunction; statistic: Held; divided: Quotient; Product"
    assert rule_of_mul() == listed
    assert rule_of_mul("--rules", "dynamiclrp") == "ProductRatio"
    for preset, shadowed in (("default", ""), ("dynamiclrp", f"{STD}: {listed}")):
        records = dynamiclrp("rules", "list", "--json", "--rules", preset).json
        assert next(r["shadows"] for r in records if r["node"] == "MulBackward0") == shadowed


def test_rules_list_tells_which_row_a_preset_puts_in_the_place_of_another(
    dynamiclrp: Command, dynamiclrp_packs: Registry
) -> None:
    own = lrp.Rules.of(elementwise("NegBackward0", forward=lambda op, x: -x), name="mine")
    dynamiclrp_packs.add("mine", presets={"mine": lambda: own})
    records = {r["node"]: r for r in dynamiclrp("rules", "list", "--json", "--rules", "mine").json}
    assert records["NegBackward0"]["pack"] == "mine preset"
    assert records["NegBackward0"]["shadows"].startswith(f"{STD}: ")
    assert records["MulBackward0"]["shadows"] == ""


def test_an_unknown_preset_is_an_error_that_lists_the_known(dynamiclrp: Command) -> None:
    result = dynamiclrp("rules", "list", "--rules", "defualt")
    assert (result.code, result.out) == (1, "")
    assert "no preset 'defualt'" in result.err
    assert "epsilon-plus" in result.err


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import dynamiclrp_core.cli as cli;"
        "cli.plugins.load_rules(); cli.plugins.samples();"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"matplotlib", "sklearn", "scipy", "pandas", "hypothesis", "pytest", "transformers"}
    assert "pydantic" in done.stdout.split()
    assert not heavy & set(done.stdout.split())


# -- rules show -----------------------------------------------------------------------------------


def test_rules_show_tells_cases_and_presets(dynamiclrp: Command) -> None:
    shown = dynamiclrp("rules", "show", "MulBackward0", "--json").json
    assert shown["family"] == "product"
    assert [(c["case"], c["rule"]) for c in shown["cases"]] == [
        ("softmax_by_hand", "Gradient()"),
        ("gate", "ScalarFunction()"),
        ("statistic", "Held()"),
        ("divided", "Quotient()"),
        ("otherwise", "Product()"),
    ]
    presets = {p["preset"]: p["rule"] for p in shown["presets"]}
    assert presets["dynamiclrp"] == "ProductRatio(epsilon=1e-11)"
    assert set(presets) >= {"default", "epsilon", "gamma", "epsilon-plus"}

    text = dynamiclrp("rules", "show", "MulBackward0").out
    assert "cases under 'default'" in text
    for fact in ("product", "ScalarFunction()", "ProductRatio(epsilon=1e-11)", "epsilon-plus"):
        assert fact in text


def test_rules_show_of_an_unknown_node_suggests_near_names(dynamiclrp: Command) -> None:
    result = dynamiclrp("rules", "show", "MulBackwrd0")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("MissingRule: ")
    assert "did you mean: MulBackward0" in result.err


# -- demo -----------------------------------------------------------------------------------------


def test_demo_hands_over_its_options(dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    fake = types.SimpleNamespace(main=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, "dynamiclrp_core.cli.demo", fake)
    assert dynamiclrp("demo").code == 0
    assert dynamiclrp("demo", "--out", "here", "--quick").code == 0
    assert calls == [
        {"out": Path("demo-output"), "quick": False},
        {"out": Path("here"), "quick": True},
    ]


def test_demo_of_a_folder(dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []
    fake = types.SimpleNamespace(explain_folder=lambda *args: called.append(args))
    monkeypatch.setitem(sys.modules, "dynamiclrp_core.cli.demo_text", fake)
    assert dynamiclrp("demo", "--model", "there", "--text", "a cat", "--text", "b", "--out", "o").code == 0
    assert dynamiclrp("demo", "--model", "there").code == 0
    assert called == [
        (Path("there"), ["a cat", "b"], Path("o/text.html")),
        (Path("there"), [], Path("demo-output/text.html")),
    ]


def test_demo_names_what_is_not_installed(dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(**options: object) -> None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setitem(sys.modules, "dynamiclrp_core.cli.demo", types.SimpleNamespace(main=main))
    result = dynamiclrp("demo")
    assert result.code == 1
    assert "the demo needs sklearn" in result.err
    assert "pip install 'dynamiclrp-core[demo]'" in result.err
