"""Checks of the same op in another guise: other memory, sizes, dtypes, devices, checkpointed, spelled out.

They say nothing new under another preset, so a pack's tests need them once.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..api import propagate
from ..errors import BadRule, MissingRule, NonFinite
from ..table import Rules
from .case import Case
from .checks import Check
from .derive import check_class


def check_noncontiguous(case: Case, rules: Rules) -> None:
    """The same values in other memory give the same map, where torch itself gives the same output."""
    _agree(case, case.but(style="noncontiguous"), rules, "noncontiguous")


def check_finite(case: Case, rules: Rules) -> None:
    """Relevance of finite outputs is finite in both forms, also where operands are 0."""
    for style in (case.style, "zeros"):
        here = case.but(style=style)
        _, outputs = here.forward()
        if not all(bool(y.isfinite().all()) for y in outputs):
            continue
        for seed in (None, [y.detach() for y in outputs]):
            try:
                here.run(rules, seed)
            except NonFinite as error:
                raise AssertionError(f"{case.sample}, {style}: {str(error).splitlines()[0]}") from None


def check_checkpointed(case: Case, rules: Rules) -> None:
    """Inside an activation checkpoint of either kind the map is the same."""
    _agree(case, case.but(through="checkpoint"), rules, "checkpointed")
    _agree(case, case.but(through="reentrant checkpoint"), rules, "checkpointed, reentrant")


def check_read_outs(case: Case, rules: Rules) -> None:
    """Operands named in ``at`` get no share: relevance and the ledger of the others stay as they are."""
    tensors, outputs = case.forward()
    live = [tensors[i] for i in case.live]
    with torch.enable_grad():
        x = torch.ones((), dtype=torch.float64, requires_grad=True)
        beside = tuple(y * x.to(y.dtype) for y in outputs)
    whole = [(outputs, live[:1], live[1:]), (beside, [x], live)]
    for of, inputs, at in whole if outputs else ():
        try:
            alone, also = (
                propagate(of, inputs, rules=rules, at=each, ledger=True, allow_unused=True)
                for each in ((), at)
            )
        except MissingRule:
            continue  # an op may have no rule for one of its operands alone
        for got, expected in zip(also.relevance, alone.relevance):
            case.same("relevance beside read-outs", got, expected)
        assert alone.ledger is not None and also.ledger is not None
        amounts = [torch.tensor([b.absorbed, b.inputs, b.seed]) for b in (also.ledger, alone.ledger)]
        case.same("ledger beside read-outs", *amounts)


def check_decomposed(case: Case, rules: Rules) -> None:
    """The op gives the map of its sample's ``decomposed``, the same maths in smaller steps."""
    if case.sample.decomposed is not None:
        _agree(case, case.but(through="decomposed"), rules, "fused == decomposed", must=True)


def check_devices(case: Case, rules: Rules) -> None:
    """Every accelerator found here gives the map of the CPU."""
    for device in devices():
        _agree(case, case.but(device=device), rules, device)


def devices() -> list[str]:
    """Accelerators of this machine."""
    return ["cuda"] if torch.cuda.is_available() else []


def _agree(case: Case, other: Case, rules: Rules, what: str, must: bool = False) -> None:
    (_, here), (_, there) = case.forward(), other.forward()
    same = len(here) == len(there) and all(_near(case, a, b) for a, b in zip(here, there))
    assert same or not must, f"{case.sample}: {what}: another output, so nothing to compare"
    if same:
        for got, expected in zip(other.run(rules).relevance, case.run(rules).relevance):
            case.same(what, got.detach().cpu(), expected.detach().cpu())


def _near(case: Case, a: Tensor, b: Tensor) -> bool:
    a, b = a.detach().cpu(), b.detach().cpu()
    if a.layout != torch.strided or a.shape != b.shape or a.dtype != b.dtype:
        return a.shape == b.shape and a.dtype == b.dtype
    return torch.allclose(a, b, rtol=case.tolerance, atol=case.tolerance, equal_nan=True)


def check_broadcast(case: Case, rules: Rules) -> None:
    """A live operand of size 1, which torch repeats, gets the sum of what its copies get written out."""
    tensors = [t.detach() for t in case.tensors()]
    # Others do not broadcast, and kernels that do not look at their operands' sizes read past their ends.
    if len(tensors) < 2 or not _pointwise(case):
        return
    for place, i in enumerate(case.live):
        for dim in range(tensors[i].dim()):
            if tensors[i].shape[dim] < 2:
                continue
            short = tensors[i].narrow(dim, 0, 1)
            long = short.expand(tensors[i].shape).contiguous()
            narrow, wide = (
                case.but(given=tuple(t if j == i else x for j, x in enumerate(tensors)))
                for t in (short, long)
            )
            try:
                (_, here), (_, there) = narrow.forward(), wide.forward()
            except (RuntimeError, IndexError, ValueError):
                continue  # torch does not broadcast this one
            if len(here) == len(there) and all(_near(case, a, b) for a, b in zip(here, there)):
                whole = wide.run(rules).relevance[place].sum(dim, keepdim=True)
                case.same(f"broadcast of tensor {i}", narrow.run(rules).relevance[place], whole)


def _pointwise(case: Case) -> bool:
    """Whether all calls of several tensors are entry by entry, as torch itself says."""
    calls = _Calls()  # type: ignore[no-untyped-call]
    with calls:
        case.forward()
    return calls.pointwise


class _Calls(TorchDispatchMode):
    pointwise: bool = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        several = sum(isinstance(leaf, Tensor) for leaf in tree_leaves((args, kwargs))) > 1
        self.pointwise &= not several or torch.Tag.pointwise in func.tags
        return func(*args, **(kwargs or {}))


def check_empty(case: Case, rules: Rules) -> None:
    """A batch of 0 can be explained, where torch itself takes one."""
    if not any("n" in s.split() for s in case.sample.shapes):
        return
    none = case.but(n=0, given=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of var and std of nothing
        try:
            _, outputs = none.forward()
        except (RuntimeError, IndexError, ValueError):
            return
        try:
            if outputs:
                none.run(rules)
        except BadRule as error:
            raise AssertionError(f"{case.sample}: empty: {str(error).splitlines()[0]}") from None


def check_precision(case: Case, rules: Rules) -> None:
    """Finite in float32 and bfloat16, where the kernel has them, and with rules in float64 on them."""
    for dtype in case.sample.dtypes:
        if dtype is torch.float64:
            continue
        for rule_dtype in (None, torch.float64):
            who = f"{case.sample}: {dtype}, rules in {rule_dtype or 'it'}"
            try:
                case.but(dtype=dtype, style="plain", given=None).run(rules, dtype=rule_dtype)
            except (BadRule, NonFinite) as error:
                raise AssertionError(f"{who}: {str(error).splitlines()[0]}") from None


def check_family(case: Case, rules: Rules) -> None:
    """The op's own gradient shows the class that its row's family claims (see ``derive``)."""
    if case.live == tuple(case.sample.subsets())[-1]:  # what stays constant hides part of the class
        check_class(case.but(style="plain"), rules)


VARIANTS: dict[str, Check] = {
    name.removeprefix("check_"): f
    for name, f in list(globals().items())
    if name.startswith("check_") and f is not check_class
}

__all__ = ["VARIANTS", "devices"]
