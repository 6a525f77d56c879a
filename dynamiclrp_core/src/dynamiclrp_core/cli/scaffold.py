"""``dynamiclrp rules new``: a pack to start from, which passes the conformance kit as it is written."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from string import Template

from ..errors import DynamicLRPError
from ..packs.hookspecs import PACK_API

TEMPLATES = Path(__file__).parent / "templates"


def write_pack(name: str, into: Path) -> Path:
    """Write pack ``name`` (letters, digits, dashes) into a new folder below ``into``; returns the folder.

    Raises DynamicLRPError for a name that is no package name, or if the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise DynamicLRPError(
            f"{name!r} is no name for a pack: small letters, digits and single dashes, such as my-pack"
        )
    folder = into / name
    if folder.exists():
        raise DynamicLRPError(f"{folder} exists already: choose another name, or another --into")
    major, minor = version("dynamiclrp-core").split(".")[:2]
    words = {
        "name": name,
        "module": "dynamiclrp_rules_" + name.replace("-", "_"),
        "api": str(PACK_API),
        "torch": ".".join(version("torch").split(".")[:2]),
        "core": f">={major}.{minor},<{major}.{int(minor) + 1}",
    }
    for template in sorted(TEMPLATES.rglob("*.template")):
        relative = template.relative_to(TEMPLATES).with_suffix("")
        path = folder / str(relative).replace("MODULE", words["module"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(template.read_text()).substitute(words))
    return folder
