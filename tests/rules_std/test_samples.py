"""Every row of the std pack has samples, and each sample builds its node."""

from __future__ import annotations

import dynamiclrp_core as lrp
import pytest
import torch

from tests.built import Built, check_loaded_late, each, of_pack, rows_without_sample

# What torch itself refuses to do with a batch of none.
REFUSED = {
    "MaxBackward1": "max",
    "MaxBackward1-ties": "max",
    "MinBackward1": "min",
    "ForeachMaxBackward1": "maximum of an empty tensor",
    "AmaxBackward0-all": "amax",
    "AvgPool2DBackward0-unbatched": "optional 0 dim batch size",
    **dict.fromkeys(("FftR2CBackward0", "FftR2CBackward0-ortho", "FftR2CBackward0-2d-wrapped"), "FFT error"),
    **dict.fromkeys(("FftC2CBackward0", "FftC2CBackward0-inverse"), "FFT error"),
    **dict.fromkeys(("FftC2RBackward0", "FftC2RBackward0-filter"), "FFT error"),
    "AminmaxBackward0-all": "aminmax",
    "VarMeanBackward0": "degrees of freedom",
    "VarMeanBackward0-keepdim": "degrees of freedom",
    "StdMeanBackward0": "degrees of freedom",
    "StdMeanBackward0-all": "degrees of freedom",
    **{f"SegmentReduceBackward0{kind}": "reduction dim" for kind in ("", "-mean", "-max", "-prod")},
    "VarBackward0": "degrees of freedom",
    "VarBackward0-keepdim": "degrees of freedom",
    "VarBackward0-all": "degrees of freedom",
    "StdBackward0": "degrees of freedom",
    "StdBackward0-keepdim": "degrees of freedom",
    "StdBackward0-all": "degrees of freedom",
    "NativeBatchNormLegitBackward0": "at least one element",
    "NativeBatchNormLegitBackward1": "at least one element",
    "BatchNormWithUpdateBackward0": "at least one element",
    **{f"SlowConvTranspose{n}DBackward0{label}": "non-empty" for n in (2, 3) for label in ("", "-no-bias")},
    **{f"CtcLossBackward{i}": "must not be empty" for i in (0, 1)},
    "AffineGridGeneratorBackward0": "non-zero, positive output size",
    "AffineGridGeneratorBackward0-3d": "non-zero, positive output size",
    "MkldnnRnnLayerBackward0": "primitive",
    "MkldnnRnnLayerBackward0-no-bias": "primitive",
    "MkldnnRnnLayerBackward0-reverse": "primitive",
}


def test_every_row_has_a_sample() -> None:
    rows = lrp.load_rules()
    without = {rows[node] for node in rows_without_sample("std")}
    assert all(row.unexecuted or row.family == "refused" for row in without)


def test_labels_differ() -> None:
    names = [str(sample) for sample in of_pack("std")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("built", each("std"), ids=str)
def test_builds_its_node(built: Built) -> None:
    built.check_builds_node(built.sample.node)


@pytest.mark.parametrize("built", each("std"), ids=str)
def test_no_samples(built: Built) -> None:
    refusal = REFUSED.get(str(built.sample))
    if refusal is None:
        built.check_no_samples()
    else:
        with pytest.raises((RuntimeError, IndexError, ValueError, UserWarning), match=refusal):
            Built(built.sample, built.live, 0).run()


def test_rules_load_without_samples() -> None:
    check_loaded_late("dynamiclrp_rules_std.samples")


def test_what_torch_cannot_differentiate_refuses() -> None:
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    y = torch.heaviside(x, x)
    with pytest.raises(lrp.MissingRule, match=r"cannot differentiate[^$]*cure: write it with torch\.where"):
        lrp.relevance(y, x)


NOT_DIFFERENTIATED = {
    "AcoshBackward1": lambda x: (x * 1 + 1).acosh_(),
    "AsinhBackward1": lambda x: (x * 1).asinh_(),
    "AtanhBackward1": lambda x: (x / 2).atanh_(),
    "GeqrfBackward0": lambda x: torch.geqrf(x.outer(x))[0],
    "UniqueBackward0": lambda x: torch._unique(x)[0],
    "UniqueConsecutiveBackward0": lambda x: x.unique_consecutive(),
    "UniqueDimBackward0": lambda x: x.unique(dim=0),
    "UniqueDimConsecutiveBackward0": lambda x: torch.ops.aten.unique_dim_consecutive(x, 0)[0],
    "SpecialZetaBackward2": lambda x: torch.ops.aten.special_zeta.other_scalar(x + 2, 2.0),
}


@pytest.mark.parametrize("name", NOT_DIFFERENTIATED)
def test_what_torch_itself_does_not_differentiate_refuses_by_name(name: str) -> None:
    x = torch.rand(3, dtype=torch.float64, requires_grad=True)
    y = NOT_DIFFERENTIATED[name](x)
    assert y.grad_fn.name() == name
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(y.sum(), x)
    with pytest.raises(lrp.MissingRule, match=f"{name}: torch itself does not differentiate"):
        lrp.relevance(y, x)
