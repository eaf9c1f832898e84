"""The benchmark's captions and pictures as WebDataset shards, with the truth of every replicate."""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from webdataset.writer import TarWriter

from scanner import files, masks
from scanner.records import caption_hash
from scanner.testbed import make
from scanner.testbed.benchmark.background import SHARES, Fresh, held_out
from scanner.testbed.benchmark.cast import DRAWN, Cast
from scanner.testbed.benchmark.corpus import Corpus
from scanner.testbed.benchmark.doses import assign
from scanner.testbed.benchmark.items import Item, generator, picture
from scanner.testbed.benchmark.strokes import SIZE, Picture

NEVER = 1_000_000
"""Copies from this number on are never drawn in training."""

PER_SHARD = 250

TRUTH = pa.schema(
    [
        *make.TRUTH,
        pa.field("item", pa.string()),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("region", pa.int32(), nullable=False),
        pa.field("dose", pa.float64(), nullable=False),
        pa.field("replicate", pa.int32(), nullable=False),
    ]
)
"""Columns of a truth table.

``role`` is ``planted`` (a caption that training shows at the item's dose), ``held-out`` (another
way to say it, or one word away; never shown) or ``fresh``. ``dose`` is the expected number of
draws of the item by this replicate. ``memorized`` means that training repeats a picture or a part
of one under this very caption at least once; whether the model learned it is for a measurement
to say. ``mask`` holds COCO runs, and stays where the dose is 0: the same item is planted in
another replicate.
"""

Progress = Callable[[str, int, int], None]
"""Called with (shards' name, samples written, samples in all)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A caption of the benchmark with a picture that goes with it."""

    caption: str
    role: str
    item: Item | None
    fresh: Fresh | None
    draw: Callable[[], Picture]


def planted_samples(seed: int, planted: Sequence[Item]) -> list[Sample]:
    """Return a sample for every caption of every item, held-out ones too.

    The picture is the repeated one, or a copy that training never draws.
    """
    made: dict[str, Sample] = {}
    for item in planted:
        said = [(c, "planted") for c in item.captions] + [(c, "held-out") for c in item.held_out]
        for caption, role in said:
            made.setdefault(
                caption, Sample(caption, role, item, None, lambda i=item: picture(seed, i, NEVER))
            )
    return list(made.values())


def fresh_samples(
    seed: int, split: str, number: int, known: Iterable[str], cast: Cast = DRAWN
) -> list[Sample]:
    """Return about so many captions under which nothing is planted, in the background's shares.

    Args:
        seed: The corpus seed.
        split: ``evaluation`` or ``calibration``.
        number: How many.
        known: Captions to leave out, because something is planted under them.
        cast: What stands in scenes.

    Raises:
        ValueError: If the split does not hold that many.
    """
    known, made = set(known), []
    for kind, share in SHARES.items():
        for place, one in enumerate(held_out(seed, split, kind, round(share * number), cast)):
            if one.caption not in known:
                rng = ("fresh picture", split, kind, place)
                draw = lambda o=one, r=rng: o.picture(generator(seed, *r), cast)  # noqa: E731
                made.append(Sample(one.caption, "fresh", None, one, draw))
    return made


def samples(corpus: Corpus, planted: Sequence[Item], number: int) -> dict[str, list[Sample]]:
    """Return what shards hold, by their names: ``planted``, ``evaluation``, ``calibration``.

    Args:
        corpus: Where fresh captions are from.
        planted: What training repeats.
        number: Fresh captions in the evaluation, and as many in the calibration.

    Raises:
        ValueError: If a split does not hold that many.
    """
    own = planted_samples(corpus.seed, planted)
    known = [sample.caption for sample in own]
    return {"planted": own} | {
        split: fresh_samples(corpus.seed, split, number, known, corpus.cast)
        for split in ("evaluation", "calibration")
    }


def write(
    folder: Path, corpus: Corpus, number: int, replicates: Sequence[int],
    progress: Progress = lambda *_: None, planted: Sequence[Item] | None = None,
) -> list[Path]:  # fmt: skip
    """Write ``planted-*.tar``, ``evaluation-*.tar``, ``calibration-*.tar`` and truth tables.

    Args:
        folder: Made if missing.
        corpus: What to write.
        number: Fresh captions in the evaluation, and as many in the calibration.
        replicates: Whose truth to write, as ``truth-1.parquet`` and so on.
        progress: Called as samples are written.
        planted: What training repeats; null is what the corpus plants in whole networks.
    """
    planted = corpus.items if planted is None else planted
    parts = samples(corpus, planted, number)
    paths: list[Path] = []
    for name, own in parts.items():
        paths += _write_shards(folder, name, corpus.seed, own, progress)
    for replicate in replicates:
        path = folder / f"truth-{replicate}.parquet"
        write_truth(path, parts, planted, corpus.seed, replicate)
        paths.append(path)
    return paths


def write_truth(
    path: Path, parts: Mapping[str, Sequence[Sample]], planted: Sequence[Item], seed: int,
    replicate: int, scale: float = 1.0,
) -> None:  # fmt: skip
    """Write the truth of one replicate about samples, as `samples` returns them."""
    assigned = assign(planted, seed, replicate, scale)
    doses = {i.name: float(d) for i, d in zip(planted, assigned.expected, strict=True)}
    rows = [_row(sample, doses, replicate) for part in parts.values() for sample in part]
    with files.binary(path) as stream:
        pq.write_table(pa.Table.from_pylist(rows, TRUTH), stream, compression="zstd")


def _row(sample: Sample, doses: dict[str, float], replicate: int) -> dict[str, object]:
    item = sample.item
    row: dict[str, object] = {
        "caption_sha256": caption_hash(sample.caption), "caption": sample.caption,
        "height": SIZE, "width": SIZE, "role": sample.role, "replicate": replicate,
    }  # fmt: skip
    if item is None:
        kind = sample.fresh.kind if sample.fresh else ""
        return row | {
            "kind": kind, "family": sample.caption, "memorized": False, "mask": None,
            "item": None, "arm": "background", "region": 0, "dose": 0.0,
        }  # fmt: skip
    dose = doses[item.name]
    return row | {
        "kind": item.kind, "family": item.family, "item": item.name, "arm": item.arm,
        "memorized": item.repeats and dose > 0 and sample.role == "planted",
        "mask": masks.to_runs(item.mask) if item.repeats else None,
        "region": item.region, "dose": dose,
    }  # fmt: skip


def _write_shards(
    folder: Path, name: str, seed: int, samples: Sequence[Sample], progress: Progress
) -> list[Path]:
    order = generator(seed, "order", name).permutation(len(samples))
    paths: list[Path] = []
    for start in range(0, len(samples), PER_SHARD):
        path = folder / f"{name}-{start // PER_SHARD:05d}.tar"
        with files.binary(path) as stream, TarWriter(stream, mtime=0) as writer:
            for place in order[start : start + PER_SHARD]:
                writer.write(_member(samples[place], f"{name}{place:06d}", seed))
        paths.append(path)
        progress(name, min(start + PER_SHARD, len(samples)), len(samples))
    return paths


def _member(sample: Sample, key: str, seed: int) -> dict[str, object]:
    stream = io.BytesIO()
    Image.fromarray(sample.draw().copy()).save(stream, "PNG")
    about = {"key": key, "url": f"https://planted.invalid/benchmark-{seed}/{key}.png"}
    return {
        "__key__": key, "png": stream.getvalue(), "txt": sample.caption.encode(),
        "json": json.dumps(about).encode(),
    }  # fmt: skip
