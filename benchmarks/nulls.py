"""Realized error rates of every form of p-value, where null captions are not as one would wish.

    python benchmarks/nulls.py synthetic              # known distributions; a minute of a core
    python benchmarks/nulls.py scan FOLDER            # the model's part: a quarter of an hour
    python benchmarks/nulls.py real FOLDER            # the statistics on rows of that scan

A corpus of n captions has a bulk and some memorized captions. It is judged by nulls of each form:

* ``held-out``: as many captions that someone set aside, all of them;
* ``one per family``: of these one per family of near-identical ones;
* ``corpus``: the corpus itself, `memscan recalibrate --contamination C`;
* ``corpus, new``: the same, and the captions judged are new ones like the corpus;
* ``trimmed``: the corpus, `--trim`;
* ``mirrored``: the corpus, its upper tail taken to be as its lower one is, around the median of the
  logarithm. No part of memscan: it shows what an assumption on the tail costs where it is wrong.

Rates are the shares of the bulk that are flagged; power is the share of the memorized captions. In
brackets is the standard error over repetitions. One repetition's captions share their nulls, so a
share over all of them says less than their number.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import error_rates
import numpy as np
from numpy.typing import NDArray

from scanner.analysis.query import connect
from scanner.engine import driver
from scanner.engine.job import Job, Resources
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Calibration
from scanner.statistics.contamination import from_corpus
from scanner.testbed import WEIGHTS

FORMS = ("held-out", "one per family", "corpus", "corpus, new", "trimmed", "mirrored")
Scores = NDArray[np.float64]
Drawn = Callable[[np.random.Generator, int], tuple[Scores, NDArray[np.int64]]]
"""Returns so many scores, and the family of each."""


@dataclass(frozen=True)
class Case:
    """A corpus, and what someone set aside as null captions.

    Attributes:
        bulk: Draws captions of the corpus that are not memorized.
        held_out: Draws null captions.
        memorized: Share of the corpus.
        bound: What is assumed of that share.
        strong: Whether memorized captions score above the bulk; else about as its highest 2%.
    """

    bulk: Drawn
    held_out: Drawn
    memorized: float
    bound: float
    strong: bool = True


def alone(scores: Callable[[np.random.Generator, int], Scores]) -> Drawn:
    """Return captions each of which is a family of its own."""
    return lambda rng, number: (scores(rng, number), np.arange(number))


def exponential(rng: np.random.Generator, number: int) -> Scores:
    return rng.exponential(size=number)


def heavy(rng: np.random.Generator, number: int) -> Scores:
    return rng.random(number) ** -0.5  # P(score > x) is x^-2


def tied(rng: np.random.Generator, number: int) -> Scores:
    return np.ceil(rng.exponential(size=number))


def with_rare_kind(share: float) -> Callable[[np.random.Generator, int], Scores]:
    """Return scores of which a share is of a kind that scores high and is not memorized."""

    def scores(rng: np.random.Generator, number: int) -> Scores:
        is_rare = rng.random(number) < share
        return np.where(is_rare, 7 + rng.exponential(size=number), rng.exponential(size=number))

    return scores


def kinds(shares: tuple[float, ...]) -> Callable[[np.random.Generator, int], Scores]:
    """Return scores of three kinds, each on a scale of its own."""

    def scores(rng: np.random.Generator, number: int) -> Scores:
        scales = np.array([1.0, 1.5, 3.0])[rng.choice(3, number, p=shares)]
        return scales * rng.exponential(size=number)

    return scores


def in_families(rng: np.random.Generator, number: int) -> tuple[Scores, NDArray[np.int64]]:
    """Draw families of 1 to a tenth of all captions, whose log scores correlate by 0.9."""
    sizes, total = list[int](), 0
    while total < number:
        sizes.append(min(int(rng.random() ** -1.0), number // 10, number - total))
        total += sizes[-1]
    family = np.repeat(np.arange(len(sizes)), sizes)
    shared, own = rng.normal(size=len(sizes))[family], rng.normal(size=number)
    return np.exp(math.sqrt(0.9) * shared + math.sqrt(0.1) * own), family


COMMON, RARE, MIXED = alone(exponential), alone(with_rare_kind(0.005)), (0.6, 0.3, 0.1)
CASES = {
    "exponential, nothing memorized": Case(COMMON, COMMON, 0, 0.01),
    "exponential, 1%": Case(COMMON, COMMON, 0.01, 0.01),
    "exponential, 1%, scores that overlap": Case(COMMON, COMMON, 0.01, 0.01, strong=False),
    "exponential, 5%": Case(COMMON, COMMON, 0.05, 0.05),
    "exponential, 5%, more than the bound of 1%": Case(COMMON, COMMON, 0.05, 0.01),
    "heavy tail, 0.1%": Case(alone(heavy), alone(heavy), 0.001, 0.01),
    "ties, 1%": Case(alone(tied), alone(tied), 0.01, 0.01),
    "a rare kind that nobody set aside, 0.1%": Case(RARE, COMMON, 0.001, 0.01),
    "kinds in other shares than set aside, 0.5%": Case(
        alone(kinds(MIXED)), alone(kinds((0.9, 0.1, 0.0))), 0.005, 0.01
    ),
    "families, 0.1% of the captions": Case(in_families, in_families, 0.001, 0.01),
}


def calibrated(scores: Scores) -> Calibration:
    """Return a calibration with these null scores."""
    nulls = tuple(np.sort(scores).tolist())
    return Calibration("", "", nulls, {}, 0.01, len(nulls), "")


def leaders(scores: Scores, families: NDArray[np.int64]) -> Scores:
    """Return one score per family: the first, whatever it is."""
    return scores[np.unique(families, return_index=True)[1]]


def mirrored(scores: Scores) -> Scores:
    """Return the scores at or below the median, and their reflections in the logarithm."""
    logs = np.log(scores)
    low = logs[logs <= np.median(logs)]
    return np.exp(np.concatenate([low, 2 * np.median(logs) - low]))


def thresholds(
    held_out: tuple[Scores, NDArray[np.int64]], corpus: tuple[Scores, NDArray[np.int64]],
    bound: float, rate: float,
) -> dict[str, float]:  # fmt: skip
    """Return above which score each form flags; infinite where it supports no such rate."""
    own = leaders(*corpus)
    by_corpus = from_corpus(calibrated(own), bound, run="").threshold(rate)
    return {
        "held-out": calibrated(held_out[0]).threshold(rate),
        "one per family": calibrated(leaders(*held_out)).threshold(rate),
        "corpus": by_corpus,
        "corpus, new": by_corpus,
        "trimmed": from_corpus(calibrated(own), bound, run="", trim=True).threshold(rate),
        "mirrored": calibrated(mirrored(own)).threshold(rate),
    }


def counted(
    levels: dict[str, float], bulk: Scores, new: Scores, memorized: Scores
) -> dict[str, tuple[float, float]]:
    """Return by form the share of the bulk that is flagged, and of the memorized captions."""
    found = dict[str, tuple[float, float]]()
    for form, level in levels.items():
        judged = new if form == "corpus, new" else bulk
        power = float((memorized > level).mean()) if len(memorized) else math.nan
        found[form] = float((judged > level).mean()), power
    return found


def drawn(
    case: Case, number: int, rate: float, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return rate and power of each form in one repetition."""
    copies = round(case.memorized * number)
    bulk, family = case.bulk(rng, number - copies)
    high = np.quantile(case.bulk(rng, 20_000)[0], 0.98)
    memorized = (bulk.max() if case.strong else high) * (1 + 0.3 * rng.random(copies))
    memorized = memorized if case.strong else memorized * rng.random(copies) ** 0.3
    corpus = np.concatenate([bulk, memorized])
    families = np.concatenate([family, number + np.arange(copies)])
    levels = thresholds(case.held_out(rng, number), (corpus, families), case.bound, rate)
    return counted(levels, bulk, case.bulk(rng, number)[0], memorized)


