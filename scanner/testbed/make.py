"""Write the planted corpus as WebDataset shards with a truth table."""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from webdataset.writer import TarWriter

from scanner import files, masks
from scanner.errors import ConfigError
from scanner.records import caption_hash
from scanner.testbed import corpus

TRUTH = pa.schema(
    [
        pa.field("caption_sha256", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("family", pa.string(), nullable=False),
        pa.field("memorized", pa.bool_(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("mask", pa.list_(pa.int32())),
    ]
)
"""Columns of a truth table; ``mask`` holds COCO runs at picture size."""

_COPY = 1_000_000
"""Copy numbers from here on were never drawn in training."""


def evaluation_items(
    seed: int, number: int, planted: Sequence[corpus.Item] | None = None
) -> list[corpus.Item]:
    """Return what a scan is evaluated on: everything planted and so many fresh negatives.

    Of the repeated hard negatives, which training has to see by their nature, this is the half
    that `calibration_items` leaves.

    Args:
        seed: The corpus seed.
        number: Fresh negatives.
        planted: What training repeated; null is all of the corpus.
    """
    return _items(seed, "evaluation", number, planted)


def calibration_items(
    seed: int, number: int, planted: Sequence[corpus.Item] | None = None
) -> list[corpus.Item]:
    """Return null captions: fresh negatives and the other half of the repeated hard negatives.

    Its arguments are those of `evaluation_items`.
    """
    return _items(seed, "calibration", number, planted)


def _items(
    seed: int, split: str, number: int, planted: Sequence[corpus.Item] | None
) -> list[corpus.Item]:
    planted = corpus.planted(seed) if planted is None else planted
    half = 0 if split == "evaluation" else 1
    hard = [item for item in planted if not item.memorized][half::2]
    memorized = [item for item in planted if item.memorized] if split == "evaluation" else []
    fresh: list[corpus.Item] = []
    for kind, share in (("scene", 0.5), ("texture", 0.25), ("trap", 0.25)):
        fresh += corpus.negatives(seed, split, kind, round(share * number))
    return memorized + hard + fresh


def write_shards(
    seed: int, items: Sequence[corpus.Item], folder: Path, name: str, *, per_shard: int = 100,
    copies: int = 1, progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:  # fmt: skip
    """Write items as ``folder/name-00000.tar`` and so on: ``.png``, ``.txt`` and ``.json``.

    The order is shuffled by the seed, so that every shard holds a bit of everything.

    Args:
        seed: The corpus seed.
        items: What to write.
        folder: Made if missing.
        name: Stem of the shards.
        per_shard: Samples a shard.
        copies: Pictures per item, each a sample.
        progress: Called with the number of samples written so far.
    """
    samples = [(item, copy) for item in items for copy in range(copies)]
    order = corpus.generator(seed, "order", name).permutation(len(samples))
    paths: list[Path] = []
    written = 0
    for start in range(0, len(samples), per_shard):
        path = folder / f"{name}-{start // per_shard:05d}.tar"
        with files.binary(path) as stream, TarWriter(stream, mtime=0) as writer:
            for place in order[start : start + per_shard]:
                item, copy = samples[place]
                writer.write(_sample(seed, item, copy, f"{name}{place:06d}"))
                written += 1
                progress(written)
        paths.append(path)
    return paths


def write_truth(items: Iterable[corpus.Item], path: Path) -> None:
    """Write the truth table of items."""
    rows = [
        {
            "caption_sha256": caption_hash(item.caption),
            "caption": item.caption,
            "kind": item.kind,
            "family": item.family,
            "memorized": item.memorized,
            "height": corpus.SIZE,
            "width": corpus.SIZE,
            "mask": masks.to_runs(item.mask) if item.memorized else None,
        }
        for item in items
    ]
    with files.binary(path) as stream:
        pq.write_table(pa.Table.from_pylist(rows, TRUTH), stream, compression="zstd")


def refuse_other(
    items: Sequence[corpus.Item], folder: Path, name: str, *, per_shard: int = 100
) -> bool:
    """Refuse a folder that holds a split of other items; return whether it holds this one whole.

    The truth is written last: without one, a split is incomplete and is written anew.

    Raises:
        ConfigError: If its truth is of other items or cannot be read, or it has more shards.
    """
    truth, shards = folder / f"{name}-truth.parquet", -(-len(items) // per_shard)
    is_whole = truth.exists()
    if is_whole:
        try:
            there = pq.read_table(truth, columns=["caption"])["caption"].to_pylist()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise ConfigError(f"{truth} cannot be read ({error}): name another folder") from error
        is_other = there != [item.caption for item in items]
    else:
        last = max((path.name for path in folder.glob(f"{name}-*.tar")), default="")
        is_other = last > f"{name}-{shards - 1:05d}.tar"
    if is_other:
        raise ConfigError(
            f"{folder} holds a corpus of another seed or another number of negatives: ask for the "
            f"same ones, or name another folder"
        )
    return is_whole


def _sample(seed: int, item: corpus.Item, copy: int, key: str) -> dict[str, object]:
    number = copy if item.kind == "verbatim" else _COPY + copy
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(corpus.picture(seed, item, number))).save(stream, "PNG")
    about = {"key": key, "url": f"https://planted.invalid/{seed}/{key}.png", "corpus_seed": seed}
    return {
        "__key__": key,
        "png": stream.getvalue(),
        "txt": item.caption.encode(),
        "json": json.dumps(about).encode(),
    }
