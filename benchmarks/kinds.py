"""False alarms by kind of caption, with p-values among all null captions and among those of a kind.

    python benchmarks/kinds.py scan FOLDER --model unet       # the model's part; also lora, dit
    python benchmarks/kinds.py report FOLDER --model unet     # the statistics, from scores alone
    python benchmarks/kinds.py table benchmark/unet-1/measured/step-09000/scores.parquet
    python benchmarks/kinds.py drift --like FILE --unlike FILE  # the warning, from captions alone

Of each shipped model, captions of many kinds are scored once, without maps: scenes, textures and
traps that no training saw, names and art that training repeated with a new picture each time,
titles and products worded like planted ones and never trained on, real captions (``--real
NAME=FILE``, one a line), and what is planted.

The table is of what ``memscan benchmark measure`` leaves: planted are the captions that the model
gives back. The report takes half of each untrained kind as null captions, 20 times at random, and
counts flags among the other half: the *broad* calibration has scenes, textures, traps, titles and
products, the *narrow* one scenes and textures alone. The drift takes null captions and captions to
scan from one file, and puts captions of the other among the latter.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from webdataset.writer import TarWriter

from scanner.analysis.query import connect
from scanner.engine import driver
from scanner.engine.job import Event, Job, Resources
from scanner.results.folder import Results
from scanner.spec import CONSENSUS, CONSENSUS_OF, ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.statistics.consensus import Consensus
from scanner.statistics.kinds import Kinds
from scanner.statistics.novelty import ALARM, UNLIKE, NullWords, differ
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, dit, lora
from scanner.testbed.benchmark import detection

SEED = 30_000
"""Draws captions that nothing else uses."""
NUMBERS = {
    "unet": {"scene": 1300, "texture": 400, "trap": 176, "title": 240, "product": 240},
    "lora": {"scene": 500, "texture": 150, "trap": 120, "title": 90, "product": 90},
    "dit": {"scene": 500, "texture": 150, "trap": 120, "title": 90, "product": 90},
}
REAL = {"unet": 200, "lora": 60, "dit": 60}
DETECTORS = ("wen", "wen_5", "wen_first", "increment")
SCORES = ("delta_s", "wen", "wen_5", CONSENSUS)
BROAD = ("scene", "texture", "trap", "title", "product")
NULLS = {"broad": BROAD, "narrow": ("scene", "texture")}
SPLITS, RATES = 20, (0.05, 0.01, 0.001)
REPETITIONS = 200
NULL_CAPTIONS, SCANNED = (200, 1000), 1000


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
        samples += [(name, text) for text in _lines(Path(path))][: REAL[model]]
    kinds = dict[str, str]()
    for kind, text in samples:
        kinds.setdefault(text, kind)
    shard = place / "captions.tar"
    if not shard.exists():
        _write(shard, kinds)
    over = (str(WEIGHTS / "lora" / lora.FILE),) if model == "lora" else ()
    job = Job(
        model=str(WEIGHTS / ("dit" if model == "dit" else "pipeline")), lora=over,
        shards=(str(shard),), results=str(place / "results"), chunk_size=64, batch_size=16,
        spec=ScanSpec(
            seeds=(0,), steps=20, guidance_scale=2.5, localize="none", detectors=DETECTORS,
        ),
    )  # fmt: skip
    driver.scan(job, Resources(local=True, threads=1), _say)


def _lines(path: Path) -> list[str]:
    texts = (line.strip() for line in path.read_text().splitlines())
    return list(dict.fromkeys(text for text in texts if text))


def _write(shard: Path, kinds: Mapping[str, str]) -> None:
    """Write captions in random order; a sample's key begins with its kind."""
    texts, partial = list(kinds), shard.with_suffix(".partial")
    with TarWriter(str(partial), mtime=0) as writer:
        for number, at in enumerate(corpus.generator(SEED, "order").permutation(len(texts))):
            key = f"{kinds[texts[at]]}-{number:05d}"
            about = json.dumps({"key": key}).encode()
            writer.write({"__key__": key, "txt": texts[at].encode(), "json": about})
    partial.replace(shard)


def _say(event: Event) -> None:
    if event.kind in ("chunk", "end", "problem", "quarantine"):
        print(event.kind, event.samples_done, event.samples_total, event.text, flush=True)


def report(folder: Path, model: str) -> None:
    """Print the share flagged by kind of caption, a table a score, calibration and rate."""
    kinds, texts, scores = _rows(folder / model / "results")
    shown = [k for k in (*BROAD, "name", "art", "coco", "laion") if k in kinds]
    _report(model, kinds, texts, scores, shown, NULLS)


def table(path: Path) -> None:
    """Print the same of a table of the benchmark; its own kinds of fresh captions are broad."""
    captions = detection.read(pq.read_table(path))
    kinds = captions.about["kind"].astype(str).copy()
    kinds[captions.about["role"] != "fresh"] = "other"
    kinds[captions.given_back] = "planted"
    fresh = ("single", "pair", "three", "trap", "title", "product")
    known = {name: captions.scores[name] for name in CONSENSUS_OF}
    texts = captions.about["caption"].tolist()
    nulls = {"broad": fresh, "narrow": fresh[:3]}
    _report(path.parent.name, kinds, texts, known, list(fresh), nulls)


