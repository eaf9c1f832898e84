"""Realized error rates of the calibration, with the shipped model on fresh captions.

    python benchmarks/error_rates.py scan FOLDER      # the model's part: an hour of a core
    python benchmarks/error_rates.py report FOLDER    # the statistics, from the scores alone

A repetition has its own 1000 null captions to calibrate with, 500 others to test with, and the 56
planted captions under noise seeds that nothing else used. No null caption stands in two places,
none was trained on, and the noise of each follows from its text and seed. Nulls are 91% scenes and
9% textures, calibrating and tested alike, in random order. Apart from the repetitions there are
captions of other kinds, for what calibration does not promise.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from webdataset.writer import TarWriter

from scanner.analysis.query import connect
from scanner.engine import driver
from scanner.engine.cluster import cluster
from scanner.engine.job import Event, Job, Resources
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration, benjamini_hochberg
from scanner.statistics.intervals import clopper_pearson
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus

REPETITIONS, CALIBRATING, TESTED = 20, 1000, 500
BOTH_SEEDS = 300, 150
"""So many of the calibrating and the tested captions of a repetition have a second seed."""
TEXTURES = 0.09
STEPS, GUIDANCE = 3, 2.5
RATES, FDR, FPR_OUTSIDE = (0.05, 0.01, 0.001), 0.05, 0.01
SEED = 20_000
"""Draws the captions."""
TRAPS, OTHERS = 160, 200
"""Captions of each kind outside the null mix."""


def null_captions() -> Iterator[list[str]]:
    """Yield each repetition's null captions: those that calibrate, then those that are tested."""
    size = CALIBRATING + TESTED
    textures = round(TEXTURES * size)
    drawn = {
        kind: [
            item.caption
            for split in ("calibration", "evaluation")
            for item in corpus.negatives(SEED, split, kind, REPETITIONS * number // 2)
        ]
        for kind, number in (("scene", size - textures), ("texture", textures))
    }
    rng = corpus.generator(SEED, "error rates")
    mixed = {kind: list(rng.permutation(texts)) for kind, texts in drawn.items()}
    for r in range(REPETITIONS):
        own = [
            str(text)
            for texts in mixed.values()
            for text in texts[r * len(texts) // REPETITIONS : (r + 1) * len(texts) // REPETITIONS]
        ]
        yield [str(text) for text in rng.permutation(own)]


def other_captions() -> dict[str, list[str]]:
    """Return captions that nothing was planted under and that the null mix does not have.

    ``trap``: a plain background. ``title`` and ``product``: worded like planted captions, of
    another corpus seed, so that the model never saw them.
    """
    traps = [i.caption for s in ("calibration", "evaluation")
             for i in corpus.negatives(SEED, s, "trap", TRAPS // 2)]  # fmt: skip
    strangers: dict[str, list[str]] = {"verbatim": [], "template": []}
    known = {item.caption for item in corpus.planted(SHIPPED_SEED)}
    for seed in range(SEED, SEED + 8):
        for item in corpus.planted(seed):
            if item.kind in strangers and item.caption not in known:
                strangers[item.kind].append(item.caption)
    return {
        "trap": traps,
        "title": list(dict.fromkeys(strangers["verbatim"]))[:OTHERS],
        "product": list(dict.fromkeys(strangers["template"]))[:OTHERS],
    }


def write(folder: Path) -> None:
    """Write the captions as shards, a shard a repetition; what is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    planted = [item for item in corpus.planted(SHIPPED_SEED) if item.memorized]
    _write(folder / "planted.tar", [(f"{i.family}", i.caption) for i in planted])
    others = other_captions().items()
    _write(
        folder / "others.tar",
        [(f"{kind}-{i:04d}", text) for kind, texts in others for i, text in enumerate(texts)],
    )
    for r, texts in enumerate(null_captions()):
        roles = ["calibrating"] * CALIBRATING + ["tested"] * TESTED
        numbers = [*range(CALIBRATING), *range(TESTED)]
        named = list(zip(roles, numbers, texts, strict=True))
        for name, some in (
            ("null", named),
            ("twice", [n for n in named if n[1] < BOTH_SEEDS[n[0] == "tested"]]),
        ):
            _write(
                folder / f"{name}-{r:02d}.tar",
                [(f"r{r:02d}-{role}-{i:04d}", text) for role, i, text in some],
            )


def _write(path: Path, samples: list[tuple[str, str]]) -> None:
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    with TarWriter(str(partial), mtime=0) as writer:
        for key, text in samples:
            about = json.dumps({"key": key}).encode()
            writer.write({"__key__": key, "txt": text.encode(), "json": about})
    partial.replace(path)


def scan(folder: Path) -> None:
    """Score everything; run again, it goes on where it stopped."""
    write(folder / "shards")
    for name, seeds in (
        ("planted", tuple(range(100, 100 + REPETITIONS))),
        ("others", (0,)),
        ("null-*", (0,)),
        ("twice-*", (1,)),
    ):
        job = Job(
            model=str(WEIGHTS / "pipeline"),
            shards=tuple(reading.expand([str(folder / "shards" / f"{name}.tar")])),
            results=str(folder / "results"), chunk_size=250, batch_size=32,
            spec=ScanSpec(seeds=seeds, steps=STEPS, guidance_scale=GUIDANCE, localize="none"),
        )  # fmt: skip
        with cluster(None):
            driver.scan(job, Resources(actors=1, threads=1), lambda e, n=name: _say(n, e))


def _say(name: str, event: Event) -> None:
    if event.kind != "index":
        print(name, event.kind, event.samples_done, event.samples_total, event.text, flush=True)


def report(folder: Path) -> None:
    """Print realized rates, pooled and by repetition, as JSON."""
    calibrating, tested, planted, others = _scores(folder)
    rows: dict[str, list[tuple[int, int]]] = {}
    shares: dict[str, list[float]] = {}
    outside = {kind: [0, 0] for kind in others}
    for r in range(REPETITIONS):
        nulls = tuple(sorted(calibrating[r]))
        c = Calibration("", "", nulls, {}, 0.01, len(nulls), "")
        null_p = np.array([c.p_value(x) for x in tested[r]])
        copy_p = np.array([c.p_value(x) for x in planted[r]])
        for rate in RATES:
            rows.setdefault(f"fpr {rate:g}", []).append((int((null_p <= rate).sum()), len(null_p)))
        cutoff = benjamini_hochberg(np.concatenate([null_p, copy_p]), FDR)
        false, true = int((null_p <= cutoff).sum()), int((copy_p <= cutoff).sum())
        shares.setdefault(f"fdr {FDR:g}", []).append(false / max(1, false + true))
        for kind, scores in others.items():
            outside[kind][0] += sum(c.p_value(x) <= FPR_OUTSIDE for x in scores)
            outside[kind][1] += len(scores)
    found: dict[str, object] = {"repetitions": REPETITIONS}
    for name, counts in rows.items():
        alarms, number = (sum(x) for x in zip(*counts, strict=True))
        found[name] = {
            "realized": alarms / number, "pooled": f"{alarms}/{number}",
            "clopper_pearson_95": clopper_pearson(alarms, number),
            "over repetitions": _spread([a / n for a, n in counts]),
        }  # fmt: skip
    for name, values in shares.items():
        found[name] = {"realized": float(np.mean(values)), "over repetitions": _spread(values)}
    found[f"outside the null mix, p <= {FPR_OUTSIDE:g}"] = {
        kind: alarms / number for kind, (alarms, number) in outside.items()
    }
    found["two seeds"] = _two_seeds(folder)
    print(json.dumps(found, indent=1))


def _two_seeds(folder: Path) -> dict[str, str]:
    """Return realized rates of one seed's p-value, of both seeds' mean, and of the lesser p-value.

    The last is no p-value of the caption, and must show it.
    """
    with closing(connect(Results(folder / "results"))) as con:
        pairs = con.execute(
            "SELECT split_part(any_value(key), '-', 1), split_part(any_value(key), '-', 2), "
            "max(delta_s) FILTER (seed = 0), max(delta_s) FILTER (seed = 1) FROM scores "
            "WHERE key LIKE 'r%' AND seed < 2 GROUP BY caption_sha256 "
            "HAVING count(DISTINCT seed) = 2"
        ).fetchall()
    alarms, number = dict[str, int](), 0
    for r in range(REPETITIONS):
        own = [pair for pair in pairs if pair[0] == f"r{r:02d}"]
        null = np.array([scores for _, role, *scores in own if role == "calibrating"])
        seeds = {s: tuple(sorted(null[:, s])) for s in (0, 1)}
        c = Calibration("", "", tuple(sorted(null.mean(1))), {}, 0.01, len(null), "", seeds)
        for _, role, *scores in own:
            if role != "tested":
                continue
            number += 1
            each = [c.seed_p_value(s, scores[s]) for s in (0, 1)]
            for name, p in (
                ("seed 0", each[0]), ("seed 1", each[1]), ("mean of both", c.p_value(
                    float(np.mean(scores)))), ("lesser p-value, wrong", min(each)),
            ):  # fmt: skip
                for rate in (0.05, 0.01):
                    at = f"{name}, {rate:g}"
                    alarms[at] = alarms.get(at, 0) + (p <= rate)
    return {at: f"{count}/{number} = {count / number:.2%}" for at, count in alarms.items()}


def _scores(folder: Path):  # noqa: ANN202
    """Return scores by repetition (calibrating, tested, planted), and of other captions by kind."""
    calibrating, tested = (
        [list[float]() for _ in range(REPETITIONS)], [list[float]() for _ in range(REPETITIONS)],
    )  # fmt: skip
    planted, others = [list[float]() for _ in range(REPETITIONS)], dict[str, list[float]]()
    with closing(connect(Results(folder / "results"))) as con:
        for key, seed, score in con.execute(
            "SELECT key, seed, delta_s FROM scores ORDER BY ALL"
        ).fetchall():
            if key.startswith("r") and seed == 0:
                part, role, _ = key.split("-")
                (calibrating if role == "calibrating" else tested)[int(part[1:])].append(score)
            elif seed >= 100:
                planted[seed - 100].append(score)
            elif seed == 0:
                others.setdefault(key.split("-")[0], []).append(score)
    return calibrating, tested, planted, others


def _spread(values: list[float]) -> dict[str, float]:
    """Return standard error of the mean, least and most."""
    error = float(np.std(values, ddof=1) / len(values) ** 0.5)
    return {"standard error": error, "least": min(values), "most": max(values)}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("scan", "report"))
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    {"scan": scan, "report": report}[asked.what](asked.folder.resolve())


if __name__ == "__main__":
    main()
