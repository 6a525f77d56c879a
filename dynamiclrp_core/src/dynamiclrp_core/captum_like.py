"""``LRP(model).attribute``: captum's signature, so it fits where captum's methods fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .api import Run, propagate
from .errors import DynamicLRPError, InvalidInput
from .table import Rules
from .values.record import recorded

Target = int | tuple[int, ...] | Tensor | list[Any] | Callable[[Any], Tensor] | None


class LRP:
    """Layer-wise relevance propagation with captum's call.

    ``layer``: a module whose output to explain in terms of (``model.get_input_embeddings()`` for token
    ids), or a list of such (the embeddings of an encoder and a decoder); None: the inputs themselves. A
    tensor per use of a layer, in order of use. ``rules``: a preset's name or ``Rules``. The model is not
    changed; its forward runs once, recorded, so value rules work on frozen models too.

    captum's metrics take ``LRP(...).attribute``; its ``NoiseTunnel`` asks for captum's own classes, and
    ``lrp.smooth`` is there instead. Raises InvalidInput for a ``layer`` of another kind.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layer: nn.Module | Sequence[nn.Module] | None = None,
        rules: Rules | str = "default",
    ) -> None:
        given: list[Any] = (
            [] if layer is None else list(layer) if isinstance(layer, list | tuple) else [layer]
        )
        if not all(isinstance(one, nn.Module) for one in given):
            raise InvalidInput(
                f"layer={layer!r} is no module: layer=model.get_submodule(name), or a list of such modules"
            )
        self.model = model
        self.layers = given or None
        self.rules = rules
        self.run: Run | None = None

    def attribute(
        self,
        inputs: Any,
        target: Target = None,
        additional_forward_args: Any = None,
        return_convergence_delta: bool = False,
        **propagate_args: Any,
    ) -> Any:
        """Relevance of ``inputs`` (batch first), shaped like them; a tuple in gives a tuple out.

        target: index of the explained output per sample. int, tuple of ints (for outputs of more than
        two dimensions), tensor of one int per sample, list of either, or a function of the model's
        output that returns the tensor to explain. None: the output has one value per sample.
        return_convergence_delta: also the tensor of (explained output - sum of relevance) per sample, or
        one of the whole batch where a callable target adds samples up.
        The last run stays in ``self.run``.

        Raises InvalidInput for integer inputs without ``layer``, and what ``propagate`` raises.
        """
        is_tuple = isinstance(inputs, tuple)
        given = inputs if is_tuple else (inputs,)
        extra = additional_forward_args
        extra = () if extra is None else extra if isinstance(extra, tuple) else (extra,)
        # The recording goes with this call: nobody else ever sees the graph.
        with torch.inference_mode(False), torch.enable_grad(), recorded() as held:
            if self.layers is None:
                sources = tuple(self._leaf(x, i) for i, x in enumerate(given))
                explained = _select(self.model(*sources, *extra), target)
            else:
                explained, sources = self._through_layer(given, extra, target)
        self.run = propagate(explained, sources, rules=self.rules, **propagate_args)
        held.clear()
        found = self.run.relevance
        result = found if is_tuple and self.layers is None else found[0] if len(found) == 1 else found
        if not return_convergence_delta:
            return result
        parts = [explained.detach(), *(-r for r in found)]
        per_sample = all(p.shape[:1] == found[0].shape[:1] for p in parts)
        return result, sum(p.reshape(p.shape[0] if per_sample else 1, -1).sum(1) for p in parts)

    @staticmethod
    def _leaf(x: Any, i: int) -> Tensor:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            what = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InvalidInput(
                f"inputs[{i}] is {what}: relevance needs a float tensor.\n"
                "  cure: LRP(model, layer=model.get_input_embeddings()) explains token ids"
            )
        return (x.clone() if x.is_inference() else x.detach()).requires_grad_()

    def _through_layer(
        self, given: tuple[Any, ...], extra: tuple[Any, ...], target: Target
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        caught: list[Tensor] = []
        used: set[nn.Module] = set()

        def catch(module: nn.Module, args: Any, output: Any) -> Any:
            tensors = output if isinstance(output, tuple) else (output,)
            i = next(i for i, t in enumerate(tensors) if isinstance(t, Tensor))
            # A frozen layer gives an output without graph: it becomes the leaf to explain.
            source = tensors[i] if tensors[i].requires_grad else self._leaf(tensors[i], i)
            caught.append(source)
            used.add(module)
            # The model goes on with a copy: what it writes in place must not move the source.
            copied = source.clone()
            return (*tensors[:i], copied, *tensors[i + 1 :]) if isinstance(output, tuple) else copied

        with ExitStack() as stack:
            for layer in self.layers or ():
                stack.callback(layer.register_forward_hook(catch).remove)
            explained = _select(self.model(*given, *extra), target)
        if unused := [type(layer).__name__ for layer in self.layers or () if layer not in used]:
            raise InvalidInput(
                f"layer was not used in the forward ({', '.join(unused)}): name modules the model calls"
            )
        return explained, tuple(caught)


def _select(output: Any, target: Target) -> Tensor:
    """The explained values, one per sample, or what a callable target gives."""
    if callable(target):
        chosen = target(output)
        return chosen if chosen.dim() else chosen.reshape(1)
    try:
        return _indexed(output, target)
    except (IndexError, TypeError) as error:
        raise InvalidInput(f"target {target!r} does not fit the model's output: {error}") from error


def _indexed(output: Any, target: Any) -> Tensor:
    if not isinstance(output, Tensor):
        output = getattr(output, "logits", None) if not isinstance(output, tuple) else output[0]
    if not isinstance(output, Tensor):
        raise DynamicLRPError("the model's output is no tensor: pass target=lambda out: ...")
    if target is None:
        if output.dim() > 1 and output[0].numel() != 1:
            raise DynamicLRPError(
                f"the output has shape {tuple(output.shape)}: name the target to explain "
                "(int, tuple, tensor of one int per sample, or a function of the output)"
            )
        return output.reshape(-1)
    n = output.shape[0]
    picked: Any
    if isinstance(target, int):
        target = (target,)
    if isinstance(target, tuple):
        picked = (slice(None), *target)
        return _one_per_sample(output[picked], output, target)
    rows = torch.arange(n, device=output.device)
    if isinstance(target, list) and target and isinstance(target[0], tuple):
        columns = [torch.as_tensor(c, device=output.device) for c in zip(*target)]
        picked = (rows, *columns)
        return _one_per_sample(output[picked], output, target)
    index = torch.as_tensor(target, device=output.device).reshape(-1)
    if index.numel() == 1:
        index = index.expand(n)
    if index.numel() != n:
        raise DynamicLRPError(f"target has {index.numel()} entries for a batch of {n}")
    return _one_per_sample(output[rows, index], output, target)


def _one_per_sample(chosen: Tensor, output: Tensor, target: Any) -> Tensor:
    if chosen.numel() != output.shape[0]:
        raise DynamicLRPError(
            f"target {target} of an output of shape {tuple(output.shape)} leaves shape "
            f"{tuple(chosen.shape)}: name one entry per sample, an index per further dimension"
        )
    return chosen.reshape(-1)
