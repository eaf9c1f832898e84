"""Planted items by dose as a picture: what was planted, what comes back, maps and masks."""

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from scanner import files
from scanner.analysis.captions_and_maps import maps_of
from scanner.analysis.query import connect
from scanner.masks import from_heatmap, from_runs, resize
from scanner.records import caption_hash
from scanner.report.canvas import overlay
from scanner.results.folder import Results
from scanner.testbed.benchmark.detection import Captions
from scanner.testbed.benchmark.doses import Doses
from scanner.testbed.benchmark.items import Item, picture
from scanner.testbed.benchmark.sampling import STEPS, sample
from scanner.testbed.benchmark.scans import Scans
from scanner.testbed.benchmark.strokes import SIZE, Picture

SCALE, HEAD, SEED = 2, 26, 5000


def draw_gallery(
    pipeline: Any, doses: Doses, seed: int, captions: Captions, found: Scans, target: Path, *,
    steps: int = STEPS,
) -> None:  # fmt: skip
    """Write a PNG: above, verbatim items of each dose, below, templates; a column an item.

    The rows of each half are the planted picture with the repeated region outlined, a sample, the
    map Δh against the unconditional branch, and the sample outside the deployed mask darkened.

    Args:
        pipeline: The model.
        doses: What was planted how often.
        seed: The corpus seed.
        captions: What was measured of the model.
        found: Its scans.
        target: A PNG.
        steps: Sampling steps.
    """
    with closing(connect(Results(str(found.results)), runs=[found.runs["planted"]])) as con:
        maps = {row[0]: row[1:] for row in maps_of(con, "delta_h", "null")}
    shares = dict(zip(captions.about["caption_sha256"].tolist(), captions.share, strict=True))
    halves = []
    for kind in ("verbatim", "template"):
        chosen = _one_of_each(doses, kind)
        made = sample(
            pipeline, [item.captions[0] for _, item in chosen], [SEED] * len(chosen), steps=steps
        )
        columns = [
            _column(dose, item, image, seed, maps, shares)
            for (dose, item), image in zip(chosen, made, strict=True)
        ]
        halves.append(np.concatenate(columns, axis=1))
    width = max(half.shape[1] for half in halves)
    padded = [
        np.pad(h, ((0, 8), (0, width - h.shape[1]), (0, 0)), constant_values=255) for h in halves
    ]
    with files.binary(target) as stream:
        Image.fromarray(np.concatenate(padded)).save(stream, "PNG")


def _one_of_each(doses: Doses, kind: str, most: int = 12) -> list[tuple[float, Item]]:
    """Return items of a kind with rising doses, other styles and sizes in turn."""
    own = [
        (float(dose), item)
        for item, dose in zip(doses.items, doses.expected, strict=True)
        if item.arm in (kind, f"adapter-{kind}")
    ]
    found: list[tuple[float, Item]] = []
    for number, dose in enumerate(sorted({dose for dose, _ in own})):
        same = [pair for pair in own if pair[0] == dose]
        found += [
            same[(number + turn) % len(same)] for turn in range(1 if kind == "verbatim" else 2)
        ]
    return found[:most]


def _column(
    dose: float, item: Item, image: Picture, seed: int, maps: dict[str, Any],
    shares: dict[str, float],
) -> Picture:  # fmt: skip
    sha = caption_hash(item.captions[0])
    head = Image.new("RGB", (SCALE * SIZE, HEAD), "white")
    told = f"{dose:g} draws\ngiven back {shares.get(sha, float('nan')):.0%}"
    ImageDraw.Draw(head).multiline_text((2, 1), told, fill="black", spacing=0)
    blank = np.full((SIZE, SIZE, 3), 235, np.uint8)
    heat, kept = blank, blank
    if sha in maps:
        height, width, content, runs = maps[sha]
        heat = _coloured(np.maximum(from_heatmap(content, height, width), 0))
        if runs is not None:
            mask = resize(from_runs(runs, height, width), SIZE, SIZE)
            kept = np.where(mask[..., None], image, image // 4)
    rows = [_outlined(picture(seed, item, 0), item.mask), image, heat, kept]
    return np.concatenate([np.asarray(head), *(_large(row) for row in rows)])


def _coloured(values: np.ndarray) -> Picture:
    content = overlay(values, max(float(values.max()), 1e-9))
    image = Image.open(io.BytesIO(content)).convert("RGBA").convert("RGB")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.NEAREST))


def _outlined(image: Picture, mask: np.ndarray) -> Picture:
    """Draw a white line just inside the edge of a region that is not the whole."""
    if mask.all() or not mask.any():
        return image
    inside = mask.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inside &= np.roll(mask, step, axis)
    drawn = image.copy()
    drawn[mask & ~inside] = 255
    return drawn


def _large(image: Picture) -> Picture:
    return np.pad(
        image.repeat(SCALE, 0).repeat(SCALE, 1), ((0, 0), (0, 2), (0, 0)), constant_values=255
    )[:, : SCALE * SIZE]
