"""Every row of the attention pack has samples, and each sample builds its node."""

from __future__ import annotations

import pytest
from dynamiclrp_rules_attention import flex, moe

from tests.built import Built, check_loaded_late, each, of_pack, rows_without_sample

from .test_other_devices import CALLS

# Kernels of other devices, and Functions of libraries. test_other_devices.py is about them;
# test_flex.py is about flex_attention; tests/models has the model that calls BLOOM's GELU.
ELSEWHERE = {
    *CALLS,
    "CudnnAttentionBackward0",
    "FusedRmsNormBackward0",
    *(
        f"flash_attn.flash_attn_interface.FlashAttn{name}Func"
        for name in ("", "Varlen", "KVPacked", "VarlenKVPacked", "QKVPacked", "VarlenQKVPacked")
    ),
    flex.FLEX,
    flex.READ,
    moe.FALLBACK,
    "transformers.models.bloom.modeling_bloom.GeLUFunction",
}


def test_every_row_has_a_sample() -> None:
    assert rows_without_sample("attention") == ELSEWHERE


def test_labels_differ() -> None:
    names = [str(sample) for sample in of_pack("attention")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("built", each("attention"), ids=str)
def test_builds_its_node(built: Built) -> None:
    built.check_builds_node(built.sample.node)


@pytest.mark.parametrize("built", each("attention"), ids=str)
def test_no_samples(built: Built) -> None:
    built.check_no_samples()


def test_rules_load_without_samples() -> None:
    check_loaded_late("dynamiclrp_rules_attention.samples")
