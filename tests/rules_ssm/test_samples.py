"""Every row of the ssm pack has samples, and each sample builds its node."""

from __future__ import annotations

import pytest
from dynamiclrp_core.node import kind

from tests.built import Built, check_loaded_late, each, of_pack, rows_without_sample


def test_every_row_has_a_sample() -> None:
    assert rows_without_sample("ssm") == set()


def test_labels_differ() -> None:
    names = [str(sample) for sample in of_pack("ssm")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("built", each("ssm"), ids=str)
def test_builds_its_node(built: Built) -> None:
    _, outputs = built.run()
    assert {kind(y.grad_fn) for y in outputs} == {built.sample.node}


@pytest.mark.parametrize("built", each("ssm"), ids=str)
def test_no_samples(built: Built) -> None:
    built.check_no_samples()


def test_rules_load_without_samples() -> None:
    check_loaded_late("dynamiclrp_rules_ssm.samples")
