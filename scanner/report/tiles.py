"""One tile of a panel or sheet: a picture, a map, or a mask on its picture."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scanner.analysis.evidence import Evidence
from scanner.methods import registry
from scanner.report.canvas import (
    COLOUR_MAP,
    EDGE,
    GREY,
    PALE,
    map_scale,
    outline,
    without_specks,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOUND, TRUE, DARK = "#ffd60a", "#00c9ff", "#141414"
VEIL = (0.18, 0.18, 0.18, 0.65)
"""Colour and opacity of what lies over a picture outside its mask."""
MAPS = ("delta_s", "delta_h")
TITLES = {name: method.title for name, method in registry.MAPS.items() if name in MAPS}
COLUMNS = ("training image", "generated", "true mask", *MAPS, "mask")
NEAREST = "another caption's image"


def tile(axes: "Axes", name: str, row: Evidence, scale: Mapping[str, float], size: float) -> None:
    """Draw one column of a caption, or say why there is nothing to draw."""
    axes.set(xticks=[], yticks=[], facecolor=PALE)
    axes.spines[:].set_color(EDGE)
    pictures = {"training image": row.training, NEAREST: row.nearest}
    if not row.at_image:
        pictures["generated"] = row.generated
    if (picture := pictures.get(name)) is not None:
        _fit(axes, np.asarray(picture))
    elif name in row.maps:
        _fit(axes, row.maps[name], cmap=COLOUR_MAP, norm=map_scale(scale[name]))
    elif name == "true mask" and row.truth is not None:
        _fit(axes, row.truth, cmap="gray", vmin=-0.1, vmax=1.05)
    elif name == "mask" and row.mask is not None:
        _masked(axes, row, row.mask, size / 5)
    else:
        axes.text(0.5, 0.5, _missing(name, row), ha="center", va="center", **words(size, GREY))


def _missing(name: str, row: Evidence) -> str:
    if name in MAPS or (name == "mask" and not row.maps):
        return "not localized"
    if name == "generated" and row.at_image:
        return "not sampled"
    return {"true mask": "not known", "mask": "no pixel threshold"}.get(name, "no image")


def _fit(axes: "Axes", pixels: NDArray[Any], **how: Any) -> None:
    """Draw pixels as large as a square tile allows."""
    height, width = np.array(pixels.shape[:2]) / max(pixels.shape[:2]) / 2
    extent = (0.5 - width, 0.5 + width, 0.5 + height, 0.5 - height)
    axes.imshow(pixels, extent=extent, aspect="auto", **how)
    axes.set(xlim=(0, 1), ylim=(1, 0))


def _masked(axes: "Axes", row: Evidence, mask: NDArray[np.bool_], line: float) -> None:
    """Draw the picture dimmed outside the exact mask, its outline without specks."""
    picture = row.training if row.at_image else row.generated
    _fit(axes, np.full((*mask.shape, 3), 241, np.uint8) if picture is None else np.asarray(picture))
    veil = np.full((*mask.shape, 4), VEIL)
    veil[mask] = 0
    where = axes.images[0].get_extent()
    axes.imshow(veil, extent=where, aspect="auto", interpolation="nearest")
    axes.set(xlim=(0, 1), ylim=(1, 0))
    outline(axes, row.truth, TRUE, line, edge=DARK)
    outline(axes, without_specks(mask), FOUND, line, edge=DARK)


def colour_bar(axes: "Axes", top: float, *, middle: bool) -> None:
    """Draw the colours of a map and their values below its tile."""
    from matplotlib.cm import ScalarMappable

    colours = ScalarMappable(map_scale(top), COLOUR_MAP)
    below = axes.inset_axes((0, -0.09, 1, 0.045))
    ticks = [0, float(np.expm1(np.log1p(top) / 2)), top] if middle else [0, top]
    bar = axes.figure.colorbar(colours, cax=below, orientation="horizontal", ticks=ticks)
    bar.outline.set_visible(False)
    below.set_xticks(ticks, map(_short, ticks), **words(11, GREY))
    below.minorticks_off()
    below.tick_params(length=0)
    below.get_xticklabels()[0].set_horizontalalignment("left")
    below.get_xticklabels()[-1].set_horizontalalignment("right")


def _short(value: float) -> str:
    """Return a number in at most five or so characters."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def legend(axes: "Axes", row: Evidence) -> None:
    """Name the outlines of a mask below its tile."""
    from matplotlib.patches import Patch

    entries = [Patch(color=FOUND, label="found")]
    if row.truth is not None and row.truth.any():
        entries.append(Patch(color=TRUE, label="true"))
    axes.legend(
        handles=entries, loc="upper left", bbox_to_anchor=(0, -0.02), borderaxespad=0,
        frameon=False, ncols=2, fontsize=12, labelcolor=GREY, borderpad=0, handlelength=1,
    )  # fmt: skip
