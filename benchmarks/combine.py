"""Does a combination of scores find more than the best single one, on a model that it never saw?

    memscan benchmark measure --out benchmark --family unet --only-last
    python benchmarks/combine.py benchmark/*/measured/*/scores.parquet

Scores of one trajectory are standardized by a model's own null captions: the logarithm, less its
median, over its median deviation. Combinations are the mean of all standardized scores, of a few
named ones, and a logistic curve with weights that are not negative, fitted on one model's captions
and shown on every other. With one table alone, it is fitted on one half of the families and shown
on the other. A row has the share of given-back captions that exceed all but 1% and 0.1% of each set
of clean captions.
"""

from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from planted import markdown

from scanner.testbed.benchmark import detection
from scanner.testbed.benchmark.detection import Captions

FREE = ("delta_s", "wen", "wen_5", "bright_ending", "dsm", "increment", "wen_first")
"""Scores that a trajectory gives without further evaluations."""
PAIRS = (("delta_s", "wen"), ("delta_s", "wen_5"), ("wen", "wen_5"), ("delta_s", "wen", "wen_5"))


def standardized(captions: Captions, names: Sequence[str]) -> np.ndarray:
    """Return scores in median deviations of the null captions, ``(n, scores)``."""
    columns = []
    for name in names:
        logs = np.log(np.maximum(captions.scores[name], 1e-12))
        nulls = logs[captions.nulls]
        middle = np.median(nulls)
        columns.append((logs - middle) / max(float(np.median(np.abs(nulls - middle))), 1e-9))
    return np.stack(columns, 1)


def fitted(x: np.ndarray, y: np.ndarray, rounds: int = 4000, ridge: float = 0.01) -> np.ndarray:
    """Return the weights of a logistic curve, none negative: projected gradient ascent."""
    x = np.clip(x, -20, 20)
    weights, constant = np.full(x.shape[1], 0.1), 0.0
    balance = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean())) / len(y)
    for _ in range(rounds):
        slack = balance * (y - 1 / (1 + np.exp(-np.clip(x @ weights + constant, -40, 40))))
        weights = np.maximum(0, weights + 0.2 * (x.T @ slack - ridge * weights))
        constant += 0.2 * slack.sum()
    return weights


def tpr(captions: Captions, values: np.ndarray, clean: np.ndarray, rate: float) -> float:
    """Return the share of given-back captions above all but a share of the clean ones."""
    limit = detection.threshold(values[clean], rate)
    return float((values[captions.given_back] > limit).mean())


def halves(captions: Captions) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of captions that share no family."""
    families = captions.about["family"].astype(str)
    names = np.unique(families)
    first = np.isin(families, np.random.default_rng(0).permutation(names)[: len(names) // 2])
    return first, ~first


def main() -> None:
    """Measure and print."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+", help="scores.parquet of measured models")
    models = {str(path.parent): detection.read(pq.read_table(path))
              for path in parser.parse_args().tables}  # fmt: skip
    names = [n for n in FREE if all(n in c.scores for c in models.values())]
    everything = {model: standardized(captions, names) for model, captions in models.items()}
    weights: dict[str, np.ndarray] = {}
    for model, captions in models.items():
        used = captions.given_back | (captions.about["split"] == "evaluation")
        if len(models) == 1:
            used &= halves(captions)[0]
        weights[model] = fitted(everything[model][used], captions.given_back[used])
        told = ", ".join(f"{n} {w:.2f}" for n, w in zip(names, weights[model], strict=True))
        print(f"fitted on {model}: {told}")
    for model, captions in models.items():
        shown = halves(captions)[1] if len(models) == 1 else np.ones(len(everything[model]), bool)
        x = everything[model]
        rules = {name: x[:, place] for place, name in enumerate(names)}
        rules["mean of all"] = x.mean(1)
        for few in PAIRS:
            if set(few) <= set(names):
                rules[f"mean of {', '.join(few)}"] = x[:, [names.index(n) for n in few]].mean(1)
        for other, own in weights.items():
            if other != model or len(models) == 1:
                rules[f"fitted on {other}"] = np.clip(x, -20, 20) @ own
        sets = {n: m & shown for n, m in detection.opponents(captions).items()}
        back = int((captions.given_back & shown).sum())
        rows = []
        for rule, values in rules.items():
            few = np.where(captions.given_back & ~shown, -np.inf, values)
            cells = [
                f"{tpr(captions, few, clean, rate) * captions.given_back.sum() / max(back, 1):.3f}"
                for clean in sets.values()
                for rate in (0.01, 0.001)
            ]
            rows.append([rule, *cells])
        head = [f"{n}, {rate}" for n in sets for rate in ("1%", "0.1%")]
        print(f"\n{model}: {back} captions given back\n")
        print("\n".join(markdown([model, *head], rows)))


if __name__ == "__main__":
    main()
