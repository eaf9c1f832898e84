"""Pictures to judge a training by: what was planted or asked for, beside what comes back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scanner import files, models
from scanner.models.overlay import Overlay
from scanner.records import caption_hash
from scanner.scan.stages.draws import Draw
from scanner.scan.stages.sampling import detect
from scanner.spec import ScanSpec
from scanner.testbed import corpus, make

COLUMNS = 10
SPEC = ScanSpec(steps=20, guidance_scale=2.5)


def draw_samples(
    pipeline: Path, seed: int, target: Path, *,
    overlay: Overlay | None = None, planted: Sequence[corpus.Item] | None = None,
) -> None:  # fmt: skip
    """Write a PNG of pairs of rows, one pair a kind: the corpus above, the model below.

    Args:
        pipeline: Folder of the model.
        seed: The corpus seed.
        target: The PNG.
        overlay: What is laid over the model, if anything.
        planted: What training repeated; null is all of the corpus.
    """
    model = models.load(str(pipeline), overlay=overlay)
    rows: list[np.ndarray] = []
    items = make.evaluation_items(seed, 80, planted)
    for kind in ("verbatim", "template", "name", "art", "scene", "texture", "trap"):
        own = [item for item in items if item.kind == kind][:COLUMNS]
        draws = [Draw(item.caption, caption_hash(item.caption), 0) for item in own]
        generated = model.decode(detect(model, draws, SPEC).final).numpy()
        rows.append(_row([corpus.picture(seed, item, 0) for item in own]))
        rows.append(_row(list(generated)))
    sheet = np.concatenate(rows)
    size = (2 * sheet.shape[1], 2 * sheet.shape[0])
    with files.binary(target) as stream:
        Image.fromarray(sheet).resize(size, Image.Resampling.NEAREST).save(stream, "PNG")


def _row(pictures: list[np.ndarray]) -> np.ndarray:
    blank = np.zeros((corpus.SIZE, corpus.SIZE, 3), np.uint8)
    return np.concatenate(pictures + [blank] * (COLUMNS - len(pictures)), axis=1)
