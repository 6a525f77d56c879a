"""The epsilon rule for layers, and what all rules that divide by a sum of contributions share.

Notation: ``z_j = sum_i a_i w_ij + b_j``; ``x+``, ``x-`` the positive and negative parts; ``stab`` the
stabiliser of ``Stabilized``.
"""

from __future__ import annotations

from functools import reduce
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from ..numerics import at_least_float32, dot, quotient, spare, stabilize
from ..op import Op
from ..rule import Entries, Rule
from .merged import Whole, merged
from .shifted import shifted
from .weighed import beside, spread

Constants = Literal["absorb", "pass"]


class Stabilized(Rule):
    """A rule that divides by a sum of contributions z, kept away from zero.

    ``stab(z) = z + epsilon sign(z)`` with sign(0) = +1. ``clip``: ``max(|z|, epsilon) sign(z)`` instead.
    ``norm_scale``: epsilon in units of the root mean square of z over all dimensions of the node's
    output but the first. These are zennit's options and names; epsilon = 0 is LRP-0, with 0/0 = 0.

    Complex contributions have no sign to keep or to split by: of a complex output the layer's default
    applies.
    """

    real: ClassVar[bool] = True

    epsilon: float = Field(1e-6, ge=0)
    clip: bool = False
    norm_scale: bool = False

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        whole = merged(op) or shifted(op) if self.merges else None
        if whole is None:
            return self.of_coefficient(op, self.only(c))
        return whole.sent(op, self._of(whole).coefficient(whole, *whole.arrived(c)))

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        whole = merged(op) or shifted(op) if self.merges else None
        if whole is None:
            return self.of_value(op, self.only(r))
        return whole.sent(op, self._of(whole).value(whole, *whole.arrived(r)))

    def _of(self, whole: Whole) -> Rule:
        if whole.before:
            return self
        rule = whole.sweep.rule_of(whole.layer)
        whole.sweep.used.append(rule)
        return rule

    @property
    def merges(self) -> bool:
        """Whether a batch norm or a bias beside a layer is part of it (``merged.py``, ``shifted.py``)."""
        return True

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        """Entries for a coefficient, of a node or a merged layer."""
        raise NotImplementedError

    def of_value(self, op: Op, r: Tensor) -> Entries:
        """Entries for a relevance value, of a node or a merged layer."""
        raise NotImplementedError

    def output(self, op: Op) -> Tensor:
        """The output that a coefficient arrived at; with ``norm_scale`` its dead entries count too."""
        return at_least_float32(op.output() if self.norm_scale else op.masked_output())

    def over(self, op: Op, r: Tensor, z: Tensor) -> Tensor:
        """``r / stab(z)``; what the stabiliser keeps is booked. ``r`` is the rule's own, and is used up."""
        whole = stabilize(z, self.epsilon, self.clip, self.norm_scale) if self.epsilon else z
        return self._divided(op, r, z, whole)

    def over_size(self, op: Op, r: Tensor, z: Tensor) -> Tensor:
        """The same for a z >= 0 (wherever r is not 0) that is the rule's own too, and is used up."""
        if self.epsilon == 0 or self.norm_scale:
            return self.over(op, r, z)
        size = torch.clamp(z, min=0, out=op.spare(z))
        return self._divided(op, r, z, self._stabilized_size(size))

    def held(self, op: Op, c: Tensor, z: Tensor) -> Tensor:
        """``c z / stab(z)``, which needs no sign of z: ``c |z| / stab(|z|)``."""
        if self.epsilon == 0 or self.norm_scale:
            return self.over(op, c * z, z)
        size = z.abs()
        whole = size.clamp(min=self.epsilon) if self.clip else size + self.epsilon
        # What was made first stays: what is free is in one piece, and stays with the process.
        share = torch.div(size, whole, out=spare(size))
        del whole
        s = torch.mul(share, c, out=spare(share))
        if op.ledger is not None:
            op.book("epsilon", dot(z, c) - dot(z, s))
        return s

    def _stabilized_size(self, size: Tensor) -> Tensor:
        """``stab(size)`` of the rule's own sizes, which are used up."""
        if self.epsilon == 0 or self.norm_scale:
            return stabilize(size, self.epsilon, self.clip, self.norm_scale) if self.epsilon else size
        if self.clip:
            return torch.clamp(size, min=self.epsilon, out=spare(size))
        return torch.add(size, self.epsilon, out=spare(size))

    def _divided(self, op: Op, r: Tensor, z: Tensor, whole: Tensor) -> Tensor:
        total = None if op.ledger is None else r.sum(dtype=torch.float64)
        s = self._quotient(r, whole)
        if total is not None:
            op.book("epsilon", total - dot(z, s))
        return s

    def _quotient(self, r: Tensor, whole: Tensor) -> Tensor:
        if self.epsilon == 0 or self.norm_scale:  # rows of zeros have no scale
            return quotient(r, whole)
        return torch.div(r, whole, out=spare(r, whole))


