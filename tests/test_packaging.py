"""The four wheels: what is inside, and that pip installs them by name as it will from an index.

No network: the build uses the installed hatchling, the install only the folder of wheels. Third
party dependencies are lent to the empty environment as links, without any dynamiclrp among them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKS = {"std": "dynamiclrp_rules_std", "attention": "dynamiclrp_rules_attention"}
PACKS |= {"ssm": "dynamiclrp_rules_ssm"}
PACKAGES = ("dynamiclrp_core", *PACKS.values())
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "DYNAMICLRP"))}

pytestmark = pytest.mark.xdist_group("packaging")  # one worker, so that wheels are built once


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, env=CLEAN, capture_output=True, text=True)


def checked(*command: object, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    packages = [ROOT / package for package in PACKAGES]
    checked(sys.executable, "-m", "pip", "wheel", *options, *packages, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to what is installed here, but for dynamiclrp (editable installs included)."""
    folder = tmp_path_factory.mktemp("third_party")
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for item in Path(site).iterdir():
            if "dynamiclrp" not in item.name and item.suffix != ".pth":
                (folder / item.name).symlink_to(item)
    return folder


@pytest.fixture
def environment(tmp_path: Path, third_party: Path) -> Path:
    """The bin folder of a virtual environment without dynamiclrp."""
    checked(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "third_party.pth").write_text(f"{third_party}\n")
    return tmp_path / "env" / "bin"


def install(environment: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    pip = (sys.executable, "-m", "pip", "--python", environment / "python", "install")
    return run(*pip, "--no-index", *arguments, cwd=environment)


def opened(wheels: Path, package: str) -> zipfile.ZipFile:
    (wheel,) = wheels.glob(f"{package}-*.whl")
    return zipfile.ZipFile(wheel)


def metadata(wheels: Path, package: str) -> Message:
    with opened(wheels, package) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(wheel.read(name).decode())


def entry_points(wheels: Path, package: str) -> list[str]:
    with opened(wheels, package) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt")]
        return [line for line in wheel.read(name).decode().splitlines() if line]


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_holds_the_package_typed_and_nothing_else(wheels: Path, package: str) -> None:
    with opened(wheels, package) as wheel:
        names = wheel.namelist()
    assert f"{package}/py.typed" in names
    here = {
        path.relative_to(ROOT / package / "src").as_posix()
        for path in (ROOT / package / "src").rglob("*")
        if path.suffix in (".py", ".template", ".typed")
    }
    there = {name for name in names if ".dist-info/" not in name}
    assert there == here
    assert metadata(wheels, package)["License-Expression"] == "Apache-2.0"


def test_core_brings_the_command_the_plugin_and_no_pack(wheels: Path) -> None:
    assert entry_points(wheels, "dynamiclrp_core") == [
        "[console_scripts]",
        "dynamiclrp = dynamiclrp_core.cli:main",
        "[pytest11]",
        "dynamiclrp_pytest = dynamiclrp_pytest",
    ]
    required = [Requirement(r) for r in metadata(wheels, "dynamiclrp_core").get_all("Requires-Dist")]
    always = {r.name for r in required if r.marker is None}
    assert always == {"torch", "pluggy", "pydantic", "numpy", "typer", "rich"}


@pytest.mark.parametrize(("name", "package"), PACKS.items())
def test_pack_names_its_module_and_the_core_it_fits(wheels: Path, name: str, package: str) -> None:
    assert entry_points(wheels, package) == ["[dynamiclrp]", f"{name} = {package}"]
    (required,) = metadata(wheels, package).get_all("Requires-Dist")
    assert Requirement(required) == Requirement("dynamiclrp-core>=0.1,<0.2")


def test_install_by_name_gives_a_working_command(environment: Path, wheels: Path) -> None:
    done = install(environment, "--find-links", wheels, "dynamiclrp-core", "dynamiclrp-rules-std")
    assert done.returncode == 0, done.stderr
    imported = "import dynamiclrp_core as lrp; print(lrp.__file__)"
    origin = Path(checked(environment / "python", "-c", imported, cwd=environment).strip())
    assert origin.is_relative_to(environment.parent)
    rules = json.loads(checked(environment / "dynamiclrp", "rules", "list", "--json", cwd=environment))
    # Attention is installed beside the tests, not here: the rows are those of the new install.
    assert {rule["pack"] for rule in rules} == {"core 0.1.0", "std 0.1.0"}
    assert "MulBackward0" in {rule["node"] for rule in rules}


def test_a_generated_pack_installs_is_found_and_passes(environment: Path, wheels: Path) -> None:
    """``rules new`` from the installed wheel; the pack is built as a wheel itself, and used."""
    home = environment.parent
    assert install(environment, "--find-links", wheels, "dynamiclrp-core").returncode == 0
    command = environment / "dynamiclrp"
    checked(command, "rules", "new", "my-pack", cwd=home)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", home / "made")
    checked(sys.executable, "-m", "pip", "wheel", *options, home / "my-pack", cwd=home)
    done = install(
        environment, "--find-links", wheels, "--find-links", home / "made", "dynamiclrp-rules-my-pack"
    )
    assert done.returncode == 0, done.stderr
    (found,) = [
        pack
        for pack in json.loads(checked(command, "packs", "--json", cwd=home))["packs"]
        if "my-pack" in str(pack)
    ]
    assert not found["error"]
    (verdict,) = json.loads(checked(command, "rules", "check", "my-pack", "--json", cwd=home))
    assert verdict["state"] == "fits" and verdict["checks"] > 5 and "Cube" in verdict["node"]
    tested = checked(
        environment / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", home / "my-pack", cwd=home
    )
    assert " passed" in tested and "failed" not in tested
    again = run(command, "rules", "new", "my-pack", cwd=home)
    assert again.returncode == 1 and "exists already" in again.stderr


def test_a_pack_without_its_core_is_refused(environment: Path, wheels: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (wheel,) = wheels.glob("dynamiclrp_rules_std-*.whl")
    (alone / wheel.name).symlink_to(wheel)
    done = install(environment, "--find-links", alone, "dynamiclrp-rules-std")
    assert done.returncode != 0
    assert "No matching distribution found for dynamiclrp-core<0.2,>=0.1" in done.stderr
