"""Gradients with another backward of ReLU: guided backpropagation, DeconvNet, smoothed ReLUs.

What their authors show as a map is the modified gradient, which is the coefficient here
(``run.coefficients``); ``run.relevance`` is input times it. None of them conserves: what is lost or won is
booked under "gradient".
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..op import Op
from ..rule import Conserves, Entries
from .defaults import Gradient


class PlainGradient(Gradient):
    """The node's plain gradient, for ops that the default treats otherwise (GELU, products)."""

    conserves: ClassVar[Conserves] = "none"
    cause: ClassVar[str] = "gradient"


class _OfReLU(PlainGradient):
    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        entries: list[Tensor | None] = [self._modified(op, self.only(c))]
        self._book(op, c, entries)
        return entries

    def _modified(self, op: Op, c: Tensor) -> Tensor:
        raise NotImplementedError


class GuidedReLU(_OfReLU):
    """``c_in = c`` where both the input and c are positive, else 0 (Springenberg et al. 2015)."""

    masks: ClassVar[bool] = True
    linear: ClassVar[bool] = False
    joins: ClassVar[bool] = True

    def _modified(self, op: Op, c: Tensor) -> Tensor:
        (gradient,) = op.backward(c)
        assert gradient is not None
        return gradient.clamp(min=0)


class DeconvReLU(_OfReLU):
    """``c_in = c`` where c is positive, else 0, whatever the input is (Zeiler & Fergus 2014)."""

    linear: ClassVar[bool] = False
    joins: ClassVar[bool] = True

    def _modified(self, op: Op, c: Tensor) -> Tensor:
        return c.clamp(min=0)


class SmoothReLU(_OfReLU):
    """``c_in = c sigmoid(beta x)``: the gradient of softplus for that of ReLU (Dombrowski et al. 2019)."""

    beta: float = Field(10.0, gt=0)

    def _modified(self, op: Op, c: Tensor) -> Tensor:
        return c * torch.sigmoid(self.beta * op.input(0)).to(c.dtype)
