"""A sheet of pictures to judge a checkpoint by: what was asked for beside what comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scanner.testbed.benchmark.background import SHARES, held_out
from scanner.testbed.benchmark.doses import Doses
from scanner.testbed.benchmark.items import Item, generator, picture
from scanner.testbed.benchmark.sampling import sample
from scanner.testbed.benchmark.strokes import SIZE, Picture

COLUMNS = 16


def draw_sheet(pipeline: Any, doses: Doses, seed: int, target: Path) -> None:
    """Write a PNG of pairs of rows: the corpus above, the model below.

    First fresh captions kind by kind, then verbatim items by rising dose, templates by rising
    dose, and one row of everything else that is planted.
    """
    rows: list[tuple[list[str], list[Picture]]] = []
    rng = generator(seed, "sheet")
    for kind, number in (("single", 32), ("pair", 16), ("three", 16), ("trap", 16), ("title", 16),
                         ("product", 16)):  # fmt: skip
        if kind in SHARES:
            found = held_out(seed, "evaluation", kind, number)
            for start in range(0, number, COLUMNS):
                part = found[start : start + COLUMNS]
                rows.append(([f.caption for f in part], [f.picture(rng) for f in part]))
    for chosen in (
        _rising(doses, lambda i: i.kind == "verbatim" and "verbatim" in i.arm, 2 * COLUMNS),
        _rising(doses, lambda i: i.kind == "template", 2 * COLUMNS),
        _rising(doses, lambda i: i.kind != "template" and "verbatim" not in i.arm, 2 * COLUMNS),
    ):
        for start in range(0, len(chosen), COLUMNS):
            part = chosen[start : start + COLUMNS]
            rows.append(([i.captions[0] for i in part], [picture(seed, i, 0) for i in part]))
    captions = [caption for said, _ in rows for caption in said]
    made = sample(pipeline, captions, [1000 + i for i in range(len(captions))])
    lines: list[Picture] = []
    for _, own in rows:
        lines += [_line(own), _line(made[: len(own)])]
        made = made[len(own) :]
    sheet = np.concatenate(lines)
    size = (int(1.5 * sheet.shape[1]), int(1.5 * sheet.shape[0]))
    Image.fromarray(sheet).resize(size, Image.Resampling.NEAREST).save(target, "PNG")


def _rising(doses: Doses, wanted: Callable[[Item], bool], number: int) -> list[Item]:
    """Return items in the order of their doses, evenly spread over them."""
    pairs = [(d, i) for i, d in zip(doses.items, doses.expected, strict=True) if wanted(i)]
    pairs.sort(key=lambda pair: pair[0])
    places = np.unique(np.linspace(0, len(pairs) - 1, min(number, len(pairs))).astype(int))
    return [pairs[place][1] for place in places]


def _line(pictures: list[Picture]) -> Picture:
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    return np.concatenate(pictures + [blank] * (COLUMNS - len(pictures)), axis=1)
