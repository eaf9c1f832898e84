"""One caption as a figure: the generated picture, its maps, the outlines of the masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ConfigError
from scanner.masks import resize
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

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    number = len(panels) + (picture is not None)
    figure = _figure_class()(figsize=(SIDE * number, SIDE + 0.7), layout="constrained", dpi=80)
    grid = figure.subplots(1, number, squeeze=False)
    places = iter(grid[0])
    lines = [printable(cut(line, 30 * number)) for line in title.split("\n")]
    figure.suptitle("\n".join(lines), fontsize=9)
    if picture is not None:
        axes = next(places)
        axes.imshow(picture)
        axes.set_title("generated", fontsize=9)
        if panels[0].mask is not None:
            _outline(axes, resize(panels[0].mask, *picture.shape[:2]))
    for axes, panel in zip(places, panels, strict=True):
        most = float(np.abs(panel.values).max()) or 1.0
        axes.imshow(panel.values, cmap="RdBu_r", vmin=-most, vmax=most)
        axes.set_title(panel.name, fontsize=9)
        axes.set_xlabel(f"±{most:.3g}", fontsize=8)
        if panel.mask is not None:
            _outline(axes, panel.mask)
    for axes in grid[0]:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


@cache
def _figure_class() -> "type[Figure]":
    """Return a figure that a notebook shows, whichever backend is set; no backend is chosen here.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("figures need matplotlib: pip install 'memscan[figures]'") from error

    class ScoreFigure(Figure):
        def _repr_png_(self) -> bytes:
            stream = BytesIO()
            self.savefig(stream, format="png")
            return stream.getvalue()

    return ScoreFigure


def _outline(axes, mask: NDArray[np.bool_]) -> None:  # noqa: ANN001
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=1.2)
