"""Realized false-positive rates where null captions come in families of near-identical ones.

    python benchmarks/families.py

A product catalogue has one text per product and one caption per colour and size. Captions of a
family score alike: a score is drawn as ``exp(sqrt(r) a + sqrt(1 - r) b)`` with a per family and b
per caption, both standard normal, and r the correlation of the logarithms within a family. The
captions are written out, and the families are those that `scanner.statistics.families` finds in
them. A scanned caption is of a family that calibration has not seen, so its own rate at a threshold
t is known exactly: ``P(score > t)``. "Before" is a calibration on all captions, "after" one on a
caption per family (``memscan calibrate --one-per-family``), where the rate is 0 if so few flag
nothing.
"""

import argparse
import json
import math
from collections.abc import Iterator

import numpy as np

from scanner.statistics.calibration import Calibration
from scanner.statistics.families import families
from scanner.statistics.intervals import needed

CASES = (20, 50), (7, 143), (200, 5), (1000, 1)
"""Families, captions of each."""
CORRELATIONS = 0.5, 0.9
RATES = 0.01, 0.05, 0.15
PARTS = 4
WORDS = ("blue", "red", "green", "black", "white", "grey", "olive", "amber", "rose", "sand")


def captions(number: int, size: int, rng: np.random.Generator) -> Iterator[tuple[int, str]]:
    """Yield family and text: a product of made-up words, and a colour and a size per caption."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    for family in range(number):
        product = " ".join("".join(rng.choice(letters, 7)) for _ in range(PARTS))
        for member in range(size):
            colour = WORDS[member % len(WORDS)]
            yield family, f"{product}, {colour}, size {30 + member // len(WORDS)} cm"


def realized(scores: list[float], rate: float) -> float:
    """Return the chance that a caption of a new family is flagged: its logarithm is normal."""
    ordered = tuple(sorted(scores))
    level = Calibration("", "", ordered, {}, 0.01, len(ordered), "").threshold(rate)
    return 0.0 if math.isinf(level) else 0.5 * math.erfc(math.log(level) / math.sqrt(2))


def measured(
    number: int, size: int, correlation: float, repetitions: int, rng: np.random.Generator
) -> dict[str, object]:
    """Return mean realized rates and their standard errors, before and after."""
    rates = {(when, rate): list[float]() for when in ("before", "after") for rate in RATES}
    found = list[int]()
    for _ in range(repetitions):
        texts = list(captions(number, size, rng))
        rng.shuffle(texts)
        shared, own = rng.normal(size=number), rng.normal(size=len(texts))
        scores = [
            math.exp(math.sqrt(correlation) * shared[family] + math.sqrt(1 - correlation) * x)
            for (family, _), x in zip(texts, own, strict=True)
        ]
        leaders = sorted(set(families([text for _, text in texts])))
        found.append(len(leaders))
        for rate in RATES:
            rates["before", rate].append(realized(scores, rate))
            rates["after", rate].append(realized([scores[i] for i in leaders], rate))
    row: dict[str, object] = {
        "families": number, "captions of each": size, "correlation": correlation,
        "families found": [min(found), max(found)],
    }  # fmt: skip
    for (when, rate), values in rates.items():
        is_supported = when == "before" or number >= needed(rate)
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        row[f"{when}, nominal {rate:g}"] = (
            f"{np.mean(values):.2%} ({error:.2%})" if is_supported else "not supported"
        )
    return row


def main() -> None:
    """Read the command line and print a row per case, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    for number, size in CASES:
        for correlation in CORRELATIONS:
            print(json.dumps(measured(number, size, correlation, asked.repetitions, rng)))


if __name__ == "__main__":
    main()
