"""Fused scans and convolutions: unrolled from what the Functions saved, then swept like any graph.

Written against mamba_ssm 2.3.2.post1 and causal_conv1d 1.6.1: names of the Functions, order of their
arguments and of what they save. A node that saved another number of tensors is an error, never a
guess. The rules in force are applied to the elementary operations, so a fused node has the map of the
loop under every preset: SiLU inside of a kernel is the identity rule, and the gate is shared, which the
published fast path of MambaLRP leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from dynamiclrp_core.errors import MissingRule, Unrecoverable
from dynamiclrp_core.families import custom, elementwise
from dynamiclrp_core.mark import stop_relevance
from dynamiclrp_core.node import function_tensors, kind
from dynamiclrp_core.numerics import quotient
from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Row
from dynamiclrp_core.subgraph import StandIn, SubGraph
from torch import Tensor

from .scans import Hold, causal_conv, gated_rms_norm, nothing, selective_scan, ssd_scan

Tensors = dict[str, Tensor | None]


class Unrolled(SubGraph):
    """A fused node's elementary operations, with the rules that are in force for each.

    ``held``: decay, step, key and query of the scan are constants (MambaLRP). What a name says here need not
    be found in the graph.
    """

    held: bool = False

    def rebuild(self, op: Op, stand_in: StandIn) -> tuple[Sequence[Any], Sequence[Tensor | None]]:
        made: list[Tensor | None] = []
        for t, wanted in zip(operands(op), op.wanted):
            if t is not None and op.sweep.dtype is not None and t.is_floating_point():
                t = t.to(op.sweep.dtype)
            made.append(None if t is None else stand_in(t, wanted))
        outputs = _computed(op, made, stop_relevance if self.held else nothing)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return outputs, [t if w else None for t, w in zip(made, op.wanted)]


def operands(op: Op) -> list[Tensor | None]:
    """The values of the node's tensor arguments: saved ones, else promised ones, None if nobody has them."""
    saved = contents(op)
    found: list[Tensor | None] = []
    for i, name in enumerate(names(op)):
        t = saved.get(name)
        if op.edges[i][0] is not None:  # some are saved with a dimension less or more
            t = op.input(i) if t is None else t.reshape(op.operand_shape(i))
        found.append(t)
    return found


def contents(op: Op) -> Tensors:
    """What the Function saved, by argument name. Raises MissingRule for another version's number."""
    node: Any = op.node
    fields, tensors = SAVED[op.row.node](node), function_tensors(node)
    if len(fields) != len(tensors):
        raise MissingRule(
            f"{kind(op.node)} saved {len(tensors)} tensors, and {len(fields)} are known by name: another "
            "version than mamba_ssm 2.3.2 or causal_conv1d 1.6.1.\n"
            "  cure: one of those, or the model's slow path"
        )
    return dict(zip(fields, tensors))


def names(op: Op) -> list[str]:
    """Names of the tensor arguments of this call: autograd has an edge for each, none for the others."""
    node: Any = op.node
    saved = contents(op)
    told = TOLD.get(op.row.node, {})
    here = [n for n in op.row.operands if (told[n](node) if n in told else saved.get(n) is not None)]
    if len(here) != len(op.edges):
        raise MissingRule(
            f"{kind(op.node)} has {len(op.edges)} tensor arguments, of which {', '.join(here)} are known.\n"
            "  cure: the model's slow path, without cu_seqlens and given outputs"
        )
    return here


def _forward(op: Op, *given: Tensor | None) -> Any:
    return _computed(op, given, nothing)


def _computed(op: Op, given: Sequence[Tensor | None], hold: Hold) -> Any:
    """What the Function computes. Operands that are not given (untracked ones) are taken as saved."""
    saved = contents(op)
    for name, t in zip(names(op), given):
        saved[name] = saved.get(name) if t is None else t
    if any(t is not None and t.is_complex() for t in saved.values()):
        raise MissingRule(f"{kind(op.node)} with complex A, B or C\n  cure: the model's slow path")
    return FORWARD[op.row.node](op.node, saved, hold)


def _scan(node: Any, t: Tensors, hold: Hold) -> Any:
    if getattr(node, "squeeze_B", False) and _get(t, "B").dim() == 4:
        t["B"] = _get(t, "B").squeeze(1)
    if getattr(node, "squeeze_C", False) and _get(t, "C").dim() == 4:
        t["C"] = _get(t, "C").squeeze(1)
    u, delta, a, b, c = (_get(t, n) for n in "u delta A B C".split())
    return selective_scan(u, delta, a, b, c, t["D"], t.get("z"), t["delta_bias"], node.delta_softplus, hold)