def measured(
    name: str, once: Callable[[], dict[str, tuple[float, float]]], repetitions: int
) -> dict[str, object]:
    """Return a row: mean rates and power of each form, with standard errors."""
    rows = [once() for _ in range(repetitions)]
    row: dict[str, object] = {"case": name}
    for form in FORMS:
        pairs = np.array([one[form] for one in rows])
        row[form] = {
            "rate": float(pairs[:, 0].mean()),
            "error": float(pairs[:, 0].std(ddof=1) / math.sqrt(repetitions)),
            "power": None if np.isnan(pairs[:, 1]).any() else float(pairs[:, 1].mean()),
        }
    return row


def synthetic(rate: float, number: int, repetitions: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield a row for each case."""
    for place, (name, case) in enumerate(CASES.items()):
        rng = np.random.default_rng([seed, place])
        yield measured(name, lambda c=case, r=rng: drawn(c, number, rate, r), repetitions)


def scan(folder: Path) -> None:
    """Score null captions of two repetitions of error_rates.py, other kinds, and planted ones."""
    error_rates.write(folder / "shards")
    for name, seeds in (("planted", range(100, 110)), ("others", (0,)), ("null-0[01]", (0,))):
        job = Job(
            model=str(WEIGHTS / "pipeline"),
            shards=tuple(reading.expand([str(folder / "shards" / f"{name}.tar")])),
            results=str(folder / "results"), chunk_size=250, batch_size=32,
            spec=ScanSpec(
                seeds=tuple(seeds), steps=error_rates.STEPS,
                guidance_scale=error_rates.GUIDANCE, localize="none",
            ),
        )  # fmt: skip
        driver.scan(job, Resources(local=True, device="cpu"), lambda event: None)


OTHERS = {"a corpus as set aside, 1%": (0, 0.01), "3% each of three other kinds, 0.5%": (30, 0.005),
          "3% each of three other kinds, 5%": (30, 0.05)}  # fmt: skip
"""Captions of each other kind in a thousand, and the share of memorized ones."""


def real(folder: Path, rate: float, repetitions: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield a row for each case, of corpora drawn from the rows of one scan.

    A corpus has 1000 captions of the null mix, as many of each other kind as the case says, and
    planted captions, each under noise of its own. As many others of the null mix were set aside,
    and the next as many, with other captions of the other kinds, are new. Repetitions draw from
    the same 3000 captions, so standard errors are of the drawing alone.
    """
    common, planted, others = _scores(folder)
    for place, (name, (each, share)) in enumerate(OTHERS.items()):
        rng = np.random.default_rng([seed, place])

        def once(rng=rng, each=each, share=share):  # noqa: ANN001, ANN202
            own, aside, more = np.split(rng.permutation(common), 3)
            mixed = [rng.permutation(scores)[: 2 * each] for scores in others.values()]
            bulk = np.concatenate([own, *(scores[:each] for scores in mixed)])
            new = np.concatenate([more, *(scores[each:] for scores in mixed)])
            copies = round(share / (1 - share) * len(bulk))
            memorized = np.array([rng.choice(planted[i % len(planted)]) for i in range(copies)])
            corpus = np.concatenate([bulk, memorized])
            levels = thresholds(
                (aside, np.arange(len(aside))), (corpus, np.arange(len(corpus))),
                max(0.01, share), rate,
            )  # fmt: skip
            return counted(levels, bulk, new, memorized)

        yield measured(name, once, repetitions)


def _scores(folder: Path) -> tuple[Scores, list[Scores], dict[str, Scores]]:
    """Return scores of the null mix, of each planted caption, and of other captions by kind."""
    planted, others = dict[str, list[float]](), dict[str, list[float]]()
    common = list[float]()
    with closing(connect(Results(folder / "results"))) as con:
        for key, sha, seed, score in con.execute(
            "SELECT key, caption_sha256, seed, delta_s FROM scores ORDER BY ALL"
        ).fetchall():
            if seed >= 100:
                planted.setdefault(sha, []).append(score)
            elif key.startswith("r"):
                common.append(score)
            else:
                others.setdefault(key.split("-")[0], []).append(score)
    return (
        np.array(common), [np.array(own) for own in planted.values()],
        {kind: np.array(own) for kind, own in others.items()},
    )  # fmt: skip


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows in Markdown."""
    lines = ["| corpus | " + " | ".join(FORMS) + " | power: held-out, corpus, trimmed |"]
    lines.append("|---" * (len(FORMS) + 2) + "|")
    for row in rows:
        own: list[dict[str, float]] = [row[form] for form in FORMS]  # pyright: ignore
        cells = [f"{one['rate']:.2%} ({one['error']:.2%})" for one in own]
        power = ", ".join(
            "-" if row[form]["power"] is None else f"{row[form]['power']:.0%}"  # pyright: ignore
            for form in ("held-out", "corpus", "trimmed")
        )
        lines.append(f"| {row['case']} | " + " | ".join(cells) + f" | {power} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("synthetic", "scan", "real"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--number", type=int, default=2000, help="captions of a synthetic corpus")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.what == "synthetic":
        rows = list(synthetic(asked.rate, asked.number, asked.repetitions, asked.seed))
    elif asked.folder is None:
        parser.error(f"{asked.what} needs a folder")
    elif asked.what == "scan":
        scan(asked.folder.resolve())
        return
    else:
        rows = list(real(asked.folder.resolve(), asked.rate, asked.repetitions, asked.seed))
    print(json.dumps(rows) if asked.json else table(rows))


if __name__ == "__main__":
    main()
