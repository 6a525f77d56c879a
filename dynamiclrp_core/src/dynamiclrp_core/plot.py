"""Pictures of relevance: red speaks for the output, blue against it, white is zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

SHARPEST = 0.995
"""Colours saturate at this quantile of ``|R|``: single pixels must not bleach all others."""


def heatmap_grid(
    images: Tensor,
    heatmaps: Mapping[str, Tensor],
    out: Path,
    *,
    captions: Sequence[str] = (),
    title: str = "",
) -> None:
    """Write a PNG: a row per image, the image first, then its heatmap under each name.

    images     (n, channels, height, width), 1 channel (ink: 0 is drawn white) or 3 (red, green,
               blue), between 0 and 1
    heatmaps   name -> relevance of the images' shape; summed over channels
    captions   one per row
    out        the file; its folder is made

    Each heatmap has a scale of its own, symmetric about zero. Needs no display.

    Raises ValueError where shapes do not fit, ModuleNotFoundError without matplotlib
    (``pip install 'dynamiclrp-core[plot]'``).
    """
    # Not pyplot: it would choose a backend and keep state for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images have shape {tuple(images.shape)}, not (n, 1 or 3, height, width)")
    for name, r in heatmaps.items():
        if r.shape != images.shape:
            raise ValueError(f"heatmap {name!r} has shape {tuple(r.shape)}, the images {tuple(images.shape)}")
    n, _, height, width = images.shape
    if captions and len(captions) != n:
        raise ValueError(f"{len(captions)} captions for {n} images")
    columns = 1 + len(heatmaps)
    cell = 1.5 if n > 1 else 3.2
    size = (columns * cell * width / height + 0.3, n * cell + (0.6 if title else 0.35))
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n, columns, squeeze=False)
    shown = images.detach().float().cpu().permute(0, 2, 3, 1).numpy()
    for row, image in enumerate(shown):
        first = axes[row][0]
        first.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        if captions:
            first.set_ylabel(captions[row], fontsize=8)
        for axis, r in zip(axes[row][1:], heatmaps.values()):
            flat = r[row].detach().float().cpu().sum(0)
            limit = scale(flat)
            axis.imshow(flat.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        for axis in axes[row]:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_color("0.8")
    for axis, name in zip(axes[0], ("image", *heatmaps)):
        axis.set_title(name, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def scale(relevance: Tensor) -> float:
    """Where the colours of a heatmap saturate; 1 if it is zero everywhere."""
    sizes = relevance.abs().flatten().sort().values
    limit = float(sizes[int(SHARPEST * (len(sizes) - 1))])
    return limit or float(sizes[-1]) or 1.0


__all__ = ["heatmap_grid"]
