"""A node as its rule sees it. A rule asks for values; how they were obtained is not its business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from .errors import BadRule
from .node import Address, Edge, metadata
from .numerics import raised, spare, vjp
from .values.saved import Saved

if TYPE_CHECKING:
    from .engine import Sweep
    from .ledger import Ledger
    from .table import Kind


class Receivers(NamedTuple):
    """Where a rule's entries go, in their order: tensors, which of them are live, which are wanted."""

    edges: tuple[Edge, ...]
    live: tuple[bool, ...]
    wanted: tuple[bool, ...]


class Op:
    """One node, its row, its edges, and which operands matter.

    ``live[i]``: operand i depends on an input, so it takes a share. ``wanted[i]``: an entry for
    operand i is needed (live, or on the way to a read-out of ``at``).
    """

    __slots__ = (
        "_metadata", "_saved", "edges", "kind", "ledger", "live", "match", "node", "past", "row", "sweep",
        "wanted",
    )  # fmt: skip

    def __init__(self, node: Node, kind: Kind, sweep: Sweep) -> None:
        self.node = node
        self.kind = kind
        self.row = kind.row
        self.sweep = sweep
        self.edges: tuple[Edge, ...] = sweep.graph.edges[node]
        self.live = sweep.live.operands(self.edges)
        self.wanted = self.live if sweep.same else sweep.wanted.operands(self.edges)
        self.match: Any = None
        self.past: Receivers | None = None
        # What only carries a read-out's entry takes no share, so nothing can end there.
        self.ledger: Ledger | None = sweep.ledger if True in self.live else None
        self._metadata: Sequence[Any] | None = None
        self._saved: Saved | None = None

    @property
    def saved(self) -> Saved:
        """The node's saved fields by name."""
        if self._saved is None:
            self._saved = Saved(self.node, self.sweep)
        return self._saved

    @property
    def metadata(self) -> Sequence[Any]:
        """Shape, dtype and device of each output."""
        if self._metadata is None:
            self._metadata = metadata(self.node)
        return self._metadata

    # -- forward values ---------------------------------------------------------------------------

    def input(self, i: int) -> Tensor:
        """Forward value of operand ``i``. Raises Unrecoverable if it cannot be had."""
        value = self.kept(i)
        if value is None:
            value = self.sweep.values.operand(self, i)
        return value if self.sweep.dtype is None else self._in_rule_dtype(value)

    def kept(self, i: int) -> Tensor | None:
        """Operand ``i`` as saved at the node itself, if it is."""
        fields = self.kind.fields
        name = fields[i] if i < len(fields) else None
        value = None if name is None else getattr(self.saved, name)
        return value if isinstance(value, Tensor) else None

    def optional(self, i: int) -> Tensor | None:
        """Like ``input``, but None for an operand that the call did not have."""
        return None if self.sweep.values.absent(self, i) else self.input(i)

    def inputs(self) -> list[Tensor | None]:
        """Forward values of all operands, None for those the call did not have."""
        return [self.optional(i) for i in range(len(self.edges))]

    def output(self, i: int = 0) -> Tensor:
        """Forward value of output ``i``.

        In a rule dtype above the model's it is computed anew: a denominator must be the sum of
        exactly the terms in the numerators, and the stored one was rounded.
        """
        if not self.raised or self.row.forward is None:
            return self._in_rule_dtype(self.sweep.values.output(self, i))
        made = self.forward(*self.inputs())
        return cast(Tensor, made[i] if isinstance(made, tuple) else made)

    def masked_output(self) -> Tensor:
        """The output as the model had it, exact wherever the arriving coefficient is not 0.

        Only for rules' coefficient form: what arrives is ``c * a`` with this very a.
        """
        stand_in = self.sweep.values.existing.stand_in(self)
        value = self.sweep.values.output(self, 0) if stand_in is None else stand_in
        if self.row.family == "adding":  # -inf masks: what arrives there is 0, and 0 * inf is not
            value = value.clamp(min=torch.finfo(value.dtype).min, max=torch.finfo(value.dtype).max)
        return self._in_rule_dtype(value)

    @property
    def raised(self) -> bool:
        """Whether rules run above the model's dtype here, so that stored sums are rounded ones."""
        return raised(self.dtype, self.sweep.dtype) != self.dtype

    def constant(self, name: str) -> Any:
        """A non-tensor or untracked argument that autograd dropped, as ``record()`` kept it."""
        return self.sweep.values.constant(self, name)

    def forward(self, *operands: Tensor | None) -> Any:
        """The row's forward on other operands."""
        if self.row.forward is None:
            raise BadRule(f"the row of {self.row.node} has no forward")
        return self.row.forward(self, *operands)

    # -- linear steps -----------------------------------------------------------------------------

    def backward(self, *c: Tensor | None) -> tuple[Tensor | None, ...]:
        """The node's own backward, or the vjp of the row's forward where the dtype is not the node's."""
        if self.row.pull is not None and len(c) == 1 and c[0] is not None:
            return tuple(self.pulls(c[0]))
        for ci, meta in zip(c, self.metadata):
            if ci is not None and ci.dtype != meta.dtype:
                return self._vjp(c)
        return self.sweep.call(self.node, c)

    def pulls(self, c: Tensor) -> list[Tensor | None]:
        """Gradients of the operands that are wanted, and of no other."""
        pull = self.row.pull
        if pull is None:
            return [self.pull(c, i) if w else None for i, w in enumerate(self.wanted)]
        at = self._input_like(c)
        return [pull(self, c, i, at) if w else None for i, w in enumerate(self.wanted)]

    def pull(self, c: Tensor, i: int, *operands: Tensor | None) -> Tensor:
        """Gradient of operand ``i`` alone, at ``operands`` if given, else at the node's own."""
        at: Callable[[int], Any] = operands.__getitem__ if operands else self._input_like(c)
        pull = self.row.pull
        if pull is not None:
            return pull(self, c, i, at)
        others = [None if j == self.row.bias else at(j) for j in range(len(self.edges)) if j != i]

        def of_one(x: Tensor) -> Tensor:
            return cast(Tensor, self.forward(*others[:i], x, *others[i:]))

        return vjp(of_one, self.zeros(i))[1](c)[0]

    def _input_like(self, c: Tensor) -> Callable[[int], Tensor]:
        """Operands for a linear step on ``c``: in its dtype, where relevance runs above the model's."""
        dtype = c.dtype

        def like_c(j: int) -> Tensor:
            x = self.input(j)
            return x if x.dtype is dtype or not x.is_floating_point() or not x.dim() else x.to(dtype)

        return like_c

    def _vjp(self, c: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        # Only operands that are wanted are differentiated; linear ops need their shapes only.
        which = [i for i, w in enumerate(self.wanted) if w]
        if self.row.family in ("moving", "linear") and not self.row.selects:
            at: list[Tensor | None] = [self.zeros(i) for i in range(len(self.edges))]
        else:
            at = [x if x is None else self._like(x, c) for x in self.inputs()]

        def of_wanted(*x: Tensor) -> Any:
            operands = list(at)
            for i, xi in zip(which, x):
                operands[i] = xi
            return self.forward(*operands)

        made, pull = vjp(of_wanted, *(cast(Tensor, at[i]) for i in which))
        if isinstance(made, tuple):
            seeds: Any = tuple(torch.zeros_like(m) if ci is None else ci for m, ci in zip(made, c))
        else:
            seeds = c[0]
        entries: list[Tensor | None] = [None] * len(self.edges)
        for i, g in zip(which, pull(seeds)):
            entries[i] = g
        return tuple(entries)

    @staticmethod
    def _like(x: Tensor, c: tuple[Tensor | None, ...]) -> Tensor:
        dtype = raised(x.dtype, next(ci.dtype for ci in c if ci is not None).to_real())
        return x.to(dtype) if x.is_floating_point() or x.is_complex() else x

    def zeros(self, i: int) -> Tensor:
        """Zeros like operand ``i`` (a constant operand: its value)."""
        node, nr = self.edges[i]
        if node is None:
            return self.input(i)
        meta = metadata(node)[nr]
        dtype = raised(meta.dtype, self.sweep.dtype)
        return torch.zeros(tuple(meta.shape), dtype=dtype, device=meta.device)

    # -- facts ------------------------------------------------------------------------------------

    @property
    def shape(self) -> torch.Size:
        """Shape of output 0."""
        return torch.Size(self.metadata[0].shape)

    @property
    def dtype(self) -> torch.dtype:
        """The model's dtype of output 0."""
        return cast(torch.dtype, self.metadata[0].dtype)

    def operand_shape(self, i: int) -> torch.Size:
        """Shape of a tracked operand."""
        node, nr = self.edges[i]
        return self.input(i).shape if node is None else torch.Size(metadata(node)[nr].shape)

    @property
    def takes(self) -> tuple[bool, ...]:
        """The live operands; those that are wanted where none is, on the way to a read-out."""
        return self.live if True in self.live else self.wanted

    @property
    def live_factors(self) -> int:
        """How many of the multiplied operands are live."""
        live = self.live
        return sum([live[i] for i in self.row.factors])

    @property
    def live_bias(self) -> bool:
        """Whether the added term is live, so that it takes its share instead of absorbing it."""
        return self.row.bias is not None and self.live[self.row.bias]

    @property
    def offset(self) -> float:
        """f(0) of an elementwise op."""
        at_zero = self.row.at_zero
        if at_zero is None:
            return 0.0 if self.row.slope is not None or self.row.degree == 1.0 else self._at_zero()
        return at_zero(self) if callable(at_zero) else at_zero

    def _at_zero(self) -> float:
        zero = torch.zeros((), dtype=torch.float64, device=self.metadata[0].device)
        return float(self.forward(zero))

    @property
    def receivers(self) -> Receivers:
        """The node's operands, or what a rule that looked past them has named as ``past``."""
        return self.past or Receivers(self.edges, self.live, self.wanted)

    def send_to(self, x: Address) -> None:
        """Entries go to tensor ``x`` instead of to the node's operands (the rule looked past them)."""
        self.past = Receivers((x,), (True,), (True,))

    def book(self, cause: str, amount: Tensor) -> None:
        """Book ``amount`` of relevance that ends at this node. Only call with a ledger."""
        if self.ledger is not None:
            position = self.sweep.graph.position[self.node]
            self.ledger.book(self.row.node, position, cause, amount)

    def spare(self, t: Tensor, like: Tensor | None = None) -> Tensor | None:
        """``numerics.spare`` for what a ledger still reads, so that with one it is kept."""
        return spare(t, like) if self.ledger is None else None

    def _in_rule_dtype(self, t: Tensor) -> Tensor:
        dtype = self.sweep.dtype
        if dtype is None or not (t.is_floating_point() or t.is_complex()):
            return t
        return t.to(raised(t.dtype, dtype))

    def __repr__(self) -> str:
        return f"Op({self.row.node})"
