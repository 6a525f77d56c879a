"""MambaLRP: relevance of a selective scan goes to its signal alone."""

from __future__ import annotations

from collections.abc import Callable

from dynamiclrp_core.op import Op
from dynamiclrp_core.rule import Entries, Entry, Rule
from dynamiclrp_core.rules.defaults import Stop, book_shift
from dynamiclrp_core.rules.signed import Gamma
from dynamiclrp_core.table import Override, Rules, override
from torch import Tensor

from .fused import Unrolled
from .roles import signal


class Signal(Rule):
    """All to the factor that carries the signal (and to a live added term); the other is held constant.

    ``c_in = J^T c`` in that factor: conserves exactly, up to what an added constant absorbs. In a scan the
    decay, step, key and query take nothing, so ``sum u * c_u = sum y * c_y`` (MambaLRP, arXiv 2406.07592,
    section 4.1, its slow path; for attention the same is CP-LRP).
    """

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        ci = self.only(c)
        if not op.live[op.match]:  # a constant first state
            return Stop().coefficient(op, ci)
        if not op.live_bias:
            book_shift(op, ci, "bias")
        taken: list[Entry] = [None] * len(op.edges)
        for i in (op.match, op.row.bias):
            if i is not None and op.wanted[i]:
                taken[i] = op.pull(ci, i)
        return taken


def mambalrp(gamma: float | None = None) -> Rules:
    """MambaLRP (Jafari, Montavon, Mueller, Eberle 2024, arXiv 2406.07592).

    Selective scans, and gates through sigmoid or exp, pass relevance to their signal alone (``roles.py``
    says how it is found); a product with a SiLU gate is shared half and half, SiLU is the identity rule,
    RMSNorm's statistic is constant, convolutions and layers are LRP-0: these are what ``default`` does
    already. ``gamma``: the generalised gamma rule on layers, as the paper uses on vision models (0.25).
    """
    found = override(scan=Unrolled(held=True)) | Rules(
        overrides=tuple(Override(f, "*", Signal(), signal) for f in ("product", "affine"))
    )
    return found if gamma is None else override(affine=Gamma(gamma=gamma, epsilon=1e-6)) | found


PRESETS: dict[str, Callable[..., Rules]] = {"mambalrp": mambalrp}