def _report(model, kinds, texts, scores, shown, calibrations) -> None:  # noqa: ANN001
    print(f"{model}:", dict(Counter(kinds.tolist())))
    for score in SCORES:
        for name, nulls in calibrations.items():
            counts, sizes = _split_counts(kinds, texts, scores, score, nulls, shown)
            print(f"\n{model}, {score}, {name}: {sizes}")
            print("| nominal | p-values among |", *(f"{k} |" for k in [*shown, "planted"]))
            for (rate, among), row in counts.items():
                cells = [f"{hits / max(1, number):.3f} |" for hits, number in row.values()]
                print(f"| {rate:.1%} | {among} |", *cells)


def _rows(folder: Path):  # noqa: ANN202
    with closing(connect(Results(folder))) as con:
        rows = con.execute(
            f"SELECT key, caption, {', '.join(CONSENSUS_OF)} FROM scores ORDER BY key"
        ).fetchall()
    kinds = np.array([row[0].rsplit("-", 1)[0] for row in rows])
    kinds[np.isin(kinds, ("verbatim", "template"))] = "planted"
    values = np.array([row[2:] for row in rows], float)
    return kinds, [row[1] for row in rows], dict(zip(CONSENSUS_OF, values.T, strict=True))


def _split_counts(kinds, texts, known, score, nulls, shown):  # noqa: ANN001, ANN202
    """Return flags and captions by rate, p-values and kind over all splits, and what was drawn."""
    rng = corpus.generator(SEED, "splits")
    counts = {
        (rate, among): {kind: [0, 0] for kind in [*shown, "planted"]}
        for rate in RATES for among in ("all", "kind")
    } | {(UNLIKE, "unlike"): {kind: [0, 0] for kind in [*shown, "planted"]}}  # fmt: skip
    number, divided = 0, list[int]()
    for _ in range(SPLITS):
        own, tested = list[int](), list(np.flatnonzero(kinds == "planted"))
        for kind in shown:
            order = rng.permutation(np.flatnonzero(kinds == kind))
            half = len(order) // 2 if kind in nulls else 0
            own, tested = own + list(order[:half]), tested + list(order[half:])
        scores = known[score] if score in known else _consensus(known, own)
        null = _calibration([texts[i] for i in own], scores[own].tolist())
        number, divided = len(own), [*divided, len(null.kinds["delta_s"])]
        for i in tested:
            p_values = {
                "all": null.p_value(scores[i]),
                "kind": null.kind_p_value("delta_s", scores[i], texts[i])[0],
                "unlike": null.words.novelty(texts[i]) if null.words else 1.0,
            }
            for rate, among in counts:
                cell = counts[rate, among][kinds[i]]
                cell[0] += p_values[among] <= rate
                cell[1] += 1
    return counts, f"{number} null captions, {np.mean(divided):.1f} kinds on average"


def _consensus(known, own):  # noqa: ANN001, ANN202
    """Return the consensus of all captions, beside the null captions in ``own``."""
    scales = Consensus.of({name: known[name][own].tolist() for name in CONSENSUS_OF})
    return np.array(scales.each({name: known[name].tolist() for name in CONSENSUS_OF}))


def _calibration(texts: list[str], scores: list[float]) -> Calibration:
    kinds = {"delta_s": Kinds.of(texts, scores)}
    words = NullWords.of(texts)
    nulls = tuple(sorted(scores))
    return Calibration("", "", nulls, {}, 0.01, len(nulls), "", words=words, kinds=kinds)


def drift(like: Path, unlike: Path) -> None:
    """Print how often the warning is given, and the shares of unlike captions."""
    usual, other = _lines(like), _lines(unlike)
    rng = corpus.generator(SEED, "drift")
    print("| null captions | others among 1,000 | warned | unlike, of the usual | of the others |")
    for number in NULL_CAPTIONS:
        for share in (0.0, 0.02, 0.05, 0.25):
            found = list(_drifts(rng, usual, other, number, share))
            warned, alike, apart = (np.mean([f[i] for f in found]) for i in range(3))
            print(f"| {number} | {share:.0%} | {warned:.3f} | {alike:.4f} | {apart:.3f} |")


def _drifts(
    rng: np.random.Generator, usual: list[str], other: list[str], number: int, share: float
) -> Iterator[tuple[bool, float, float]]:
    """Yield by repetition whether captions are warned of, and the shares that are unlike."""
    several = round(share * SCANNED)
    for _ in range(REPETITIONS):
        drawn = [usual[i] for i in rng.choice(len(usual), number + SCANNED - several, False)]
        strange = [other[i] for i in rng.choice(len(other), several, False)]
        words = NullWords.of(drawn[:number])
        novelty = np.array([words.novelty(text) for text in [*drawn[number:], *strange]])
        unlike = novelty <= UNLIKE
        p_value = differ(int(unlike.sum()), int((novelty <= 0.5).sum()), len(novelty), number)
        own = unlike[len(novelty) - several :]
        yield (
            p_value <= ALARM,
            unlike[: len(novelty) - several].mean(),
            own.mean() if several else 0,
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("scan", "report", "table", "drift"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", choices=tuple(NUMBERS), default="unet")
    parser.add_argument("--real", action="append", default=[], help="NAME=FILE, a caption a line")
    parser.add_argument("--like", type=Path, help="captions of one kind, one a line")
    parser.add_argument("--unlike", type=Path, help="captions of another")
    asked = parser.parse_args()
    if asked.what == "drift":
        drift(asked.like, asked.unlike)
        return
    folder = asked.folder.resolve()
    if asked.what == "table":
        table(folder)
        return
    if asked.what == "scan":
        scan(folder, asked.model, asked.real)
    else:
        report(folder, asked.model)


if __name__ == "__main__":
    main()
