"""The kit a pack author runs: samples that build a node, and checks that hold for every rule.

Imports no test framework unless ``parametrize_pack`` is told of failures to expect. A check takes a
``Case`` and ``Rules`` and raises AssertionError with what it saw; ``check_rule`` runs all of them,
``parametrize_pack`` lists what to run them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BrokenPack, DynamicLRPError
from ..packs.plugins import samples
from ..samples import Sample
from ..table import Rules
from . import checks, variants
from .case import Case, hidden_values
from .checks import Check

CHECKS: dict[str, Check] = {**checks.CHECKS, **variants.VARIANTS}
"""All checks by name; docs/conformance.md lists them."""


def check_rule(case: Case, rules: Rules, of: Mapping[str, Check] = CHECKS) -> None:
    """All checks (or those in ``of``) on one case, but those that its sample excuses.

    Raises AssertionError naming the check, the sample and what differs, or the error that a run raised.
    """
    for name, check in of.items():
        if name not in case.sample.excused:
            try:
                check(case, rules)
            except (AssertionError, DynamicLRPError) as error:
                raise AssertionError(f"check {name!r}: {error}") from error


def parametrize_pack(pack: str, n: int = 2, expected_failed: Mapping[str, str] | None = None) -> list[Any]:
    """One case per sample of an installed pack and per choice of live operands.

    ``pytest.mark.parametrize("case", parametrize_pack("std"), ids=str)``.

    expected_failed   {node, sample or case: reason}: those become strict xfails of pytest, so one that
                      passes fails

    Raises BrokenPack if ``expected_failed`` names nothing in the pack.
    """
    cases = [
        Case(sample, live, n=n, dtype=sample.precision)
        for label, sample in samples()
        if label.split()[0] == pack
        for live in sample.subsets()
    ]
    if not expected_failed:
        return cases
    import pytest

    known = {name for case in cases for name in _names(case)}
    if unknown := sorted(set(expected_failed) - known):
        raise BrokenPack(f"expected_failed names no node, sample or case of {pack}: {', '.join(unknown)}")
    marked = []
    for case in cases:
        reason = next((expected_failed[name] for name in _names(case) if name in expected_failed), None)
        raises = (AssertionError, DynamicLRPError)
        xfail = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=raises)]
        marked.append(pytest.param(case, marks=xfail, id=str(case)))
    return marked


def _names(case: Case) -> tuple[str, str, str]:
    return str(case), str(case.sample), case.sample.node


__all__ = ["CHECKS", "Case", "Check", "Sample", "check_rule", "hidden_values", "parametrize_pack"]
