"""Packs: found through the entry-point group ``dynamiclrp``, loaded once, checked loudly."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pluggy

from ..errors import BrokenPack, DynamicLRPError
from ..rule import Row
from ..table import Rules
from . import hookspecs

if TYPE_CHECKING:
    from ..samples import Sample

GROUP = "dynamiclrp"


@dataclass(frozen=True)
class Pack:
    """An installed pack. ``error`` says why it could not be loaded."""

    name: str
    version: str
    module: Any = None
    error: str | None = None

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def torch(self) -> str:
        """The releases of torch that its rows were run on, as it states them."""
        return getattr(self.module, "DYNAMICLRP_TORCH", "")


def _selected(names: Sequence[str] | None) -> Sequence[str] | None:
    if names is not None:
        return names
    chosen = os.environ.get("DYNAMICLRP_PACKS")
    return None if chosen is None else [n.strip() for n in chosen.split(",") if n.strip()]


def entry_points() -> list[Any]:
    """The entry points that name packs."""
    return list(importlib.metadata.entry_points(group=GROUP))


def forget() -> None:
    """Look packs up again at the next use. A process does so once by itself."""
    for cached in (_manager, _rules, _preset):
        cached.cache_clear()


def installed(names: Sequence[str] | None = None) -> list[Pack]:
    """Packs that entry points name, broken ones included, sorted by name.

    ``names`` (or the environment variable DYNAMICLRP_PACKS, comma separated) selects some of them;
    the rows of core itself are always there.
    """
    from . import core_pack

    chosen = _selected(names)
    packs = [Pack("core", _version("dynamiclrp-core"), core_pack)]
    points = sorted(entry_points(), key=lambda p: p.name)
    for point in points:
        if chosen is not None and point.name not in chosen:
            continue
        version = point.dist.version if point.dist is not None else "?"
        try:
            module = point.load()
            _check_api(point.name, version, module)
            packs.append(Pack(point.name, version, module))
        except ModuleNotFoundError as error:
            lacks = f"it needs the module {error.name}, which is not installed here"
            packs.append(Pack(point.name, version, error=lacks))
        except Exception as error:
            packs.append(Pack(point.name, version, error=f"{type(error).__name__}: {error}"))
    if chosen is not None:
        missing = set(chosen) - {p.name for p in packs}
        if missing:
            raise BrokenPack(
                f"DYNAMICLRP_PACKS names packs that are not installed: {', '.join(sorted(missing))} "
                f"(installed: {', '.join(p.name for p in points)})"
            )
    return packs


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "source"


def _check_api(name: str, version: str, module: Any) -> None:
    api = getattr(module, "DYNAMICLRP_PACK_API", None)
    if api != hookspecs.PACK_API:
        raise BrokenPack(
            f"pack {name} {version} was written for pack API {api}, this core has "
            f"{hookspecs.PACK_API}: install a version of {name} that fits, or of dynamiclrp-core"
        )


@lru_cache(maxsize=8)
def _manager(names: tuple[str, ...] | None) -> tuple[pluggy.PluginManager, tuple[Pack, ...]]:
    manager = pluggy.PluginManager("dynamiclrp")
    manager.add_hookspecs(hookspecs)
    packs = installed(names)
    broken = [p for p in packs if p.error]
    if broken:
        # Skipping a pack would change attributions in silence.
        raise BrokenPack(
            "\n".join(f"pack {p.label} cannot be loaded: {p.error}" for p in broken)
            + "\n  cure: repair or uninstall it, or choose packs with DYNAMICLRP_PACKS=std,attention"
        )
    for pack in packs:
        try:
            manager.register(pack.module, name=pack.name)
        except pluggy.PluginValidationError as error:
            raise BrokenPack(f"pack {pack.label} cannot be loaded: {error}") from error
    return manager, tuple(packs)


def _collect(names: Sequence[str] | None, hook: str) -> dict[Pack, Any]:
    chosen = _selected(names)
    manager, packs = _manager(None if chosen is None else tuple(chosen))
    by_name = {p.name: p for p in packs}
    made: dict[Pack, Any] = {}
    for impl in getattr(manager.hook, hook).get_hookimpls():
        pack = by_name[impl.plugin_name]
        try:
            made[pack] = impl.function()
        except DynamicLRPError:
            raise
        except Exception as error:
            raise BrokenPack(f"pack {pack.label}: {hook}() failed: {error!r}") from error
    return dict(sorted(made.items(), key=lambda item: item[0].name))


@lru_cache(maxsize=8)
def _rules(names: tuple[str, ...] | None) -> Rules:
    tables: dict[str, list[Row]] = {}
    for pack, rows in _collect(names, "dynamiclrp_rules").items():
        tables[pack.label] = list(rows)
        for row in tables[pack.label]:
            if not isinstance(row, Row):
                raise BrokenPack(f"pack {pack.label}: dynamiclrp_rules() gave {row!r}, not a Row")
    return Rules.joined(tables)


def load_rules(packs: Sequence[str] | None = None) -> Rules:
    """The rows of all installed packs (or of ``packs``), with their default rules.

    Raises BrokenPack, DuplicateRule.
    """
    chosen = _selected(packs)
    return _rules(None if chosen is None else tuple(chosen))


def presets(packs: Sequence[str] | None = None) -> dict[str, Callable[..., Rules]]:
    """All presets by name. Raises BrokenPack if two packs give one name."""
    found: dict[str, Callable[..., Rules]] = {}
    owner: dict[str, str] = {}
    for pack, given in _collect(packs, "dynamiclrp_presets").items():
        for name, make in given.items():
            if name in found:
                raise BrokenPack(f"preset {name!r} is in two packs: {owner[name]} and {pack.label}")
            found[name], owner[name] = make, pack.label
    return found


def needed(make: Callable[..., Rules]) -> list[str]:
    """Parameters that a preset has no default for: bounds of the input, say, which nobody can guess."""
    return [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]


def preset(name: str, **parameters: Any) -> Rules:
    """The rules of a preset: ``preset("gamma", gamma=0.1)``. Compose further with ``|``.

    Raises DynamicLRPError for an unknown name (listing the known ones) or a preset that needs parameters,
    and TypeError or pydantic.ValidationError for parameters that do not fit.
    """
    chosen = _selected(None)
    packs = None if chosen is None else tuple(chosen)
    given = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in parameters.items())
    try:
        hash(given)
    except (
        TypeError
    ):  # a parameter that no cache can hold: the preset says what is wrong with it, if anything
        return _preset.__wrapped__(name, packs, given)
    return _preset(name, packs, given)


@lru_cache(maxsize=32)  # what a table works out about node types is worked out once
def _preset(name: str, packs: tuple[str, ...] | None, parameters: tuple[tuple[str, Any], ...]) -> Rules:
    known = presets(packs)
    if name not in known:
        raise DynamicLRPError(
            f"no preset {name!r}; there are: {', '.join(sorted(known))}.\n"
            "  cure: one of these, or Rules of your own"
        )
    given = dict(parameters)
    if lacking := [p for p in needed(known[name]) if p not in given]:
        example = ", ".join(f"{p}=..." for p in lacking)
        raise DynamicLRPError(
            f"preset {name!r} cannot do without {', '.join(lacking)}: lrp.preset({name!r}, {example})"
        )
    takes = [*inspect.signature(known[name]).parameters]
    if unknown := [p for p in given if p not in takes]:
        raise TypeError(
            f"preset {name!r} has no {', '.join(unknown)}; it has: {', '.join(takes) or 'nothing'}"
        )
    made = load_rules(packs) | known[name](**given)
    rows = {n: row if row.pack else replace(row, pack=f"{name} preset") for n, row in made.rows.items()}
    return Rules(rows=rows, overrides=made.overrides, name=name, packs=made.packs)


def samples(packs: Sequence[str] | None = None) -> list[tuple[str, Sample]]:
    """(pack label, sample) of all packs."""
    return [(pack.label, s) for pack, ss in _collect(packs, "dynamiclrp_samples").items() for s in ss]


__all__ = [
    "Pack",
    "entry_points",
    "forget",
    "installed",
    "load_rules",
    "needed",
    "preset",
    "presets",
    "samples",
]
