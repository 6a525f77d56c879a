"""Every row of core itself has samples, and each sample builds its node."""

from __future__ import annotations

import pytest

from tests.built import Built, check_loaded_late, each, of_pack, rows_without_sample

NAMES = {
    "CopySlices": "torch::autograd::CopySlices",
    "CopyBackwards": "torch::autograd::CopyBackwards",
    "torch.nn.modules._functions.BackwardHookFunction": "BackwardHookFunctionBackward",
    "torch.utils.checkpoint.CheckpointFunction": "CheckpointFunctionBackward",
    "dynamiclrp_core.mark.StopRelevance": "StopRelevanceBackward",
}


def test_every_row_has_a_sample() -> None:
    assert rows_without_sample("core") == set()


def test_labels_differ() -> None:
    names = [str(sample) for sample in of_pack("core")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("built", each("core"), ids=str)
def test_builds_its_node(built: Built) -> None:
    built.check_builds_node(NAMES.get(built.sample.node, built.sample.node))


@pytest.mark.parametrize("built", each("core"), ids=str)
def test_no_samples(built: Built) -> None:
    built.check_no_samples()


def test_rules_load_without_samples() -> None:
    check_loaded_late("dynamiclrp_core.packs.core_samples")
