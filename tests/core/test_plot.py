"""Pictures: zero is white, red speaks for and blue against, and nothing needs a display."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dynamiclrp_core.plot import heatmap_grid

pytest.importorskip("matplotlib")


def drawn(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(path))[..., :3]


def panel(picture: np.ndarray, row: int, column: int, rows: int, columns: int) -> np.ndarray:
    """The inner half of one panel, roughly: panels fill the picture evenly enough for that."""
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    top, left = int(height * (row + 0.3)), int(width * (column + 0.3))
    return picture[top : top + int(height * 0.4), left : left + int(width * 0.4)]


def test_red_for_blue_against_white_zero(tmp_path: Path) -> None:
    images = torch.ones(3, 1, 4, 4)
    # Row 0 all positive, row 1 all negative, row 2 zero.
    r = torch.stack([torch.full((1, 4, 4), v) for v in (2.0, -0.001, 0.0)])
    heatmap_grid(images, {"r": r}, tmp_path / "grid.png")
    picture = drawn(tmp_path / "grid.png")
    for_it, against, nothing = (panel(picture, i, 1, 3, 2).mean((0, 1)) for i in range(3))
    assert for_it[0] > for_it[2] + 0.2
    assert against[2] > against[0] + 0.2
    assert nothing.min() > 0.95


def test_scale_is_symmetric_about_zero(tmp_path: Path) -> None:
    # A scale from min to max would draw -1 as deep as 8; about zero, -1 is all but white beside it.
    r = torch.full((1, 1, 4, 4), -1.0)
    r[..., 0, 0] = 8.0
    r[..., 3, 3] = 8.0
    heatmap_grid(torch.zeros(1, 1, 4, 4), {"r": r}, tmp_path / "grid.png")
    middle = panel(drawn(tmp_path / "grid.png"), 0, 1, 1, 2).mean((0, 1))
    assert middle.min() > 0.8
    assert middle[2] > middle[0]


def test_relevance_of_colours_is_added(tmp_path: Path) -> None:
    r = torch.tensor([1.0, 1.0, -2.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    heatmap_grid(torch.zeros(1, 3, 4, 4), {"r": r}, tmp_path / "grid.png")
    assert panel(drawn(tmp_path / "grid.png"), 0, 1, 1, 2).min() > 0.9


def test_makes_the_folder_and_takes_tensors_with_grad(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 5, 7, requires_grad=True)
    out = tmp_path / "new" / "grid.png"
    heatmap_grid(images, {"a": images * 2, "b": images}, out, captions=["x", "y"], title="t")
    assert drawn(out).shape[0] > 100


def test_a_fixed_scale_keeps_zero_white(tmp_path: Path) -> None:
    """vmin and vmax need not be symmetric; the same value has the same colour in all panels."""
    r = torch.stack([torch.full((1, 4, 4), v) for v in (0.0, 1.0, 2.0)])
    maps = {"a": r, "b": r.flip(0)}
    heatmap_grid(None, maps, tmp_path / "grid.png", vmin=-1.0, vmax=4.0)
    picture = drawn(tmp_path / "grid.png")
    panels = [[panel(picture, row, column, 3, 2).mean((0, 1)) for column in range(2)] for row in range(3)]
    assert panels[0][0].min() > 0.95
    assert panels[1][0][2] > panels[2][0][2] + 0.05  # 2 is deeper red than 1
    for row in range(3):
        assert panels[row][0] == pytest.approx(panels[2 - row][1], abs=0.02)
    for bad in (dict(vmin=1.0, vmax=2.0), dict(vmax=-1.0)):
        with pytest.raises(ValueError, match="zero, which is drawn white"):
            heatmap_grid(None, maps, **bad)


def test_overlay_shows_image_and_heatmap(tmp_path: Path) -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[..., :4] = 1.0
    r = torch.zeros(1, 3, 8, 8)
    r[..., 4:, :] = 1.0
    heatmap_grid(images, {"r": r}, tmp_path / "grid.png", overlay=True)
    picture = drawn(tmp_path / "grid.png")
    height, width = picture.shape[:2]
    right = picture[:, width // 2 :]
    light, dark = right[height // 3, width // 8], right[height // 3, 3 * width // 8]
    assert light.min() > dark.max() + 0.2  # the image, where there is no relevance
    red = right[2 * height // 3, width // 8]
    assert red[0] > red[2] + 0.2
    with pytest.raises(ValueError, match="overlay needs the images"):
        heatmap_grid(None, {"r": r}, overlay=True)


def test_many_heatmaps_of_one_image_are_wrapped(tmp_path: Path) -> None:
    maps = {f"map {k}": torch.full((1, 4, 4), float(k - 2)) for k in range(5)}
    figure = heatmap_grid(torch.ones(1, 1, 4, 4), maps, tmp_path / "grid.png", columns=4)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["image", "map 0", "map 1", "map 2", "map 3", "map 4", "", ""]
    picture = drawn(tmp_path / "grid.png")
    assert picture.shape[1] > 1.5 * picture.shape[0]
    last = panel(picture, 1, 1, 2, 4).mean((0, 1))
    assert last[0] > last[2] + 0.2
    with pytest.raises(ValueError, match="is for one image"):
        heatmap_grid(None, {"r": torch.zeros(2, 4, 4)}, columns=2)


def test_vector_pictures(tmp_path: Path) -> None:
    heatmap_grid(None, {"r <&>": torch.ones(1, 4, 4)}, tmp_path / "grid.svg")
    assert (tmp_path / "grid.svg").read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    ("image", "heatmap", "captions", "says"),
    [
        ((2, 4, 4), (2, 4, 4), (), r"images have shape \(2, 4, 4\)"),
        ((2, 2, 4, 4), (2, 2, 4, 4), (), "not \\(n, 1 or 3"),
        ((2, 1, 4, 4), (1, 1, 4, 4), (), r"heatmap 'r' has shape \(1, 1, 4, 4\)"),
        ((2, 1, 4, 4), (2, 1, 4, 4), ("one",), "1 captions for 2 images"),
        ((2, 1, 4, 4), (4, 4), (), r"heatmap 'r' has shape \(4, 4\), not \(n, channels"),
    ],
)
def test_says_what_does_not_fit(
    image: tuple[int, ...],
    heatmap: tuple[int, ...],
    captions: tuple[str, ...],
    says: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=says):
        heatmap_grid(torch.zeros(image), {"r": torch.zeros(heatmap)}, tmp_path / "x.png", captions=captions)
    assert not list(tmp_path.iterdir())


def test_says_what_cannot_be_drawn() -> None:
    x = torch.zeros(1, 3, 4, 4)
    for image in (x - 0.5, x + 1.5):
        with pytest.raises(
            ValueError, match=r"values from .*, not 0 to 1: pass the picture as it was before"
        ):
            heatmap_grid(image, {"r": x})
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'r' has entries that are not finite"):
            heatmap_grid(x, {"r": x + bad})


def test_one_map_and_a_name_as_text(tmp_path: Path) -> None:
    x = torch.ones(1, 3, 4, 4)
    figure = heatmap_grid(x, x, str(tmp_path / "new" / "grid.png"))
    assert [axis.get_title() for axis in figure.axes] == ["image", "relevance"]
    assert panel(drawn(tmp_path / "new" / "grid.png"), 0, 1, 1, 2).mean((0, 1))[0] > 0.3


def test_keeps_out_of_pyplot() -> None:
    code = (
        "import sys, torch, pathlib, tempfile\n"
        "from dynamiclrp_core.plot import heatmap_grid\n"
        "assert 'matplotlib' not in sys.modules\n"
        "x = torch.zeros(1, 1, 2, 2)\n"
        "heatmap_grid(x, {'r': x}, pathlib.Path(tempfile.mkdtemp()) / 'x.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
