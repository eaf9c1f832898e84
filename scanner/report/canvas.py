"""Parts of all pictures: a figure without a window, the colours of maps, the edge of a mask."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from scanner import files
from scanner.text import wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

INK, GREY, PALE, EDGE = "#1c1e21", "#6a6f76", "#f1f2f4", "#d5d8dc"
LINES = ("#0b6fa4", "#d1495b", "#2a9d5c", "#e08e0b", "#7a4fa3", "#5c5f66", "#00a6a6", "#a0522d")
"""Colours of curves, in their order."""
COLOUR_MAP = "inferno"
"""Dark to bright in even steps of lightness, readable without colour vision."""
OVERLAY_LEVELS = 32
MIN_COLUMNS = 4
MEDIAN_SIDE = 5
FAMILIES = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans", "Arial Unicode MS")
"""Fonts that captions are drawn with: each letter in the first of those here that has it."""


def pixel_figure(width: float, height: float, **more: Any) -> "Figure":
    """Return an empty figure, all of whose lengths are pixels: fonts and lines too."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72, **more)


def grid_figure(
    width: float, height: float, rows: int, columns: int
) -> "tuple[Figure, list[Axes]]":
    """Return a figure of so many inches and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def as_png(figure: "Figure") -> bytes:
    """Return a figure as a PNG, without a complaint about letters that no font here has."""
    stream = io.BytesIO()
    with _any_letters():
        figure.savefig(stream, format="png", dpi=figure.dpi)
    return stream.getvalue()


def pdf_bytes(figure: "Figure", *, title: str) -> bytes:
    """Return a figure as a PDF of one page, the same bytes every time.

    A letter that no font here has is drawn as a box.
    """
    from matplotlib import rc_context

    stream, known = io.BytesIO(), {"Title": title, "Creator": "memscan"}
    nothing = {"CreationDate": None, "ModDate": None, "Producer": None}
    with _any_letters(), rc_context({"pdf.fonttype": 42, "pdf.compression": 9}):
        figure.savefig(stream, format="pdf", metadata={**known, **nothing})
    return stream.getvalue()


def as_image(figure: "Figure") -> Image.Image:
    """Return a figure as a picture."""
    return Image.open(io.BytesIO(as_png(figure))).convert("RGB")


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG.

    Raises:
        OutputError: If it cannot be written.
    """
    with files.binary(path) as stream:
        stream.write(as_png(figure))


def words(size: float, colour: str = INK, **more: Any) -> dict[str, Any]:
    """Return how matplotlib draws untrusted text: as it stands, never as a formula."""
    return {"fontsize": size, "color": colour, "parse_math": False, "family": _families(), **more}


def fitting(text: str, size: float, width: float, lines: int) -> list[str]:
    """Return an untrusted text as lines that fit a `pixel_figure`, cut at the end.

    Args:
        text: Any text.
        size: Of its letters, in pixels.
        width: Pixels that no line exceeds.
        lines: How many at most.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    measure = FigureCanvasAgg(pixel_figure(1, 1)).get_renderer().get_text_width_height_descent
    font = FontProperties(family=_families(), size=size)
    columns = int(2.5 * width / size)
    with _any_letters():
        while True:
            found = wrapped(text, columns, lines)
            widest = max((measure(line, font, False)[0] for line in found), default=0)
            if widest <= width or columns <= MIN_COLUMNS:
                return found
            columns = max(MIN_COLUMNS, min(columns - 1, int(columns * width / widest)))


def map_scale(top: float) -> "Normalize":
    """Return the scale of a signed map: zero and below are 0, ``top`` is 1, by logarithm."""
    from matplotlib.colors import FuncNorm

    return FuncNorm((_logarithm, np.expm1), vmin=0, vmax=top, clip=True)


def overlay(values: NDArray[np.float64], top: float) -> bytes:
    """Return a signed map as a small PNG to lay over a picture: see-through at zero and below."""
    lit = np.clip(_logarithm(values) / np.log1p(top), 0, 1)
    image = Image.fromarray((lit * (OVERLAY_LEVELS - 1)).round().astype(np.uint8)).convert("P")
    image.putpalette(_palette())
    out = io.BytesIO()
    alphas = np.minimum(np.linspace(0, 1, OVERLAY_LEVELS) * 1.5, 0.85) * 255
    image.save(out, "PNG", optimize=True, transparency=alphas.astype(np.uint8).tobytes())
    return out.getvalue()


def outline(
    axes: "Axes", mask: NDArray[np.bool_] | None, colour: str, width: float, *, edge: str = "",
    rim: bool = True,
) -> None:  # fmt: skip
    """Draw the outline of a mask over the picture that the axes show.

    Args:
        axes: With one picture or more, the first of which the mask is of.
        mask: ``(height, width)``, at any resolution; null draws nothing.
        colour: Of the line.
        width: Of the line, in points.
        edge: Colour of a thin edge on both sides of the line, if any.
        rim: Whether the line goes along the border of the picture too, where the mask reaches it.
    """
    from matplotlib.patheffects import withStroke

    if mask is None or not mask.any():
        return
    left, right, bottom, top = axes.images[0].get_extent()
    pad = int(rim)
    rows, columns = ((np.arange(-pad, side + pad) + 0.5) / side for side in mask.shape)
    axes.autoscale(enable=False)
    lines = axes.contour(
        left + (right - left) * columns, top + (bottom - top) * rows,
        np.pad(mask, pad).astype(float), levels=[0.5], colors=colour, linewidths=width,
    )  # fmt: skip
    if edge:
        lines.set_path_effects([withStroke(linewidth=width + 2, foreground=edge)])


def log_axis(axes: "Axes", steps: tuple[float, ...] = (1, 2, 5)) -> None:
    """Make the x axis logarithmic, its ticks plain numbers at these multiples of powers of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def metric_label(metric: str, baseline: str) -> str:
    """Return what a map is called in a legend."""
    return metric if baseline in ("none", "null") else f"{metric} against {baseline}"


def without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask by the majority of 5 x 5 pixels: an outline of every speck hides the region."""
    image = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MedianFilter(MEDIAN_SIDE))) > 0


def _logarithm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log1p(np.maximum(values, 0))


@contextmanager
def _any_letters() -> Iterator[None]:
    """Keep matplotlib from complaining of letters that no font here has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "Matplotlib currently does not support .* natively")
        yield


@cache
def _palette() -> bytes:
    from matplotlib import colormaps

    colours = colormaps[COLOUR_MAP](np.linspace(0, 1, OVERLAY_LEVELS), bytes=True)
    return colours[:, :3].tobytes()


@cache
def _families() -> list[str]:
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    return [name for name in FAMILIES if name in known]
