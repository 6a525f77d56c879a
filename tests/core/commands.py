"""The command line as a function of its arguments, and the source of a pack made for one test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Result]
MakePack = Callable[..., None]


PACK = """
from typing import ClassVar
from dynamiclrp_core.families import custom, linear
from dynamiclrp_core.packs.hookspecs import hookimpl
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
