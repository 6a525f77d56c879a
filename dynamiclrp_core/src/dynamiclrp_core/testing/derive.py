"""What class an op is, derived from its own gradient, against what its row says.

A family is a theorem about a class of ops, so a row in the wrong family gives wrong numbers, some of which
conserve. The class is derived from autograd's Jacobian J of the node, which no row has a say in:

family        what must hold, x the operands and y the output (one line per entry of y)
linear        J is the same at other values, and ``J x = y`` up to what the op adds
moving        J holds one 1 per entry, or none where a constant came in; it depends on values in winners only
elementwise   J is diagonal; of a copy it is the identity, of a scaling f(-x) = -f(x) too
adding        J of each term is its weight on the diagonal
product       ``J_i x_i = y`` for each factor
quotient      ``J_0 x_0 = y``, ``J_1 x_1 = -y``
affine        ``J_i x_i = y`` up to the added term, for each factor
homogeneous   ``sum_i J_i x_i = p y``: Euler's theorem, with the degree p of that output or entry
softmax       ``J 1`` is 0, or 1 as for logsumexp: a shift of x passes through or not at all

A degree that another family's row states is checked by Euler's theorem too, and of every row the gradient
of its ``forward``, so that this is right around the operands and not only at them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import Unrecoverable
from ..numerics import fit
from ..op import Op
from ..table import Rules
from .case import Case


class Jacobian:
    """J of one node by its own backward, complex tensors as pairs of reals.

    ``parts[nr][i]``: of output ``nr`` by operand ``i``, entries of the output by entries of the operand;
    ``x`` and ``y``: their values, flat. An output without a value or a gradient is left empty. Raises
    Unrecoverable if an operand is gone.
    """

    def __init__(self, op: Op) -> None:
        self.op = op
        inputs = op.inputs()
        if any(t is not None and t.layout is not torch.strided for t in inputs):
            raise Unrecoverable("a sparse operand has no Jacobian of entries by entries")
        self.shapes = [torch.Size() if t is None else t.shape for t in inputs]
        self.x = [torch.zeros(0) if t is None else _flat(t) for t in inputs]
        self.y: list[Tensor] = []
        self.parts: list[list[Tensor]] = []
        for nr in range(len(op.metadata)):
            try:
                y = _flat(op.output(nr))
                rows = [self._row(nr, unit) for unit in torch.eye(len(y), dtype=y.dtype)]
            except (Unrecoverable, RuntimeError):
                y, rows = torch.zeros(0), []
            self.y.append(y)
            empty = [x.new_zeros(0, len(x)) for x in self.x]
            self.parts.append([torch.stack(block) for block in zip(*rows)] if rows else empty)

    def _row(self, nr: int, unit: Tensor) -> list[Tensor]:
        """The gradient of one entry of an output, by operand."""
        metadata = self.op.metadata
        shape, dtype = tuple(metadata[nr].shape), metadata[nr].dtype
        seed = torch.view_as_complex(unit.view(*shape, 2)) if dtype.is_complex else unit.view(shape)
        seeds = [seed.to(dtype) if k == nr else None for k in range(len(metadata))]
        row = []
        for x, shape_x, (node, k), g in zip(
            self.x, self.shapes, self.op.edges, self.op.sweep.call(self.op.node, seeds)
        ):
            if g is None or node is None:
                row.append(torch.zeros_like(x))
            else:
                row.append(_flat(fit(g, tuple(shape_x), node._input_metadata[k].dtype)).to(x))
        return row

    def along(self, nr: int, *operands: int) -> Tensor:
        """``sum_i J_i x_i`` of output ``nr`` over ``operands``, all if none is given."""
        chosen = operands or range(len(self.x))
        return sum((self._times(self.parts[nr][i], self.x[i]) for i in chosen), torch.zeros(()))

    @staticmethod
    def _times(j: Tensor, x: Tensor) -> Tensor:
        return (j * torch.where(j == 0, 0.0, x)).sum(1)


def _flat(t: Tensor) -> Tensor:
    t = t.detach()
    return (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t).reshape(-1)


def _same(a: Tensor, b: Tensor, digits: float) -> bool:
    finite = a.isfinite() & b.isfinite()
    scale = max(float(b[finite].abs().max()) if bool(finite.any()) else 0.0, 1.0)
    return a.shape == b.shape and bool(((a - b)[finite].abs() <= digits * scale).all())


# -- what each family claims: (Jacobian, one at other values, tolerance) -> what is wrong, or "" ----


def _constant(j: Jacobian, other: Jacobian, digits: float) -> bool:
    return all(_same(a, b, digits) for p, q in zip(j.parts, other.parts) for a, b in zip(p, q))


def _linear(j: Jacobian, other: Jacobian, digits: float) -> str:
    if not _constant(j, other, digits):
        return "not linear: its gradient differs at other values"
    added = [y - j.along(nr) for nr, y in enumerate(j.y)]
    return (
        ""
        if all(_same(a, y - other.along(nr), digits) for nr, (a, y) in enumerate(zip(added, other.y)))
        else ("not linear: J x is not its output")
    )


def _moving(j: Jacobian, other: Jacobian, digits: float) -> str:
    for part in j.parts:
        every = torch.cat(part, 1)
        ones = (every - 1).abs() <= digits
        whole = every.sum(1)
        if not j.op.row.selects and not bool((ones | (every.abs() <= digits)).all()):
            return "does not move entries: its gradient is not 0 or 1"
        if not bool(((whole.abs() <= digits) | ((whole - 1).abs() <= digits)).all()):
            return "does not move entries: more than one goes to an entry, or a part of one"
    if not j.op.row.selects and not _constant(j, other, digits):
        return "selects by value, which the row does not say"
    return ""


def _elementwise(j: Jacobian, other: Jacobian, digits: float) -> str:
    # The parts of a complex number may mix: blocks of 2 x 2 on the diagonal, or 1 x 2 of abs.
    for part in j.parts:
        for i, block in enumerate(part):
            entries = j.shapes[i].numel()
            if not block.any():
                continue
            if len(block) % entries:
                return f"not elementwise: {len(block)} entries of {entries}"
            where = torch.eye(entries).repeat_interleave(len(block) // entries, 0)
            where = where.repeat_interleave(block.shape[1] // entries, 1)
            if bool((block * (1 - where)).abs().gt(digits).any()):
                return "not elementwise: an entry depends on another's operand"
            if j.op.row.copies and not _same(block, where.to(block), digits):
                return "not a copy: its gradient is not 1"
    if j.op.row.scales and not _same(_flat(j.op.forward(-j.op.input(0))), -j.y[0], digits):
        return "not a scaling: f(-x) is not -f(x)"
    return ""


def _adding(j: Jacobian, other: Jacobian, digits: float) -> str:
    assert j.op.row.weights is not None
    for weight, block in zip(j.op.row.weights(j.op), j.parts[0]):
        if bool(block.any()) and not _same(
            block.sum(1), torch.full_like(block.sum(1), float(weight)), digits
        ):
            return f"a term's gradient is not its weight {weight:g}"
    return ""


def _factors(j: Jacobian, other: Jacobian, digits: float) -> str:
    op = j.op
    shift = op.row.shift(op) if op.row.shift is not None and op.row.bias is not None else None
    added = torch.zeros(()) if shift is None else _flat(shift.expand(op.shape))
    for i in op.row.factors:
        if op.live[i] and not _same(j.along(0, i) + added, j.y[0], digits):
            return f"not linear in its factor {op.row.name_of(i)}"
    return ""


def _quotient(j: Jacobian, other: Jacobian, digits: float) -> str:
    signs = [(i, s) for i, s in ((0, 1), (1, -1)) if j.op.live[i]]
    fits = all(_same(s * j.along(0, i), j.y[0], digits) for i, s in signs)
    return "" if fits else "not a quotient: not of degree 1 above and -1 below"


def _softmax(j: Jacobian, other: Jacobian, digits: float) -> str:
    moved = torch.cat([torch.cat(part, 1).sum(1) for part in j.parts])
    for shift in (0.0, 1.0):
        if _same(moved, torch.full_like(moved, shift), digits):
            return ""
    return "not of softmax's class: a shift of its operands neither cancels nor passes"


def _euler(j: Jacobian, other: Jacobian, digits: float) -> str:
    row, op = j.op.row, j.op
    degree = row.degree(op) if callable(row.degree) else row.degree
    degrees = degree if isinstance(degree, tuple) else (degree,) * len(j.y)
    for nr, (p, y) in enumerate(zip(degrees, j.y)):
        if p is None or not y.numel():
            continue
        wide = p.expand(op.metadata[nr].shape).reshape(-1) if isinstance(p, Tensor) else p
        if not _same(j.along(nr), wide * y, digits):
            found = (j.along(nr) / y)[y != 0]
            return (
                f"output {nr} is not of degree {p}: sum x df/dx / f is {[round(float(v), 3) for v in found]}"
            )
    return ""


Claim = Callable[[Jacobian, Jacobian, float], str]
CLAIMS: dict[str, Claim] = {
    "linear": _linear,
    "transform": _linear,
    "moving": _moving,
    "elementwise": _elementwise,
    "adding": _adding,
    "product": _factors,
    "quotient": _quotient,
    "affine": _factors,
    "homogeneous": _euler,
    "softmax": _softmax,
}


def check_class(case: Case, rules: Rules) -> None:
    """The class that the row of the sample's node names is the one its own gradient shows.

    Families without a claim (custom rules, held norms, sub-graphs) are checked by their ``forward`` alone.
    Raises AssertionError naming the sample and what does not hold.
    """
    here, other = _met(case, rules), _met(case.but(seed=case.seed + 1), rules)
    for op, elsewhere in zip(here, other):
        try:
            j, k = Jacobian(op), Jacobian(elsewhere)
        except Unrecoverable:
            continue
        digits = 10 * case.tolerance
        wrong = CLAIMS.get(op.row.family, _nothing)(j, k, digits)
        states = op.row.degree is not None and op.row.family in ("elementwise", "linear", "transform")
        wrong = wrong or (_euler(j, k, digits) if states else "")
        wrong = wrong or _forward_gradient(j, digits)
        assert not wrong, f"{case.sample}, a row of family {op.row.family}: {wrong}"


def _nothing(j: Jacobian, other: Jacobian, digits: float) -> str:
    return ""


def _met(case: Case, rules: Rules) -> list[Op]:
    """The nodes of the sample's kind."""
    # A Function of Python cannot be asked outside of a backward.
    return [op for op in case.ops(rules)[0] if any(op.live) and not hasattr(op.node, "_forward_cls")]


def _forward_gradient(j: Jacobian, digits: float) -> str:
    """The gradient of the row's forward against the node's."""
    op = j.op
    if op.row.forward is None or not any(y.numel() for y in j.y):
        return ""
    generator = torch.Generator().manual_seed(0)
    seeds: list[Tensor | None] = []
    for y, meta in zip(j.y, op.metadata):
        c = torch.randn(tuple(meta.shape), generator=generator, dtype=torch.float64)
        seeds.append(c.to(meta.dtype) if y.numel() else None)
    try:
        ours, theirs = op._vjp(tuple(seeds)), op.sweep.call(op.node, seeds)
    except (Unrecoverable, RuntimeError):
        return ""
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if op.live[i] and a is not None and b is not None:
            b = fit(b, tuple(a.shape), a.dtype)
            if not _same(_flat(a), _flat(b), digits):
                return f"the gradient of its forward differs from the node's (operand {op.row.name_of(i)})"
    return ""


__all__ = ["CLAIMS", "Jacobian", "check_class"]
