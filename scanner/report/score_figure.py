"""One caption as a figure: the generated picture, its maps, the outlines of the masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scanner.report.canvas import as_png, outline, words
from scanner.text import cut, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 2.6
"""Width and height of a panel, in inches."""
OUTLINE = "#111111"


@dataclass(frozen=True, slots=True)
class Panel:
    """One map.

    Attributes:
        name: Its metric.
        values: ``(height, width)``, signed.
        mask: ``(height, width)`` bool, or null.
    """

    name: str
    values: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


def score_figure(
    title: str, picture: NDArray[np.uint8] | None, panels: Sequence[Panel]
) -> "Figure":
    """Return the figure.

    Args:
        title: Above it; what no font has is replaced.
        picture: ``(height, width, 3)``, or null.
        panels: The maps, the first of which outlines the picture too.
    """
    number = len(panels) + (picture is not None)
    figure = _figure_class()(figsize=(SIDE * number, SIDE + 0.7), layout="constrained", dpi=80)
    grid = figure.subplots(1, number, squeeze=False)
    places = iter(grid[0])
    lines = [printable(cut(line, 30 * number)) for line in title.split("\n")]
    figure.suptitle("\n".join(lines), **words(9))
    if picture is not None:
        axes = next(places)
        axes.imshow(picture)
        axes.set_title("generated", fontsize=9)
        outline(axes, panels[0].mask, OUTLINE, 1.2)
    for axes, panel in zip(places, panels, strict=True):
        most = float(np.abs(panel.values).max()) or 1.0
        axes.imshow(panel.values, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.set_title(panel.name, fontsize=9)
        axes.set_xlabel(f"±{most:.3g}", fontsize=8)
        outline(axes, panel.mask, OUTLINE, 1.2)
    for axes in grid[0]:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


@cache
def _figure_class() -> "type[Figure]":
    """Return a figure that a notebook shows, whichever backend is set."""
    from matplotlib.figure import Figure

    class ScoreFigure(Figure):
        def _repr_png_(self) -> bytes:
            return as_png(self)

    return ScoreFigure
