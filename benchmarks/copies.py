"""How many of the planted near-duplicates an audit finds, and what else it takes for one.

Scans the planted corpus with the shipped model, to which a shard of altered copies was added:
every memorized picture again, under captions of its own, encoded anew, smaller, brighter, paler
or cropped. Then asks the audit which images copy its findings::

    python benchmarks/copies.py --out copies
"""

import argparse
import io
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from webdataset.writer import TarWriter

from scanner.api.calibrating import CalibrationRequest, calibrate_shards
from scanner.engine import Job, Resources
from scanner.engine import scan as scan_on_ray
from scanner.engine.cluster import cluster
from scanner.nightly.audit import AuditRequest, audit
from scanner.nightly.policy import Policy
from scanner.nightly.state import AuditState
from scanner.records import caption_hash
from scanner.report.page import PageOptions
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, make

SPEC = ScanSpec(steps=20, guidance_scale=2.5, probes=4)
NEGATIVES = 100


def again(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def cropped(image: Image.Image, loss: float, x: float, y: float) -> Image.Image:
    w, h = image.size
    box = (loss * x * w, loss * y * h, w - loss * (1 - x) * w, h - loss * (1 - y) * h)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 50": lambda image: again(image, 50),
    "half the size": lambda image: image.resize((32, 32), Image.Resampling.LANCZOS),
    "15% brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "20% less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "4% cropped": lambda image: cropped(image, 0.04, 0.5, 0.5),
    "8% cropped": lambda image: cropped(image, 0.08, 0.5, 0.5),
    "6% cropped at a corner": lambda image: cropped(image, 0.06, 0.0, 0.0),
    "5% cropped, 10% brighter, JPEG of quality 70": lambda image: again(
        ImageEnhance.Brightness(cropped(image, 0.05, 0.3, 0.7)).enhance(1.1), 70
    ),
}


def plant(folder: Path, items: list[corpus.Item]) -> dict[tuple[str, str], tuple[str, str]]:
    """Write the altered copies; return hash of the copied caption and alteration, by place."""
    path, truth = folder / "altered-00000.tar", {}
    captions = corpus.negatives(SHIPPED_SEED, "evaluation", "scene", 2000, "altered")
    with TarWriter(str(path), mtime=0) as tar:
        for number, (item, (name, alter)) in enumerate(
            (item, change) for item in items for change in ALTERED.items()
        ):
            pixels = corpus.picture(SHIPPED_SEED, item, 5_000_000 + number)
            stream, key = io.BytesIO(), f"altered{number:05d}"
            alter(Image.fromarray(np.ascontiguousarray(pixels))).save(stream, "PNG")
            tar.write({"__key__": key, "png": stream.getvalue(), "txt": captions[number].caption})
            truth[str(path), key] = caption_hash(item.caption), name
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out.resolve()
    model = str(WEIGHTS / "pipeline")
    items = make.evaluation_items(SHIPPED_SEED, NEGATIVES)
    memorized = [item for item in items if item.memorized]
    make.write_shards(SHIPPED_SEED, items, out / "corpus", "evaluation")
    null = make.write_shards(
        SHIPPED_SEED, make.calibration_items(SHIPPED_SEED, NEGATIVES), out / "null", "null"
    )
    truth = plant(out / "corpus", memorized)
    resources = Resources()
    with cluster():
        job = Job(model=model, shards=tuple(map(str, null)), results=str(out / "null.results"),
                  spec=ScanSpec(**{**vars_of(SPEC), "localize": "all"}), chunk_size=32)  # fmt: skip
        calibrate_shards(
            CalibrationRequest(job=job),
            lambda job, title: scan_on_ray(job, resources, lambda event: None),
        ).save(out / "calibration.json")
        state = AuditState(out / "state")
        job = Job(
            model=model, shards=tuple(reading.expand([str(out / "corpus")])), spec=SPEC,
            results=str(state.results.root), calibration=str(out / "calibration.json"),
            images=True, chunk_size=32,
        )  # fmt: skip
        request = AuditRequest(job=job, policy=Policy(), page=PageOptions(images=reading.images))
        started = time.monotonic()
        looked: list[float] = []
        night = audit(
            state, request, resources, lambda event: None,
            told=lambda done, total, word: looked.append(time.monotonic()),
        ).night  # fmt: skip
    print(f"audit {time.monotonic() - started:.1f} s, of it copies {looked[-1] - looked[0]:.1f} s")
    tell(night, truth, {caption_hash(item.caption): item for item in items})


def vars_of(spec: ScanSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in ScanSpec.__slots__}


def tell(night, truth, items) -> None:  # noqa: ANN001
    planted, found, false = Counter(), Counter(), Counter()
    kinds = Counter()
    for alert in night.alerts:
        sha = alert.change.finding.caption_sha256
        item = items.get(sha)
        kind = item.kind if item else "altered"
        kinds[kind] += 1
        listed = {(c.shard, c.key): c for c in alert.images.copies} if alert.images else {}
        own = {place: name for place, (other, name) in truth.items() if other == sha}
        if item is not None and item.memorized:
            for place, name in own.items():
                planted[kind, name] += 1
                found[kind, name] += place in listed
        for place, copy in listed.items():
            if place not in own and copy.caption_sha256 != sha:
                false[kind] += 1
    for kind in ("verbatim", "template"):
        for name in ALTERED:
            share = f"{found[kind, name]} of {planted[kind, name]}"
            print(f"{kind:10}{name:50}{share}")
    print(json.dumps({"findings": kinds, "listed by mistake": false}))


if __name__ == "__main__":
    main()
