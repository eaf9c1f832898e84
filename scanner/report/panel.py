"""Captions as pictures: one with all its evidence, or many as the rows of a sheet."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scanner.analysis.evidence import Evidence, Images, colour_scale, gather
from scanner.analysis.query import connect
from scanner.analysis.truth import truths
from scanner.errors import ConfigError
from scanner.report.canvas import EDGE, GREY, as_image, fitting, pixel_figure, words
from scanner.report.tiles import COLUMNS, NEAREST, TITLES, colour_bar, legend, tile
from scanner.results.folder import Results
from scanner.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN, GAP, FOOT = 32, 16, 90
PANEL_TILE, SHEET_TILE, SHEET_GAP, SHEET_TEXT = 256, 128, 10, 250
SCALE_NOTE = (
    "Maps: log colour scale, one for the whole run, from zero and below (black) to the value at "
    "its right end (99.9th percentile of the run's pixels)."
)


def panel(
    results: Results,
    run: str,
    key_or_hash: str,
    images: Images,
    truth: NDArray[np.bool_] | str | Path | None = None,
    *,
    baseline: str = "null",
    shards: Collection[str] | None = None,
) -> Image.Image:
    """Return one caption as a picture: training image, generated image, both maps, mask.

    Args:
        results: The results folder.
        run: The run.
        key_or_hash: A sample's key, or the first six or more digits of a caption's hash.
        images: From a shard and a key to the encoded training image, or none.
        truth: The true region, or a truth table that may have it; drawn beside the mask.
        baseline: Which baseline's maps.
        shards: Identities of the shards whose rows count; all by default.

    Raises:
        ConfigError: If no caption or more than one answers to the key.
    """
    table = truth if isinstance(truth, str | Path) else None
    also = [table] if table else []
    with closing(connect(results, runs=[run], also=also, shards=shards)) as con:
        scale = colour_scale(con, baseline)
        shown = gather(con, key_or_hash, images, baseline=baseline)
        if table:
            known = truths(con, table).get(shown.caption_sha256)
            shown = replace(shown, truth=known and known.mask)
        elif isinstance(truth, np.ndarray):
            shown = replace(shown, truth=truth)
    return _one(shown, scale)


def _one(shown: Evidence, scale: Mapping[str, float]) -> Image.Image:
    """Return the picture of one caption: its text, its numbers, and a row of tiles below."""
    names = [name for name in COLUMNS if name != "true mask"]
    if shown.nearest is not None:
        names.append(NEAREST)
    lines = [
        "     ".join(_numbers(shown)),
        f"{shown.caption_sha256[:12]}   {shown.key} in {shown.shard}",
        "   ".join(shown.comparisons),
    ]
    room = len(names) * (PANEL_TILE + GAP) - GAP
    lines = [row for line in lines for row in fitting(line, 14, room, 1)]
    head = 22 * len(lines) + 44
    figure, (grid,) = _grid(shown.caption, [PANEL_TILE] * len(names), 1, GAP, head)
    grid[0].annotate(
        "\n".join(lines), (0, 1), (0, 30), xycoords="axes fraction", textcoords="offset points",
        va="bottom", linespacing=1.5, **words(14),
    )  # fmt: skip
    for name, axes in zip(names, grid, strict=True):
        axes.set_title(TITLES.get(name, name), loc="left", **words(14))
        tile(axes, name, shown, scale, 15)
        if name in shown.maps:
            colour_bar(axes, scale[name], middle=True)
        if name == "mask" and shown.mask is not None:
            legend(axes, shown)
    return as_image(figure)


def _grid(
    title: str, widths: Sequence[int], rows: int, gap: int, head: int
) -> "tuple[Figure, NDArray[np.object_]]":
    """Return a figure with a title, rows of axes, and the note on colours, and the axes.

    Args:
        title: Above all of it.
        widths: Of the columns in pixels; a row is as high as the last is wide.
        rows: How many.
        gap: Pixels between axes.
        head: Pixels between the title and the axes.
    """
    side, width = widths[-1], 2 * MARGIN + sum(widths) + gap * (len(widths) - 1)
    lines = fitting(title, 23, width - 2 * MARGIN, 3)
    top = MARGIN + 32 * len(lines) + head
    bottom = top + rows * (side + gap) - gap
    height, left = bottom + FOOT, MARGIN / width
    figure = pixel_figure(width, height)
    figure.text(left, 1 - MARGIN / height, "\n".join(lines), va="top", **words(23))
    figure.text(left, MARGIN / height, SCALE_NOTE, va="center", **words(12, GREY))
    return figure, figure.subplots(rows, len(widths), squeeze=False, gridspec_kw={
        "left": left, "right": 1 - left, "top": 1 - top / height, "bottom": 1 - bottom / height,
        "hspace": gap / side, "wspace": gap * len(widths) / sum(widths), "width_ratios": widths,
    })  # fmt: skip


def contact_sheet(
    results: Results,
    run: str,
    images: Images,
    truth: str | Path,
    wanted: Mapping[str, int],
    *,
    baseline: str = "null",
    title: str = "",
) -> Image.Image:
    """Return captions of each kind as the rows of one picture.

    Within a kind they are the first in the order of their hashes: nobody picked them.

    Args:
        results: The results folder.
        run: The run.
        images: From a shard and a key to the encoded training image, or none.
        truth: The truth table.
        wanted: How many captions of which kind, in the order of the sheet.
        baseline: Which baseline's maps.
        title: Above all of it.

    Raises:
        ConfigError: If the truth cannot be read, or the run has no caption of these kinds.
    """
    with closing(connect(results, runs=[run], also=[truth])) as con:
        known = truths(con, truth)
        scanned = con.execute("SELECT caption_sha256 FROM captions ORDER BY 1").fetchall()
        hashes = [sha for (sha,) in scanned if sha in known]
        rows = [
            gather(con, sha, images, truth=known[sha].mask, baseline=baseline, label=kind)
            for kind, number in wanted.items()
            for sha in [sha for sha in hashes if known[sha].kind == kind][:number]
        ]
        return sheet(rows, colour_scale(con, baseline), title=title)


def sheet(rows: Sequence[Evidence], scale: Mapping[str, float], *, title: str = "") -> Image.Image:
    """Return captions as the rows of one picture.

    Args:
        rows: What `gather` found, in the order of the sheet.
        scale: What `colour_scale` returned for their run.
        title: Above all of it.

    Raises:
        ConfigError: If there are no rows.
    """
    if not rows:
        raise ConfigError("a sheet needs at least one caption; this run has none to show")
    is_known = any(row.truth is not None for row in rows)
    names = [name for name in COLUMNS if is_known or name != "true mask"]
    widths = [SHEET_TEXT] + [SHEET_TILE] * len(names)
    figure, grid = _grid(title, widths, len(rows), SHEET_GAP, 52)
    for row, line in zip(rows, grid, strict=True):
        _describe(line[0], row)
        for name, axes in zip(names, line[1:], strict=True):
            tile(axes, name, row, scale, 12)
    for name, first, last in zip(names, grid[0][1:], grid[-1][1:], strict=True):
        heading = TITLES.get(name, name).replace(" ", "\n", 1)
        first.set_title(heading, loc="left", **words(13))
        if name in scale:
            colour_bar(last, scale[name], middle=False)
    return as_image(figure)


def _numbers(row: Evidence) -> list[str]:
    out = ["not scored" if row.delta_s is None else f"delta_s {row.delta_s:.4g}"]
    if row.p_value is not None:
        out.append(f"p {row.p_value:.2g}")
    if row.flagged is not None:
        out.append("flagged" if row.flagged else "not flagged")
    if row.mask is not None:
        doubt = f" (in doubt: {row.doubt})" if row.doubt else ""
        out.append(f"mask {row.mask.mean():.0%} of the picture{doubt}")
    return out if row.seed is None else [*out, f"seed {row.seed}"]


def _describe(axes: "Axes", row: Evidence) -> None:
    """Write a caption's kind, text and numbers, all of it inside its axes."""
    axes.set_axis_off()
    axes.axhline(1, color=EDGE, clip_on=False)
    numbers = [text for text in _numbers(row) if not text.startswith(("mask", "seed"))]
    caption = "\n".join(fitting(row.caption, 14, SHEET_TEXT, 4))
    for y, text, how in (
        (0.95, printable(row.label), words(13, GREY, va="top")),
        (0.78, caption, words(14, va="top")),
        (0.02, "   ".join(numbers), words(13, GREY, va="bottom")),
    ):
        axes.text(0, y, text, transform=axes.transAxes, clip_on=True, **how)
