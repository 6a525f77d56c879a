"""The command line, run through its entry point, on the installed packs and on packs made here."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import dynamiclrp_core as lrp
import pytest
from dynamiclrp_core.families import elementwise
from dynamiclrp_core.registry import Registry


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


STD = f"std {importlib.metadata.version('dynamiclrp-rules-std')}"
Command = Callable[..., Result]
MakePack = Callable[..., None]


@pytest.fixture
def dynamiclrp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls what the console script calls."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="dynamiclrp")
    main = script.load()

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["dynamiclrp", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return Result(int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def make_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamiclrp_packs: Registry
) -> Iterator[MakePack]:
    """Installs a pack: a module and its metadata in a folder on the path. Gone afterwards."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    made: list[str] = []

    def make(name: str, source: str, version: str = "1.0") -> None:
        module = f"pack_{name}_{os.getpid()}_{tmp_path.name}".replace("-", "_")
        made.append(module)
        (site / f"{module}.py").write_text(source)
        info = site / f"dynamiclrp_rules_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: dynamiclrp-rules-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[dynamiclrp]\n{name} = {module}\n")
        dynamiclrp_packs.forget()

    yield make
    for module in made:
        sys.modules.pop(module, None)


PACK = """
from typing import ClassVar
from dynamiclrp_core.families import custom, linear
from dynamiclrp_core.hookspecs import hookimpl
from dynamiclrp_core.rule import Rule
from dynamiclrp_core.table import Rules
from dynamiclrp_core.testing import Sample

DYNAMICLRP_PACK_API = 1

class ByValue(Rule):
    "Sends the value on."
    conserves: ClassVar = "none"
    def value(self, op, *r): return r

class ByBoth(Rule):
    conserves: ClassVar = "exact"
    def coefficient(self, op, *c): return c
    def value(self, op, *r): return r

def seldom(op): return False
"""
ONE_ROW = PACK + "@hookimpl\ndef dynamiclrp_rules(): return [linear('SharedBackward0')]\n"


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


# -- rules coverage -------------------------------------------------------------------------------

MODELS = """
import torch
from torch import nn

class Odd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x + 1
    @staticmethod
    def backward(ctx, g): return g

class Sum2(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(7, 4), nn.Embedding(3, 4)
        self.head = nn.Linear(4, 2)
    def forward(self, ids):
        return {"logits": self.head(self.words(ids) + self.places(torch.arange(3)))}

def cnn():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    )
    return net.requires_grad_(False), (torch.randn(2, 1, 8, 8),)

def output():
    x = torch.randn(3, requires_grad=True)
    return (x * torch.randn(3)).relu()

def missing():
    x = torch.randn(3, requires_grad=True)
    return Odd.apply(Odd.apply(x).relu())

def text():
    return Sum2(), (torch.tensor([[1, 2, 3]]),)

def nothing():
    return (lambda x: None), (torch.randn(2),)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module in the current folder, as a user has it."""
    name = f"models_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def test_coverage_counts_nodes_of_a_model(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:cnn", "--json")
    assert result.code == 0
    assert result.json["covered"] == {
        "ConvolutionBackward0": 2,
        "ReluBackward0": 2,
        "ViewBackward0": 1,
        "AddmmBackward0": 1,
    }
    assert result.json["missing"] == {}
    assert result.json["fraction"] == 1
    assert result.json["promises"]["promises"] == 0  # the default rules ask for nothing here

    text = dynamiclrp("rules", "coverage", f"{models}:cnn").out
    assert "100.0% of the nodes have a rule" in text
    (line,) = [line for line in text.splitlines() if line.startswith("ConvolutionBackward0")]
    assert line.split() == ["ConvolutionBackward0", "2", "covered"]


def test_coverage_counts_the_promises_of_a_preset(dynamiclrp: Command, models: str) -> None:
    # Frozen biases are dropped by autograd: without record() this would be Unrecoverable.
    result = dynamiclrp("rules", "coverage", f"{models}:cnn", "--rules", "dynamiclrp", "--json")
    assert result.code == 0
    assert result.json["promises"]["promises"] > 0
    assert result.json["promises"]["sources"]["recorded"] > 0


def test_coverage_of_an_output_tensor(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:output", "--json")
    assert result.code == 0
    assert result.json["covered"] == {"MulBackward0": 1, "ReluBackward0": 1}


def test_coverage_with_a_missing_rule_exits_1(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:missing", "--json")
    assert result.code == 1
    ((node, count),) = result.json["missing"].items()
    assert node.endswith("Odd")
    assert count == 2
    assert result.json["covered"] == {"ReluBackward0": 1}
    assert result.json["fraction"] == pytest.approx(1 / 3)
    assert result.json["promises"] is None

    result = dynamiclrp("rules", "coverage", f"{models}:missing")
    assert result.code == 1
    assert "33.3% of the nodes have a rule" in result.out
    assert "missing" in next(line for line in result.out.splitlines() if node in line)


def test_coverage_of_token_ids_takes_a_layer(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:text")
    assert result.code == 1
    assert result.err.startswith("InvalidInput: ")
    result = dynamiclrp("rules", "coverage", f"{models}:text", "--layer", "words", "--json")
    assert result.code == 0
    assert result.json["covered"]["AddBackward0"] == 1
    assert "EmbeddingBackward0" not in result.json["covered"]


@pytest.mark.parametrize("wrong", ["{}:absent", "no_such_module_:make", "not a name"])
def test_coverage_of_what_cannot_be_loaded(dynamiclrp: Command, models: str, wrong: str) -> None:
    result = dynamiclrp("rules", "coverage", wrong.format(models))
    assert result.code == 2
    assert "cannot be loaded" in result.err


def test_coverage_of_a_model_without_tensors(dynamiclrp: Command, models: str) -> None:
    result = dynamiclrp("rules", "coverage", f"{models}:nothing")
    assert result.code == 1
    assert "without a tensor" in result.err


# -- packs ----------------------------------------------------------------------------------------


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


# -- demo -----------------------------------------------------------------------------------------


def test_demo_hands_over_its_options(dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    fake = types.SimpleNamespace(main=lambda **options: calls.append(options))
    monkeypatch.setitem(sys.modules, "dynamiclrp_core.demo", fake)
    assert dynamiclrp("demo").code == 0
    assert dynamiclrp("demo", "--out", "here", "--quick").code == 0
    assert calls == [
        {"out": Path("demo-output"), "quick": False},
        {"out": Path("here"), "quick": True},
    ]


def test_demo_of_a_folder(dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[object, ...]] = []
    fake = types.SimpleNamespace(explain_folder=lambda *args: called.append(args))
    monkeypatch.setitem(sys.modules, "dynamiclrp_core.demo_text", fake)
    assert dynamiclrp("demo", "--model", "there", "--text", "a cat", "--text", "b", "--out", "o").code == 0
    assert dynamiclrp("demo", "--model", "there").code == 0
    assert called == [
        (Path("there"), ["a cat", "b"], Path("o/text.html")),
        (Path("there"), [], Path("demo-output/text.html")),
    ]


def test_demo_names_what_is_not_installed(dynamiclrp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def main(**options: object) -> None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setitem(sys.modules, "dynamiclrp_core.demo", types.SimpleNamespace(main=main))
    result = dynamiclrp("demo")
    assert result.code == 1
    assert "the demo needs sklearn" in result.err
    assert "pip install 'dynamiclrp-core[demo]'" in result.err
