"""False alarms by kind of caption: what a calibration promises, and what knowing the kind mends.

    python benchmarks/kinds.py scan FOLDER --model unet      # the model's part; also lora, dit
    python benchmarks/kinds.py report FOLDER                 # the statistics, from the scores alone

Of each shipped model, captions of many kinds are scored once, without maps: scenes, textures and
traps that no training saw, the names and art that training repeated with a new picture each time,
titles and products of other corpora (worded like planted ones, never trained on), real captions
(``--real FILE``, one a line, as ``NAME=FILE``), and what is planted.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from webdataset.writer import TarWriter

from scanner.engine import driver
from scanner.engine.job import Event, Job, Resources
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, dit, lora

SEED = 30_000
"""Draws captions that nothing else uses."""
NUMBERS = {
    "unet": {"scene": 1300, "texture": 400, "trap": 176, "title": 240, "product": 240},
    "lora": {"scene": 500, "texture": 150, "trap": 120, "title": 90, "product": 90},
    "dit": {"scene": 500, "texture": 150, "trap": 120, "title": 90, "product": 90},
}
REAL = {"unet": 200, "lora": 60, "dit": 60}
DETECTORS = ("wen", "wen_5", "wen_first", "increment")
MODELS = ("unet", "lora", "dit")


def items(model: str) -> list[tuple[str, str]]:
    """Return kind and caption of everything that is scored with a model."""
    seed, known = {
        "unet": (SHIPPED_SEED, corpus.planted(SHIPPED_SEED)),
        "lora": (lora.SEED, corpus.half(lora.SEED)),
        "dit": (dit.SEED, corpus.half(dit.SEED)),
    }[model]
    found = [(item.kind, item.caption) for item in known]
    numbers = NUMBERS[model]
    for kind in ("scene", "texture", "trap"):
        for split in ("calibration", "evaluation"):
            found += [
                (kind, item.caption)
                for item in corpus.negatives(SEED + seed, split, kind, numbers[kind] // 2)
            ]
    return found + strangers(numbers)


def strangers(numbers: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return titles and products worded like planted ones, of corpora that no model was given."""
    given = {i.caption for s in (SHIPPED_SEED, lora.SEED, dit.SEED) for i in corpus.planted(s)}
    drawn = [item for seed in range(SEED, SEED + 20) for item in corpus.planted(seed)]
    found = list[tuple[str, str]]()
    for kind, name in (("verbatim", "title"), ("template", "product")):
        texts = dict.fromkeys(item.caption for item in drawn if item.kind == kind)
        found += [(name, text) for text in texts if text not in given][: numbers[name]]
    return found


def scan(folder: Path, model: str, real: list[str]) -> None:
    """Score everything; run again, it goes on where it stopped."""
    place = folder / model
    place.mkdir(parents=True, exist_ok=True)
    samples = items(model)
    for named in real:
        name, _, path = named.partition("=")
        lines = Path(path).read_text().splitlines()
        samples += [(name, line.strip()) for line in dict.fromkeys(lines) if line.strip()][
            : REAL[model]
        ]
    kinds = dict[str, str]()
    for kind, text in samples:
        kinds.setdefault(text, kind)
    order = corpus.generator(SEED, "order").permutation(len(kinds))
    texts = list(kinds)
    shard, partial = place / "captions.tar", place / "captions.partial"
    if not shard.exists():
        with TarWriter(str(partial), mtime=0) as writer:
            for number, at in enumerate(order):
                text = texts[at]
                about = json.dumps({"key": f"{kinds[text]}-{number:05d}"}).encode()
                key = f"{kinds[text]}-{number:05d}"
                writer.write({"__key__": key, "txt": text.encode(), "json": about})
        partial.replace(shard)
    over = (str(WEIGHTS / "lora" / lora.FILE),) if model == "lora" else ()
    job = Job(
        model=str(WEIGHTS / ("dit" if model == "dit" else "pipeline")), lora=over,
        shards=(str(shard),), results=str(place / "results"), chunk_size=64, batch_size=16,
        spec=ScanSpec(
            seeds=(0,), steps=20, guidance_scale=2.5, localize="none", detectors=DETECTORS,
        ),
    )  # fmt: skip
    driver.scan(job, Resources(local=True, threads=1), _say)


def _say(event: Event) -> None:
    if event.kind in ("chunk", "end", "problem", "quarantine"):
        print(event.kind, event.samples_done, event.samples_total, event.text, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("scan", "report"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=MODELS, default="unet")
    parser.add_argument("--real", action="append", default=[], help="NAME=FILE")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    scan(folder, asked.model, asked.real)


if __name__ == "__main__":
    main()
