"""The rules for layers by their definitions, one connection at a time; layers as matrices."""

from __future__ import annotations

from collections.abc import Callable

import dynamiclrp_core as lrp
import torch
from torch import Tensor, nn

Matrix = list[list[float]]
EPS = 1e-3  # large enough to be seen


def stab(z: float, eps: float = EPS) -> float:
    return z + eps if z >= 0 else z - eps


def shares(numerators: list[float], rest: float, r: float, divide=stab) -> list[float]:
    whole = divide(sum(numerators) + rest)
    return [n * r / whole for n in numerators]


# Each: relevance of the inputs a for one output with weights w (0: not connected), bias b, relevance r.


def epsilon(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    return shares([x * v for x, v in zip(a, w)], b, r)


def ignored(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    return shares([x * v for x, v in zip(a, w)], 0.0, r)


def spread(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    n = sum(v != 0 for v in w)
    z = stab(sum(x * v for x, v in zip(a, w)) + b)
    return [(x * v + (b / n if v != 0 else 0.0)) * r / z for x, v in zip(a, w)]


def clipped(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    def clip(z: float) -> float:
        return max(abs(z), 0.7) * (1 if z >= 0 else -1)

    return shares([x * v for x, v in zip(a, w)], b, r, clip)


def alpha_beta(alpha: float) -> Callable[..., list[float]]:
    def rule(a: list[float], w: list[float], b: float, r: float) -> list[float]:
        plus = shares([max(x * v, 0.0) for x, v in zip(a, w)], max(b, 0.0), r)
        minus = shares([min(x * v, 0.0) for x, v in zip(a, w)], min(b, 0.0), r)
        return [alpha * p - (alpha - 1) * m for p, m in zip(plus, minus)]

    return rule


def gamma_spread(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    z = sum(x * v for x, v in zip(a, w)) + b
    if z == 0:
        return [0.0] * len(a)

    def favoured(v: float) -> float:
        return v * 1.5 if v * z > 0 else v

    terms = [favoured(x * v) for x, v in zip(a, w)]
    n = sum(v != 0 for v in w)
    whole = stab(sum(terms) + favoured(b))
    return [(t + (favoured(b) / n if v != 0 else 0.0)) * r / whole for t, v in zip(terms, w)]


def w_square(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    return shares([v * v for v in w], b * b, r)


def flat(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    return shares([float(v != 0) for v in w], 0.0, r)


def z_box(a: list[float], w: list[float], b: float, r: float) -> list[float]:
    def term(x: float, v: float) -> float:
        return x * v - (-2.0 * v if v > 0 else 0.0) - (3.0 * v if v < 0 else 0.0)

    return shares([term(x, v) for x, v in zip(a, w)], 0.0, r)


RULES: dict[str, tuple[lrp.Rule, Callable[..., list[float]]]] = {
    "epsilon": (lrp.Epsilon(epsilon=EPS), epsilon),
    "norm": (lrp.Norm(epsilon=EPS), epsilon),
    "epsilon, bias ignored": (lrp.Epsilon(epsilon=EPS, bias="ignore"), ignored),
    "epsilon, bias spread": (lrp.Epsilon(epsilon=EPS, bias="spread"), spread),
    "epsilon clipped": (lrp.Epsilon(epsilon=0.7, clip=True), clipped),
    "alpha2-beta1": (lrp.AlphaBeta(epsilon=EPS), alpha_beta(2.0)),
    "alpha1-beta0": (lrp.AlphaBeta(epsilon=EPS, alpha=1, beta=0), alpha_beta(1.0)),
    "z+": (lrp.ZPlus(epsilon=EPS), alpha_beta(1.0)),
    "gamma, bias spread": (lrp.Gamma(epsilon=EPS, gamma=0.5, bias="spread"), gamma_spread),
    "w-square": (lrp.WSquare(epsilon=EPS), w_square),
    "flat": (lrp.Flat(epsilon=EPS), flat),
    "z-box": (lrp.ZBox(epsilon=EPS, low=-2.0, high=3.0), z_box),
}


def einsum(w: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.einsum("bcl,cd->bdl", x, w)


def layers() -> dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]]:
    torch.manual_seed(0)
    w = torch.randn(4, 3, dtype=torch.float64)
    made = {
        "linear": (nn.Linear(6, 4), (6,)),
        "linear on rows": (nn.Linear(3, 4, bias=False), (4, 3)),
        "conv1d, stride with remainder": (nn.Conv1d(2, 3, 2, stride=3), (2, 7)),
        "conv2d, padded": (nn.Conv2d(2, 3, 3, padding=1), (2, 3, 4)),
        "conv2d, same": (nn.Conv2d(2, 2, (3, 1), padding="same", bias=False), (2, 4, 3)),
        "conv2d, dilated in groups": (nn.Conv2d(4, 2, 2, dilation=2, groups=2), (4, 4, 3)),
        "conv3d": (nn.Conv3d(2, 2, 2, stride=(1, 2, 1)), (2, 2, 3, 2)),
        "transposed 1d": (nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 3)),
        "transposed 2d in groups": (nn.ConvTranspose2d(4, 2, 2, groups=2), (4, 2, 3)),
        "transposed 3d": (nn.ConvTranspose3d(1, 2, 2, dilation=2), (1, 2, 2, 1)),
        "einsum": (einsum(w), (4, 3)),
        "bmm": (lambda x: torch.bmm(w.mT.expand(x.shape[0], 3, 4), x), (4, 2)),
    }
    return {k: (f.double() if isinstance(f, nn.Module) else f, shape) for k, (f, shape) in made.items()}


LAYERS = layers()


def unfolded(layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[Matrix, list[float]]:
    """The layer as a matrix, column by column, and its bias."""
    with torch.no_grad():
        zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).reshape(-1)
        columns = []
        for k in range(torch.Size(shape).numel()):
            e = torch.zeros(1, *shape, dtype=torch.float64)
            e.view(-1)[k] = 1.0
            columns.append(layer(e).reshape(-1) - zero)
    matrix = torch.stack(columns, 1)
    return torch.where(matrix.abs() < 1e-12, 0.0, matrix).tolist(), zero.tolist()