def _conv(node: Any, t: Tensors, hold: Hold) -> Any:
    x, weight = _get(t, "x"), _get(t, "weight")
    return causal_conv(x, weight, t["bias"], node.activation, t["initial_states"], t["seq_idx"])


def _inner(node: Any, t: Tensors, hold: Hold) -> Any:
    """MambaInnerFn: convolution, projections, scan, gate, output layer. xz (b, 2d, l) -> (b, l, e)."""
    xz, a = _get(t, "xz"), _get(t, "A")
    x, z = xz.chunk(2, 1)
    weight = _get(t, "conv1d_weight")
    x, _ = causal_conv(x, weight.reshape(weight.shape[0], -1), t["conv1d_bias"], True)
    projected = F.linear(x.transpose(1, 2), _get(t, "x_proj_weight"))  # (b, l, r + 2n)
    step = _get(t, "delta_proj_weight")
    rank, n = step.shape[1], a.shape[1]
    delta, b, c = projected.split([rank, projected.shape[-1] - rank - n, n], -1)
    delta, parts = F.linear(delta, step), {}
    for key, part, variable, first in (("B", b, node.is_variable_B, rank), ("C", c, node.is_variable_C, -n)):
        bias, norm = t.get(f"{key}_proj_bias"), t[f"{key.lower()}_rms_weight"]
        if bias is None and not getattr(node, f"{key}_proj_bias_is_None") and xz.numel():
            # Added before B and C were saved (b, 1, n, l); x_dbl (b l, r + 2n) was saved before it.
            unbiased = _get(t, "x_dbl")[0, first:][:n]
            bias = _get(t, key)[0, 0, :, 0] - unbiased
        part = part if bias is None else part + bias
        part = part if norm is None else gated_rms_norm(part, norm, None, node.b_c_dt_rms_eps, 1, True)
        parts[key] = part.transpose(1, 2) if variable else _get(t, key)
    norm = t["dt_rms_weight"]
    delta = delta if norm is None else gated_rms_norm(delta, norm, None, node.b_c_dt_rms_eps, 1, True)
    y, _ = selective_scan(
        x,
        delta.transpose(1, 2),
        a,
        parts["B"],
        parts["C"],
        t["D"],
        z,
        t["delta_bias"],
        node.delta_softplus,
        hold,
    )
    shift = t.get("out_proj_bias")
    if shift is None and not node.out_proj_bias_is_None:
        raise Unrecoverable(
            "MambaInnerFn does not save out_proj_bias, and it is frozen.\n  cure: let it require grad"
        )
    return F.linear(y.transpose(1, 2), _get(t, "out_proj_weight"), shift)


def _chunked(node: Any, t: Tensors, hold: Hold) -> Any:
    x, dt, a, b, c = (_get(t, n) for n in "x dt A B C".split())
    if node.return_varlen_states:
        raise MissingRule("MambaChunkScanCombinedFn with return_varlen_states\n  cure: the model's slow path")
    return ssd_scan(
        x, dt, a, b, c, t["D"], t["z"], t["dt_bias"], t["initial_states"], t["seq_idx"],
        node.dt_softplus, node.dt_limit, hold,
    )  # fmt: skip


def _combined(node: Any, t: Tensors, hold: Hold) -> Any:
    """MambaSplitConv1dScanCombinedFn: split, convolution, scan, gated norm, output layer."""
    zxbcdt, weight, d = _get(t, "zxbcdt"), _get(t, "conv1d_weight"), _get(t, "D")
    heads, groups = d.shape[0], node.ngroups
    width = heads * (node.headdim if d.dim() == 1 else d.shape[1])
    mlp = zxbcdt.shape[-1] - width - weight.shape[0] - heads
    zx0, z, xbc, dt = zxbcdt.split([mlp, width, weight.shape[0], heads], -1)
    silu = node.activation in ("silu", "swish")
    xbc, _ = causal_conv(xbc.transpose(1, 2), weight, t["conv1d_bias"], silu, sequence=t["seq_idx"])
    states = (weight.shape[0] - width) // 2
    x, b, c = xbc.transpose(1, 2).split([width, states, states], -1)
    x = x.unflatten(-1, (heads, -1))
    b, c = (v.unflatten(-1, (groups, -1)) for v in (b, c))
    norm = t["rmsnorm_weight"]
    gate = z.unflatten(-1, (heads, -1)) if norm is None else None
    y, last = ssd_scan(
        x, dt, _get(t, "A"), b, c, d, gate, t["dt_bias"], t["initial_states"], t["seq_idx"], True,
        node.dt_limit, hold,
    )  # fmt: skip
    y = y.flatten(-2)
    if norm is not None:
        y = gated_rms_norm(y, norm, z, node.rmsnorm_eps, groups, node.norm_before_gate)
    if mlp:
        left, right = zx0.chunk(2, -1)
        y = torch.cat([F.silu(left) * right, y], -1)
    out = t["outproj_weight"]
    return (y if out is None else F.linear(y, out, t["outproj_bias"]), last)


