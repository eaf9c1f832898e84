"""Charts as SVG in the colours of the page."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scanner.report.canvas import pixel_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"flag": "#c2410c", "clear": "#7d8fa3", "accent": "#1d5fa8", "ink": "#1b1d20",
           "soft": "#565c64", "line": "#dcdfe3"}  # fmt: skip
"""Colour that stands for each variable of the style sheet until its name takes the place."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "memscan",
    "font.size": 13, "font.family": "DejaVu Sans",
    "text.color": COLOURS["ink"], "axes.edgecolor": COLOURS["line"],
    "xtick.color": COLOURS["soft"], "ytick.color": COLOURS["soft"],
}  # fmt: skip
UNUSED = r'^.*?(?=<svg)|<(metadata|style)\b.*?</\1>| id="[\w.]+_\d+"|(?<=\.\d)\d+(?=[ "])'
"""Parts of an SVG that a page does without: the XML declaration, metadata, names that nothing
refers to, and less than a tenth of a pixel."""


def drawn(draw: "Callable[[Axes], None]", size: tuple[int, int]) -> str:
    """Return a chart with its legend above, in the colours of the page.

    Args:
        draw: Draws on axes, with `COLOURS`.
        size: Width and height in pixels at which letters have the page's size.
    """
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context(STYLE):
        figure = pixel_figure(*size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.legend(loc="outside upper left", ncols=2 if size[0] < 600 else 4, frameon=False)
        figure.savefig(stream, format="svg", transparent=True)
    svg = re.sub(r"\s+", " ", re.sub(UNUSED, "", stream.getvalue(), flags=re.S))
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def plain(axes: "Axes") -> None:
    """Leave of the frame only the lower edge, and dotted lines at the heights."""
    axes.minorticks_off()
    axes.tick_params(length=0, pad=6)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=COLOURS["line"], ls=":")
    axes.spines[["top", "left", "right"]].set_visible(False)


def count_heights(axes: "Axes", *, log: bool) -> None:
    """Make heights counts; as logarithms, a handful stays visible beside millions."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    if log:
        axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0)
