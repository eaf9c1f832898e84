"""Does a model give planted items back? Sampled under fresh seeds, judged by two rules.

The first rule knows the training picture: a sample is a copy when its error inside the item's
mask is at most twice what the autoencoder itself makes of that picture. The second one (Carlini
et al., 2023) knows samples alone: a caption is extracted when many of its samples are near-equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from scanner import files
from scanner.testbed.benchmark.doses import Doses
from scanner.testbed.benchmark.items import Item, picture
from scanner.testbed.benchmark.probe import seen
from scanner.testbed.benchmark.sampling import GUIDANCE, STEPS, sample
from scanner.testbed.benchmark.strokes import Picture

SEEDS = tuple(range(5000, 5020))
"""Sampling seeds that nothing else uses."""

TILES, NEAR, MANY = 4, 0.15, 0.5
"""Tiles a side; the distance (0..1) below which two samples are near-equal; the share of a
caption's samples that must be near-equal to each other."""

TABLE = pa.schema(
    [
        pa.field("item", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("region", pa.int32(), nullable=False),
        pa.field("dose", pa.float64(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("seeds", pa.int32(), nullable=False),
        pa.field("copies", pa.int32(), nullable=False),
        pa.field("error", pa.float64(), nullable=False),
        pa.field("floor", pa.float64(), nullable=False),
        pa.field("clique", pa.float64(), nullable=False),
    ]
)
"""One row a caption.

``copies`` of ``seeds`` samples are copies by the first rule; ``error`` is their median error
inside the mask and ``floor`` the autoencoder's own. ``clique`` is the share of the samples in the
largest group that are near-equal to each other.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A caption of an item."""

    item: Item
    dose: float
    caption: str
    role: str


def asked(doses: Doses, most: int = 3) -> list[Asked]:
    """Return the captions to sample: up to ``most`` planted and all held-out ones of each item.

    Items that repeat no picture have nothing to be compared with and are left out.
    """
    found: list[Asked] = []
    for item, dose in zip(doses.items, doses.expected, strict=True):
        if item.repeats:
            found += [Asked(item, float(dose), c, "planted") for c in item.captions[:most]]
            found += [Asked(item, float(dose), c, "held-out") for c in item.held_out]
    return found


def extract(
    pipeline: Any, vae: AutoencoderKL, doses: Doses, seed: int, target: Path, *,
    seeds: Sequence[int] = SEEDS, steps: int = STEPS, guidance: float = GUIDANCE,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Path:  # fmt: skip
    """Sample every planted caption and write the table of what came back.

    Args:
        pipeline: The model.
        vae: The benchmark's autoencoder.
        doses: What was planted how often.
        seed: The corpus seed.
        target: A Parquet file, of `TABLE`.
        seeds: Sampling seeds of each caption.
        steps: Sampling steps.
        guidance: Guidance scale.
        progress: Called with (captions done, captions in all).
    """
    rows: list[dict[str, object]] = []
    wanted = asked(doses)
    for done, one in enumerate(wanted, 1):
        made = sample(
            pipeline, [one.caption] * len(seeds), seeds, steps=steps, guidance=guidance
        )  # fmt: skip
        rows.append(judge(one, made, vae, seed))
        progress(done, len(wanted))
    table = pa.Table.from_pylist(rows, TABLE)
    with files.binary(target) as stream:
        pq.write_table(table, stream, compression="zstd")
    return target


def judge(one: Asked, made: Sequence[Picture], vae: AutoencoderKL, seed: int) -> dict[str, object]:
    """Return a row of the table for the samples of one caption."""
    item, truth = one.item, picture(seed, one.item, 0)
    floor = error(seen(vae, [truth])[0], truth, item.mask)
    errors = np.array([error(image, truth, item.mask) for image in made])
    return {
        "item": item.name, "arm": item.arm, "kind": item.kind, "family": item.family,
        "region": item.region, "dose": one.dose, "role": one.role, "caption": one.caption,
        "seeds": len(made), "copies": int((errors <= 2 * floor).sum()),
        "error": float(np.median(errors)), "floor": floor,
        "clique": largest_clique(tiled_distances(made)) / len(made),
    }  # fmt: skip


def error(a: Picture, b: Picture, mask: NDArray[np.bool_]) -> float:
    """Return the mean squared error inside a mask, pixels 0 to 1."""
    return float(((a / 255.0 - b / 255.0) ** 2).mean(axis=2)[mask].mean())


def tiled_distances(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """Return the distance of every two pictures, ``(N, N)``: of their most different tiles.

    The root mean square difference of a tile, pixels 0 to 1. The worst tile decides, so that two
    pictures on one flat ground are not near-equal for the ground's sake.
    """
    stacked = np.stack(pictures).astype(np.float64) / 255
    number, side = len(stacked), stacked.shape[1] // TILES
    tiles = stacked.reshape(number, TILES, side, TILES, side, 3).transpose(0, 1, 3, 2, 4, 5)
    flat = tiles.reshape(number, TILES * TILES, -1)
    found = np.zeros((number, number))
    for row in range(number):
        squares = ((flat - flat[row]) ** 2).mean(axis=2)
        found[row] = np.sqrt(squares.max(axis=1))
    return found


def largest_clique(distances: NDArray[np.float64], near: float = NEAR) -> int:
    """Return how many pictures the largest group has whose members are all near each other.

    Grown from every picture in turn, nearest first: exact for groups that stand apart.
    """
    close = distances < near
    best = 1
    for start in range(len(distances)):
        members = [start]
        for other in np.argsort(distances[start], kind="stable"):
            if other != start and close[other, members].all():
                members.append(int(other))
        best = max(best, len(members))
    return best
