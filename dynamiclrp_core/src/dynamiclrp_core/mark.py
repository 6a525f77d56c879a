"""A mark for what the graph cannot tell: ``stop_relevance(t)`` is constant for relevance, and only for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .errors import InvalidInput


class StopRelevance(torch.autograd.Function):
    """The identity. Gradients pass, forward- and double-backward too; ``graph.Reach`` does not go past it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor) -> Tensor:
        return t.view_as(t)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].view_as(tangents[0])


def stop_relevance(t: Tensor) -> Tensor:
    """``t`` itself, which takes no relevance: in a product with it everything goes to the other factor.

    For models whose graph does not say which factor is the signal (the key of a linear attention, a gate
    of your own). Value, gradients and every other tool see the identity; unlike ``t.detach()`` the model
    still trains. Any shape, any dtype, same memory. Where all paths from an input are stopped its
    relevance is 0. Raises InvalidInput for anything but a tensor.
    """
    if not isinstance(t, Tensor):
        raise InvalidInput(f"stop_relevance takes a tensor, not {type(t).__name__}")
    marked: Tensor = StopRelevance.apply(t)  # type: ignore[no-untyped-call]
    return marked


MARK: type = StopRelevance._backward_cls
"""Type of the node that a mark leaves in the graph."""
