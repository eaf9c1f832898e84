"""Captions as pictures: one with all its evidence, or many as the rows of a sheet."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from scanner.analysis.evidence import Evidence, Images, colour_scale, gather
from scanner.analysis.query import connect
from scanner.analysis.truth import truths
from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.report.canvas import (
    FOUND,
    GREY,
    INK,
    LINE,
    PAPER,
    TRUE,
    colour_bar,
    coloured,
    drawable,
    empty,
    fitted,
    font,
    masked,
    outlined,
    without_specks,
    wrapped,
)  # fmt: skip
from scanner.results.folder import Results

MARGIN, GAP = 32, 16
PANEL_TILE, SHEET_TILE = 256, 128
SHEET_TEXT = 250
MAPS = ("delta_s", "delta_h")
TITLES = {name: method.title for name, method in registry.MAPS.items() if name in MAPS}
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
    return _drawn(shown, scale)


def _drawn(shown: Evidence, scale: dict[str, float]) -> Image.Image:
    """Return a caption's evidence as one picture: words above, tiles below."""
    tiles = _tiles(shown, scale, PANEL_TILE)
    del tiles["true mask"]
    if shown.nearest is not None:
        tiles["another caption's image"] = fitted(shown.nearest, PANEL_TILE)
    width = 2 * MARGIN + len(tiles) * PANEL_TILE + (len(tiles) - 1) * GAP
    title = wrapped(shown.caption, 24, width - 2 * MARGIN, 3)
    top = MARGIN + 32 * len(title) + 68 + (24 if shown.comparisons else 0)
    image = Image.new("RGB", (width, top + 24 + PANEL_TILE + 92), PAPER)
    draw = ImageDraw.Draw(image)
    _heading(draw, shown, title, width)
    for i, (name, tile) in enumerate(tiles.items()):
        left = MARGIN + i * (PANEL_TILE + GAP)
        draw.text((left, top), TITLES.get(name, name), INK, font(15))
        _paste(image, tile, left, top + 24)
        if name in shown.maps:
            _bar(image, left, top + 24 + PANEL_TILE + 8, PANEL_TILE, scale[name])
        if name == "mask":
            _legend(draw, left, top + 24 + PANEL_TILE + 8, shown)
    draw.text((MARGIN, image.height - MARGIN - 4), SCALE_NOTE, GREY, font(13))
    return image


def _heading(draw: ImageDraw.ImageDraw, shown: Evidence, title: Sequence[str], width: int) -> None:
    """Write caption, numbers, place and comparisons at the top of a picture."""
    for i, line in enumerate(title):
        draw.text((MARGIN, MARGIN + 32 * i), line, INK, font(24, line))
    below = MARGIN + 32 * len(title)
    draw.text((MARGIN, below + 4), "     ".join(_numbers(shown)), INK, font(16))
    where = wrapped(f"{shown.key} in {shown.shard}", 14, width - 2 * MARGIN - 160, 1)
    line = f"{shown.caption_sha256[:12]}   {''.join(where)}"
    draw.text((MARGIN, below + 28), line, GREY, font(14, line))
    if shown.comparisons:
        said = "   ".join(map(drawable, shown.comparisons))
        draw.text((MARGIN, below + 52), said, INK, font(14, said))


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


def sheet(rows: Sequence[Evidence], scale: dict[str, float], *, title: str = "") -> Image.Image:
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
    names = list(_tiles(rows[0], scale, SHEET_TILE))
    first = MARGIN + SHEET_TEXT + GAP
    step = SHEET_TILE + 10
    width = first + len(names) * step - 10 + MARGIN
    heading = wrapped(title, 24, width - 2 * MARGIN, 2)
    head = MARGIN + 34 * len(heading) + (8 if heading else 0)
    note = wrapped(SCALE_NOTE, 13, width - 2 * MARGIN, 2)
    height = head + 42 + len(rows) * step + 52 + 18 * len(note) + MARGIN - 8
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(heading):
        draw.text((MARGIN, MARGIN + 34 * i), line, INK, font(24, line))
    for i, name in enumerate(names):
        for j, line in enumerate(TITLES.get(name, name).split(" ", 1)):
            low = head + 18 * (j + (" " not in TITLES.get(name, name)))
            draw.text((first + i * step, low), line, INK, font(14))
    for number, row in enumerate(rows):
        top = head + 42 + number * step
        _describe(draw, row, top)
        for i, tile in enumerate(_tiles(row, scale, SHEET_TILE).values()):
            _paste(image, tile, first + i * step, top)
    bottom = head + 42 + len(rows) * step
    for i, name in enumerate(names):
        if name in scale:
            _bar(image, first + i * step, bottom + 4, SHEET_TILE, scale[name])
    for i, line in enumerate(note):
        draw.text((MARGIN, bottom + 48 + 18 * i), line, GREY, font(13))
    return image


