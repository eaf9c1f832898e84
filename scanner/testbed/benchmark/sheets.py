"""A sheet of pictures to judge a checkpoint by: what was asked for beside what comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scanner import files
from scanner.testbed.benchmark.background import SHARES, held_out
from scanner.testbed.benchmark.corpus import Corpus
from scanner.testbed.benchmark.doses import Doses
from scanner.testbed.benchmark.items import Item, generator, picture
from scanner.testbed.benchmark.sampling import STEPS, sample
from scanner.testbed.benchmark.strokes import SIZE, Picture

COLUMNS = 16


def draw_sheet(
    pipeline: Any, doses: Doses, corpus: Corpus, target: Path, *, columns: int = COLUMNS,
    steps: int = STEPS,
) -> None:  # fmt: skip
    """Write a PNG of pairs of rows: the corpus above, the model below.

    First fresh captions kind by kind, then verbatim items by rising dose, templates by rising
    dose, and everything else that is planted.
    """
    rows = _fresh_rows(corpus, columns) + _planted_rows(doses, corpus.seed, columns)
    captions = [caption for said, _ in rows for caption in said]
    seeds = [1000 + place for place in range(len(captions))]
    made = sample(pipeline, captions, seeds, steps=steps)
    lines: list[Picture] = []
    for _, own in rows:
        lines += [_line(own, columns), _line(made[: len(own)], columns)]
        made = made[len(own) :]
    sheet = np.concatenate(lines)
    size = (int(1.5 * sheet.shape[1]), int(1.5 * sheet.shape[0]))
    with files.binary(target) as stream:
        Image.fromarray(sheet).resize(size, Image.Resampling.NEAREST).save(stream, "PNG")


Row = tuple[list[str], list[Picture]]
"""Captions, and what the corpus draws for them."""


def _fresh_rows(corpus: Corpus, columns: int) -> list[Row]:
    rng, rows, cast = generator(corpus.seed, "sheet"), [], corpus.cast
    for kind in ("single", *SHARES):
        found = held_out(corpus.seed, "evaluation", kind, 2 * columns, cast)
        part = found[:columns] if len(rows) else found[columns:]  # two rows of single things
        rows.append(([f.caption for f in part], [f.picture(rng, cast) for f in part]))
    return rows


def _planted_rows(doses: Doses, seed: int, columns: int) -> list[Row]:
    rows = []
    for chosen in (
        _rising(doses, lambda i: "verbatim" in i.arm, 2 * columns),
        _rising(doses, lambda i: i.kind == "template", 2 * columns),
        _rising(doses, lambda i: i.kind != "template" and "verbatim" not in i.arm, 2 * columns),
    ):
        for start in range(0, len(chosen), columns):
            part = chosen[start : start + columns]
            rows.append(([i.captions[0] for i in part], [picture(seed, i, 0) for i in part]))
    return rows


def _rising(doses: Doses, wanted: Callable[[Item], bool], number: int) -> list[Item]:
    """Return items in the order of their doses, evenly spread over them."""
    pairs = [(d, i) for i, d in zip(doses.items, doses.expected, strict=True) if wanted(i)]
    pairs.sort(key=lambda pair: pair[0])
    places = np.unique(np.linspace(0, len(pairs) - 1, min(number, len(pairs))).astype(int))
    return [pairs[place][1] for place in places]


def _line(pictures: list[Picture], columns: int) -> Picture:
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    return np.concatenate(pictures + [blank] * (columns - len(pictures)), axis=1)