def _root_slope(op: Op) -> Tensor:
    node: Any = op.node
    x: Tensor = function_tensors(node)[0]
    x = x if op.sweep.dtype is None else x.to(op.sweep.dtype)
    return quotient(x.sqrt(), x)


def _get(t: Tensors, name: str) -> Tensor:
    value = t[name]
    assert value is not None
    return value


SCAN = "mamba_ssm.ops.selective_scan_interface.SelectiveScanFn"
INNER = "mamba_ssm.ops.selective_scan_interface.MambaInnerFn"
CHUNKED = "mamba_ssm.ops.triton.ssd_combined.MambaChunkScanCombinedFn"
COMBINED = "mamba_ssm.ops.triton.ssd_combined.MambaSplitConv1dScanCombinedFn"
CONV = "causal_conv1d.causal_conv1d_interface.CausalConv1dFn"
BOUNDED_SQRT = "transformers.models.recurrent_gemma.modeling_recurrent_gemma.SqrtBoundDerivative"

SAVED: dict[str, Callable[[Any], list[str]]] = {
    SCAN: lambda node: (
        "u delta A B C D z delta_bias x out" if node.has_z else "u delta A B C D delta_bias x"
    ).split(),
    INNER: lambda node: (
        "xz conv1d_weight conv1d_bias x_dbl x_proj_weight delta_proj_weight out_proj_weight conv1d_out delta "
        "A B C D delta_bias scan_intermediates b_rms_weight c_rms_weight dt_rms_weight out"
    ).split(),
    CHUNKED: lambda node: "out x dt dA_cumsum A B C D z dt_bias initial_states seq_idx".split(),
    COMBINED: lambda node: (
        "zxbcdt conv1d_weight conv1d_bias out_x A D dt_bias initial_states seq_idx rmsnorm_weight rstd "
        "outproj_weight outproj_bias"
    ).split(),
    CONV: lambda node: "x weight bias seq_idx initial_states".split(),
}
"""What each Function saves, in order."""

TOLD: dict[str, dict[str, Callable[[Any], bool]]] = {
    INNER: {
        "B": lambda node: not node.is_variable_B,
        "C": lambda node: not node.is_variable_C,
        "out_proj_bias": lambda node: not node.out_proj_bias_is_None,
        "B_proj_bias": lambda node: not node.B_proj_bias_is_None,
        "C_proj_bias": lambda node: not node.C_proj_bias_is_None,
    },
}
"""Whether the call had a tensor argument, where what is saved does not tell."""

FORWARD: dict[str, Callable[[Any, Tensors, Hold], Any]] = {
    SCAN: _scan, INNER: _inner, CHUNKED: _chunked, COMBINED: _combined, CONV: _conv,
}  # fmt: skip

OPERANDS = {
    SCAN: "u delta A B C D z delta_bias",
    INNER: "xz conv1d_weight conv1d_bias x_proj_weight delta_proj_weight out_proj_weight out_proj_bias "
    "A B C D delta_bias B_proj_bias C_proj_bias b_rms_weight c_rms_weight dt_rms_weight",
    CHUNKED: "x dt A B C D z dt_bias initial_states seq_idx",
    COMBINED: "zxbcdt conv1d_weight conv1d_bias dt_bias A D initial_states seq_idx rmsnorm_weight "
    "outproj_weight outproj_bias",
    CONV: "x weight bias seq_idx initial_states",
}
"""Tensor arguments in the order of the call; absent ones have no edge."""

SOURCE = "MambaLRP 2406.07592, its slow path"
ROWS: tuple[Row, ...] = (
    *(
        custom(node, Unrolled(), arguments, family="scan", forward=_forward, unused=tuple(range(32)),
            source=SOURCE)
        for node, arguments in OPERANDS.items()
    ),
    # The RG-LRU's square root, whose derivative alone is bounded. Its input is saved.
    elementwise(BOUNDED_SQRT, forward=lambda op, x: x.sqrt(), degree=0.5,
        slope=_root_slope),
)  # fmt: skip