def _tiles(row: Evidence, scale: dict[str, float], side: int) -> dict[str, Image.Image]:
    """Return a row's tiles by column name, in order."""
    images = {
        "training image": row.training,
        "generated": row.generated,
    }
    tiles = {
        name: fitted(image, side) if image else empty(side, "no image")
        for name, image in images.items()
    }
    if row.at_image:
        tiles["generated"] = empty(side, "not sampled")
    blank = Image.new("RGB", (side, side), "#16181b")
    if row.truth is None:
        tiles["true mask"] = empty(side, "not known")
    else:
        white = Image.new("RGB", (side, side), "#f5f5f5")
        region = fitted(Image.fromarray(row.truth), side).convert("L")
        tiles["true mask"] = Image.composite(white, blank, region)
    for metric in MAPS:
        if metric in row.maps:
            tiles[metric] = fitted(coloured(row.maps[metric], scale[metric]), side)
        else:
            tiles[metric] = empty(side, "not localized")
    tiles["mask"] = _mask_tile(row, side)
    return tiles


def _mask_tile(row: Evidence, side: int) -> Image.Image:
    """Return the picture dimmed outside the exact mask, its outline without specks."""
    if row.mask is None:
        return empty(side, "no pixel threshold" if row.maps else "not localized")
    tile = masked(row.training if row.at_image else row.generated, row.mask, side)
    line = max(2, side // 80)
    if row.truth is not None and row.truth.any():
        tile = outlined(tile, row.truth, TRUE, line)
    return outlined(tile, without_specks(row.mask), FOUND, line)


def _numbers(row: Evidence) -> list[str]:
    out = ["not scored" if row.delta_s is None else f"delta_s {row.delta_s:.4g}"]
    if row.p_value is not None:
        out.append(f"p {row.p_value:.2g}")
    if row.flagged is not None:
        out.append("flagged" if row.flagged else "not flagged")
    if row.mask is not None:
        out.append(f"mask {row.mask.mean():.0%} of the picture")
    return out if row.seed is None else [*out, f"seed {row.seed}"]


def _describe(draw: ImageDraw.ImageDraw, row: Evidence, top: int) -> None:
    draw.line((MARGIN, top - 6, MARGIN + SHEET_TEXT, top - 6), LINE)
    if row.label:
        label = drawable(row.label)
        draw.text((MARGIN, top), label, GREY, font(13, label))
        top += 19
    for i, line in enumerate(wrapped(row.caption, 15, SHEET_TEXT, 3)):
        draw.text((MARGIN, top + 20 * i), line, INK, font(15, row.caption))
    top += 20 * len(wrapped(row.caption, 15, SHEET_TEXT, 3)) + 4
    numbers = [text for text in _numbers(row) if not text.startswith(("mask", "seed"))]
    draw.text((MARGIN, top), "   ".join(numbers), GREY, font(13))


def _paste(image: Image.Image, tile: Image.Image, left: int, top: int) -> None:
    image.paste(tile, (left, top))
    edge = (left - 1, top - 1, left + tile.width, top + tile.height)
    ImageDraw.Draw(image).rectangle(edge, outline=LINE)


def _bar(image: Image.Image, left: int, top: int, width: int, value: float) -> None:
    draw = ImageDraw.Draw(image)
    image.paste(colour_bar(width, 10), (left, top))
    ends = [(0.0, 0.0, "la"), (1.0, value, "ra")]
    if width >= PANEL_TILE:
        ends.append((0.5, float(np.expm1(np.log1p(value) / 2)), "ma"))
    for share, level, anchor in ends:
        place = (left + share * width, top + 14)
        draw.text(place, _short(level), GREY, font(12), anchor=anchor)


def _short(value: float) -> str:
    """Return a number in at most five or so characters."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def _legend(draw: ImageDraw.ImageDraw, left: int, top: int, row: Evidence) -> None:
    entries = [("found", FOUND)] if row.mask is not None else []
    if row.truth is not None and row.truth.any() and entries:
        entries.append(("true", TRUE))
    for text, colour in entries:
        draw.rectangle((left, top + 1, left + 12, top + 13), fill=colour, outline=GREY)
        draw.text((left + 18, top), text, GREY, font(13))
        left += 76
