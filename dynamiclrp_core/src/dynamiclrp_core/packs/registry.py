"""Packs that only exist for a while: what the pytest fixture ``dynamiclrp_packs`` hands to a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from ..rule import Row
from ..samples import Sample
from ..table import Rules
from . import plugins
from .hookspecs import PACK_API, hookimpl


@dataclass(frozen=True)
class _Point:
    """An entry point of a pack that is not installed."""

    name: str
    version: str
    module: Any

    @property
    def dist(self) -> Any:
        return SimpleNamespace(version=self.version)

    def load(self) -> Any:
        if isinstance(self.module, BaseException):
            raise self.module
        return self.module


class Registry:
    """The packs that are found: the installed ones, and what is added here."""

    def __init__(self) -> None:
        self._added: list[_Point] = []
        self._only: tuple[str, ...] | None = None

    def add(
        self,
        name: str,
        *rows: Row,
        version: str = "0.0",
        presets: Mapping[str, Callable[..., Rules]] | None = None,
        samples: Iterable[Sample] = (),
    ) -> None:
        """A pack of these rows, presets and samples, as if it were installed."""
        given = {"rules": rows, "presets": presets or {}, "samples": tuple(samples)}
        hooks = {f"dynamiclrp_{what}": hookimpl(_giving(held)) for what, held in given.items()}
        module = ModuleType(name)
        vars(module).update(hooks, DYNAMICLRP_PACK_API=PACK_API)
        self.add_module(name, module, version)

    def add_module(self, name: str, module: Any, version: str = "0.0") -> None:
        """A pack of an object with hooks, as a module has them; an exception is raised at its import."""
        self._added.append(_Point(name, version, module))
        self.forget()

    def only(self, *names: str) -> None:
        """Leave no other packs; the core's rows are always there."""
        self._only = names
        self.forget()

    def among(self, installed: Iterable[Any]) -> list[Any]:
        """Entry points to find."""
        return [p for p in (*installed, *self._added) if self._only is None or p.name in self._only]

    @staticmethod
    def forget() -> None:
        """Look everything up again at the next use: what is installed has changed."""
        plugins.forget()


def _giving(held: Any) -> Callable[[], Any]:
    return lambda: held


@contextmanager
def isolated() -> Iterator[Registry]:
    """A registry of its own, until the block ends."""
    registry, installed = Registry(), plugins.entry_points
    plugins.forget()
    try:
        with mock.patch.object(plugins, "entry_points", lambda: registry.among(installed())):
            yield registry
    finally:
        plugins.forget()


__all__ = ["Registry", "isolated"]
