"""What an operation is (``Row``) and how relevance passes through it (``Rule``).

Note [Forms of relevance]
Relevance of a tensor ``a`` travels as a coefficient ``c``, as a value ``R``, or as one of each:
``R_total = a * c + R``. A rule has a method per form. Both return one entry per operand: a Tensor is
a coefficient, a ``Value`` a relevance value, ``None`` nothing. The base class converts between the
forms, so a rule writes only the one that is natural to it and asks for an activation only there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from .errors import BadRule
from .numerics import componentwise, quotient, times

if TYPE_CHECKING:
    from .op import Op


class Value:
    """An entry in value form: this much relevance, whatever the operand's activation is."""

    __slots__ = ("relevance",)

    def __init__(self, relevance: Tensor) -> None:
        self.relevance = relevance


Entry = Tensor | Value | None
Entries = Sequence[Entry]
Matcher = Callable[["Op"], Any]
Conserves = Literal["exact", "absorbed", "none"]
Degrees = float | Tensor | tuple["float | Tensor", ...] | None
Degree = Degrees | Callable[["Op"], Degrees]


class Rule(BaseModel):
    """How relevance passes through one node. Parameters are fields: typed, bounded, no extras.

    ``conserves`` is a promise the conformance test holds the rule to: ``exact`` (what comes in goes
    out), ``absorbed`` (equal after adding what the rule books in the ledger), ``none``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conserves: ClassVar[Conserves] = "absorbed"
    masks: ClassVar[bool] = False
    """Whether the coefficient sent on is 0 wherever the activation's output is 0 but its input not."""
    real: ClassVar[bool] = False
    """Whether the rule compares or bounds values. On complex tensors, which have no order, the row's own
    default is used then, and named in ``run.rules_used``."""
    joins: ClassVar[bool] = False
    """Whether the rule must see both forms added up: it is not linear in relevance, or shows its sum."""
    linear: ClassVar[bool] = True
    """Whether the entries are linear in the relevance that arrives."""

    if not TYPE_CHECKING:  # the generated __init__ tells type checkers more

        def __new__(cls, *args: object, **_: object) -> Rule:
            if args:
                names = ", ".join(f"{name}=..." for name in cls.model_fields) or "it has none"
                raise TypeError(f"{cls.__name__} takes its parameters by name: {names}")
            return super().__new__(cls)

    def coefficient(self, op: Op, *c: Tensor | None) -> Entries:
        """Entries for coefficients ``c``, one per output of the node (None: nothing arrived)."""
        return self.value(op, *(None if ci is None else times(op.output(i), ci) for i, ci in enumerate(c)))

    def value(self, op: Op, *r: Tensor | None) -> Entries:
        """Entries for relevance values ``r``, one per output. Relevance of a zero output is booked."""
        c: list[Tensor | None] = []
        for i, ri in enumerate(r):
            if ri is None:
                c.append(None)
                continue
            output = op.output(i)
            if op.ledger is not None:
                op.book("zero output", componentwise(lambda r, y: r * (y == 0), ri, output).sum())
            c.append(componentwise(quotient, ri, output))
        return self.coefficient(op, *c)

    def is_backward(self, row: Row) -> bool:
        """Whether ``coefficient`` is the node's own backward for the operands that are wanted, books aside.

        True only for the very method it speaks of: a subclass may override that and inherit this.
        """
        return False

    @staticmethod
    def only(c: Sequence[Tensor | None]) -> Tensor:
        """What arrived at output 0, for rules that know no other output."""
        first = c[0]
        if first is None or (len(c) > 1 and any(ci is not None for ci in c[1:])):
            raise BadRule("relevance arrived at an output that the rule does not know (not output 0)")
        return first

    @property
    def id(self) -> str:
        """``Name(param=value, ...)``: identifies the rule in ``run.rules_used``."""
        return repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation. Families (``families.py``) build rows; ``op`` is the node's ``Op`` view.

    node       autograd's name of the node, or ``module.QualName`` of a custom Function
    family     the theorem that gives the default rule; presets replace rules by family
    cases      (matcher or None, rule): the first whose matcher holds is used
    operands   schema names of the operands, one per edge; autograd saves an operand as ``_saved_<name>``.
               ``"tensors*"``: any number of edges
    results    names of saved fields that hold the forward outputs, by output number
    forward    ``(op, *operands) -> output`` (a tuple if there are several)
    pull       ``(op, c, i, at)``: gradient of operand i alone, so that no other is computed; ``at(j)``
               is the value of operand j
    inverse    ``(op, output) -> operand 0``
    exact      whether ``inverse`` loses nothing (a move), not even digits
    part       ``forward`` is a view of a part of its operand: what comes back can be added to that part
    slope      ``(op) -> (f(x) - f(0)) / x``, a new tensor: the rule writes its result there. None: computed
               from ``forward``, or for degree 1 (relu, casts) the derivative, which is that slope
    at_zero    f(0), a number or ``(op) -> number``; infinite where f has a pole or no finite limit;
               None: 0 with a slope or degree 1, else computed from ``forward``
    copies     f(x) = x in other memory, layout or dtype
    scales     f(x) = k x with a constant k per entry (a number, a dropout's mask)
    degree     degree of homogeneity in all operands: a number, a tensor where entries differ, a tuple
               where outputs do, or ``(op)`` -> one of these (None: unknown)
    straight   numbers of the outputs in which the op is linear (the mean of var_mean)
    separate   a call on lists: output i of n is made of operands i, i + n, i + 2n ... and of no other
    reduces    whether elements are summed or selected over a dimension
    selects    which entries move depends on their values (max, sort)
    weights    ``(op) -> factor of each term`` of a sum
    factors    which operands are multiplied with each other
    times      of a layer, ``(op) -> number`` that the product is multiplied with (alpha of addmm)
    columns    a matrix product of the factors: columns of the output need no others of the second factor
    bias       which operand is an added term
    optional   operands that a call may lack (the weight and bias of a norm)
    unused     operands that the forward ignores (what stood where something is written)
    shift      ``(op) -> f(0)``: what is constant in an affine op (bias, padding), for the ledger
    stands_in  a relu-like gate: output == input wherever the output is not 0
    scaled     of a layer, ``(op, w, k, inputs)``: weights that are those of ``w`` times ``k`` per output
               channel, or with ``inputs`` per input channel
    channelwise  ``(op) -> k, t``: the op is ``k x + t`` with constants per channel (batch norm)
    unexecuted why no sample can build the node on a CPU ("needs CUDA"): its field names are checked
               against torch's headers, its formula on stand-ins
    """

    node: str
    family: str
    cases: tuple[tuple[Matcher | None, Rule], ...]
    operands: tuple[str, ...] = ()
    variadic: bool = False
    results: tuple[str, ...] = ()
    forward: Callable[..., Any] | None = None
    pull: Callable[..., Tensor] | None = None
    inverse: Callable[[Op, Tensor], Tensor] | None = None
    exact: bool = False
    part: bool = False
    slope: Callable[[Op], Tensor] | None = None
    at_zero: float | Callable[[Op], float] | None = None
    copies: bool = False
    scales: bool = False
    degree: Degree = None
    straight: tuple[int, ...] = ()
    separate: bool = False
    reduces: bool = False
    selects: bool = False
    weights: Callable[[Op], tuple[float, ...]] | None = None
    factors: tuple[int, ...] = ()
    times: Callable[[Op], float] | None = None
    columns: bool = False
    bias: int | None = None
    optional: tuple[int, ...] = ()
    unused: tuple[int, ...] | range = ()
    shift: Callable[[Op], Tensor | None] | None = None
    stands_in: bool = False
    scaled: Callable[[Op, Tensor, Tensor, bool], Tensor] | None = None
    channelwise: Callable[[Op], tuple[Tensor, Tensor]] | None = None
    unexecuted: str = ""
    pack: str = ""
    source: str = ""

    def degree_of(self, op: Op, output: int = 0) -> float | None:
        """The degree of one output, if that is one number."""
        degree = self.degree(op) if callable(self.degree) else self.degree
        own = degree[output] if isinstance(degree, tuple) else degree
        return None if isinstance(own, Tensor) else own

    def name_of(self, operand: int) -> str:
        """Schema name of an operand."""
        if self.variadic:
            return f"{'/'.join(self.operands)}[{operand}]"
        return self.operands[operand] if operand < len(self.operands) else f"operand {operand}"