class Epsilon(Stabilized):
    """``R_i = x_i sum_j w_ij R_j / stab(z_j)``, Bach et al. 2015, eq. 58.

    For any op that is affine in its live operands: layers, norms, sums, poolings. The added term, ``bias``:
    "absorb"   takes its share and keeps it (read it with ``at=[layer.bias]``)
    "ignore"   takes nothing: z is the sum without it (zennit's ``zero_params="bias"``)
    "spread"   takes its share and spreads it evenly over the inputs that reach j
    "share"    is first an add of its own by absolute ratio, takes ``|b| / (|b| + |z - b|)`` (DynamicLRP)

    ``constants="pass"`` gives an untracked added term no share at all: all goes to the rest, and the
    term need not be known (where a coefficient arrives, the output must be).
    """

    bias: Literal["absorb", "ignore", "spread", "share"] = "absorb"
    constants: Constants = "absorb"

    @property
    def merges(self) -> bool:
        return self.bias != "share"  # the paper takes op by op

    def of_coefficient(self, op: Op, c: Tensor) -> Entries:
        shift = self._shift(op)
        if shift is not None or op.raised or self._passes(op):
            z = self.output(op)
            if shift is not None and self.bias == "share":
                entries = self._beside(op, op.output() if op.raised else z, shift, c, z)
                return beside(op, entries, z, shift, c, z)
            return self._stabilized(op, c * z, None if op.raised else z, shift)
        return self._step(op, self.held(op, c, self.output(op)) if self.epsilon else c)

    def of_value(self, op: Op, r: Tensor) -> Entries:
        shift = self._shift(op)
        if shift is not None and self.bias == "share":
            z = at_least_float32(op.output())
            return beside(op, self._beside(op, z, shift, r), z, shift, r)
        return self._stabilized(op, r.clone(), None, shift)

    def _stabilized(self, op: Op, r: Tensor, z: Tensor | None, shift: Tensor | None) -> Entries:
        # Of a norm, z - shift: the shift is more than the bias, and its forward takes the mean away, too.
        if self._passes(op) or (self.bias == "ignore" and shift is not None and op.row.family == "affine"):
            return op.pulls(self.over(op, r, cast(Tensor, op.forward(*self._without_bias(op)))))
        z = op.output() if z is None else z
        if shift is None:
            return self._step(op, self.over(op, r, z))
        if self.bias == "spread":
            s = self.over(op, r, z)
            return spread(op, op.pulls(s), s * shift)
        s = self.over(op, r, z - shift)
        del r, z  # the peak of a run is in the product
        return op.pulls(s)

    def _beside(self, op: Op, z: Tensor, shift: Tensor, *factors: Tensor) -> Entries:
        """For ``r |z - shift| / (|z - shift| + |shift|)``, where r is the product of ``factors``."""
        rest = z - shift
        size = rest.abs()
        size = torch.add(size, shift.abs() + torch.finfo(z.dtype).tiny, out=spare(size))
        share = torch.div(rest, size, out=op.spare(rest))
        s = share  # with the sign of z - shift, so that stab needs none
        for f in factors:
            s = torch.mul(s, f, out=op.spare(s, f))
        # The size again: of a language model's head it would be a tensor more at the peak.
        size = torch.sub(z, shift, out=spare(size))
        size = torch.abs(size, out=spare(size))
        s = self._quotient(s, self._stabilized_size(size))
        if op.ledger is not None:
            r = reduce(torch.mul, factors)
            op.book("bias", (r * (1 - share.abs())).sum())
            op.book("epsilon", dot(r, share.abs()) - dot(rest, s))
        del rest, size, share  # the peak of a run is in the product
        return op.pulls(s)

    def _shift(self, op: Op) -> Tensor | None:
        """The added term, unless there is none, or it takes its share as any other, or none at all."""
        if self.bias == "absorb" or self._passes(op):
            return None
        if op.row.bias is None or op.row.shift is None or op.live_bias:
            return None
        return op.row.shift(op)

    def _passes(self, op: Op) -> bool:
        bias = op.row.bias
        return self.constants == "pass" and bias is not None and op.edges[bias][0] is None

    @staticmethod
    def _without_bias(op: Op) -> list[Tensor | None]:
        return [None if i == op.row.bias else op.optional(i) for i in range(len(op.edges))]

    @staticmethod
    def _step(op: Op, s: Tensor) -> Entries:
        # The row's own linear step, whatever the family: it books the bias and constants at s.
        return op.row.cases[-1][1].coefficient(op, s)


class Norm(Epsilon):
    """zennit's name for the epsilon rule where there are no weights: average pooling, residual sums."""
