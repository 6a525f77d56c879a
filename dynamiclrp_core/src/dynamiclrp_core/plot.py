"""Pictures of relevance: red speaks for the output, blue against it, white is zero.

Files only, no display and no notebook: ``.png``, ``.svg`` or ``.pdf``, by the name of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

SHARPEST = 0.995
"""Colours saturate at this quantile of ``|R|``: single pixels must not bleach all others."""


def heatmap_grid(
    images: Tensor | None,
    heatmaps: Mapping[str, Tensor] | Tensor,
    out: Path | str | None = None,
    *,
    captions: Sequence[str] = (),
    title: str = "",
    overlay: bool = False,
    vmin: float | None = None,
    vmax: float | None = None,
    columns: int | None = None,
) -> Any:
    """A row per image: the image first, then its heatmap under each name. Returns matplotlib's Figure.

    images      (n, channels, height, width), 1 channel (ink: 0 is drawn white) or 3 (red, green,
                blue), between 0 and 1. None: heatmaps only
    heatmaps    name -> relevance, (n, any channels, height, width), summed over channels, or
                (n, height, width); or one such tensor
    out         the file to write; its folder is made
    captions    one per row
    overlay     heatmaps are laid over the image in grey
    vmin, vmax  where blue and red saturate, the same for all heatmaps; zero stays white. One given: the
                other is its negative. None: a scale of its own for each heatmap, symmetric about zero
    columns     panels per row, for a single image with many heatmaps

    Raises ValueError where shapes do not fit, for an image that is not between 0 and 1 (before it was
    normalised it was) and for relevance that is not finite, ModuleNotFoundError without matplotlib
    (``pip install 'dynamiclrp-core[plot]'``).
    """
    maps = _checked(images, {"relevance": heatmaps} if isinstance(heatmaps, Tensor) else heatmaps)
    n, height, width = next(iter(maps.values())).shape
    if captions and len(captions) != n:
        raise ValueError(f"{len(captions)} captions for {n} images")
    if overlay and images is None:
        raise ValueError("overlay needs the images")
    if columns is not None and n != 1:
        raise ValueError(f"columns={columns} is for one image, not {n}")
    limits = _limits(vmin, vmax)
    # Not pyplot: it would choose a backend and keep state for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [*(() if images is None else ("image",)), *maps]
    across = len(names) if columns is None else min(columns, len(names))
    down = n if columns is None else -(-len(names) // across)
    cell = 1.5 if n > 1 else 3.2 if columns is None else 2.2
    head = 0.25 * (down - 1) * (columns is not None) + (0.6 if title else 0.35)
    figure = Figure(
        figsize=(across * cell * width / height + 0.3, down * cell + head), dpi=160, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False)
    shown = None if images is None else images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    for row in range(n):
        panels = list(axes[row] if columns is None else chain.from_iterable(axes))
        for axis, name in zip(panels, names):
            if name in maps:
                under = shown[row].mean(-1) if overlay and shown is not None else None
                _draw(axis, maps[name][row], limits, under)
            elif shown is not None:
                axis.imshow(shown[row], cmap="gray_r", vmin=0, vmax=1)
            if row == 0:
                axis.set_title(name, fontsize=9)
        for axis in panels:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_color("0.8")
        for axis in panels[len(names) :]:
            axis.set_axis_off()
        if captions:
            panels[0].set_ylabel(captions[row], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    if out is not None:
        out = Path(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out)
    return figure


def _checked(images: Tensor | None, heatmaps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Heatmaps as (n, height, width), all of one size."""
    if images is not None and (images.dim() != 4 or images.shape[1] not in (1, 3)):
        raise ValueError(f"images have shape {tuple(images.shape)}, not (n, 1 or 3, height, width)")
    if images is not None and images.numel():
        low, high = (float(v) for v in images.detach().aminmax())
        if low < 0 or high > 1:
            raise ValueError(
                f"images have values from {low:.3g} to {high:.3g}, not 0 to 1: pass the picture as it was "
                "before it was normalised"
            )
    if not heatmaps:
        raise ValueError("no heatmaps to draw")
    made: dict[str, Tensor] = {}
    for name, r in heatmaps.items():
        if r.dim() not in (3, 4):
            raise ValueError(f"heatmap {name!r} has shape {tuple(r.shape)}, not (n, channels, height, width)")
        flat = r.detach().float().cpu()
        made[name] = flat.sum(1) if r.dim() == 4 else flat
        first = next(iter(heatmaps.values())) if images is None else images
        if made[name].shape != (first.shape[0], *first.shape[-2:]):
            what = "the first" if images is None else "the images"
            raise ValueError(f"heatmap {name!r} has shape {tuple(r.shape)}, {what} {tuple(first.shape)}")
        if not bool(flat.isfinite().all()):
            raise ValueError(f"heatmap {name!r} has entries that are not finite: there is no colour for them")
    return made


def _limits(vmin: float | None, vmax: float | None) -> tuple[float, float] | None:
    if vmin is None and vmax is None:
        return None
    low = vmin if vmin is not None else -vmax if vmax is not None else 0.0
    high = vmax if vmax is not None else -low
    if not low < 0 < high:
        raise ValueError(f"vmin={low} and vmax={high}: zero, which is drawn white, must lie between them")
    return low, high


def _draw(axis: Any, heatmap: Tensor, limits: tuple[float, float] | None, under: Any) -> None:
    from matplotlib.colors import TwoSlopeNorm

    low, high = limits or (-scale(heatmap), scale(heatmap))
    norm = TwoSlopeNorm(0.0, low, high)
    if under is None:
        axis.imshow(heatmap.numpy(), cmap="RdBu_r", norm=norm)
        return
    axis.imshow(under, cmap="gray", vmin=-0.5, vmax=1)  # pale: dark parts must not hide colours
    strength = abs(norm(heatmap.numpy()).data - 0.5) * 2
    axis.imshow(heatmap.numpy(), cmap="RdBu_r", norm=norm, alpha=strength.clip(0, 1))


def scale(relevance: Tensor) -> float:
    """Where the colours of a heatmap saturate; 1 if it is zero everywhere."""
    sizes = relevance.abs().flatten().sort().values
    limit = float(sizes[int(SHARPEST * (len(sizes) - 1))])
    return limit or float(sizes[-1]) or 1.0


__all__ = ["heatmap_grid"]
