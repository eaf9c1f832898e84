"""Tables of measures against a known truth, for a terminal and for a program."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scanner.analysis.detection import RATES, is_resolved, tpr_name
from scanner.text import aligned

HARD_KIND = "trap"
"""Negatives whose pictures are alike because the caption says so."""
TEMPLATE_POOL = "template"
"""Captions of which a part is memorized: the pool that shows whether a map finds the part."""


@dataclass
class Evaluation:
    """Tables of measures; a measure that does not exist is NaN.

    Attributes:
        run: The run.
        counts: How many captions of the results and of the truth met.
        detection: A row per score and set of negatives.
        deployed: A row per set of negatives: rates of the stored flag.
        localization: A row per pool, metric, baseline and method.
        notes: What a reader must know of the tables.
    """

    run: str
    counts: dict[str, int]
    detection: list[dict[str, Any]] = field(default_factory=list)
    deployed: list[dict[str, Any]] = field(default_factory=list)
    localization: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def headlines(self) -> "Evaluation":
        """Return the tables without the rows by kind, localization on templates alone."""
        pools = ("all", f"all but {HARD_KIND}")
        baseless = [row for row in self.localization if row["method"] == "all ones"][:1]
        mapped = [row for row in self.localization if row["method"] != "all ones"]
        return replace(
            self,
            detection=[row for row in self.detection if row["against"] in pools],
            deployed=[row for row in self.deployed if row["against"] in pools],
            localization=[r for r in mapped + baseless if r["pool"] == TEMPLATE_POOL],
        )

    def as_text(self, width: int | None = None) -> str:
        """Return the tables for the terminal.

        Args:
            width: Terminal columns; no limit by default.
        """
        measures = {"AUC": "auc", **_tpr_columns(self.detection), "AP": "ap"}
        detection = [
            [row["score"], row["against"], f"{row['positives']}/{row['negatives']}"]
            + [_with_interval(row, name) for name in measures.values()]
            + [f"{row['fpr@1%']:.2%} {row['fpr@0.1%']:.2%}"]
            for row in self.detection
        ]
        heads = ["score", "against", "+/-", *measures, "FPR reached"]
        parts = [f"Detection in run {self.run}, per caption", aligned(heads, detection, width)]
        if self.deployed:
            names = ("against", "positives", "negatives", "tpr", "fpr")
            rows = [[row[name] for name in names] for row in self.deployed]
            parts += ["", "Flags as stored", aligned(names, rows, width)]
        if self.localization:
            names = ("pool", "metric", "baseline", "method", "maps", "iou", "miou", "accuracy")
            rows = [
                [*(row[name] for name in names[:5]), *(f"{row[name]:.3f}" for name in names[5:])]
                for row in self.localization
            ]
            parts += ["", "Localization, per map", aligned(names, rows, width)]
        parts += ["", *(f"{name.replace('_', ' ')}: {n}" for name, n in self.counts.items())]
        return "\n".join([*parts, *(f"note: {note}" for note in self.notes)]) + "\n"

    def as_json(self) -> str:
        """Return the tables as a JSON object; NaN is null."""
        return json.dumps(_without_nan(asdict(self)), indent=1)


def _tpr_columns(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return heading and measure of the true-positive rates; the same measure stands once."""
    numbers, columns = {row["negatives"] for row in rows} or {0}, dict[str, str]()
    for name, rate in RATES.items():
        heading = "TPR, no false positive"
        if is_resolved(rate, max(numbers)):
            heading = f"TPR@{name}"
        elif len(numbers) == 1:
            heading = tpr_name(name, max(numbers))
        columns[heading] = f"tpr@{name}"
    return columns


def _with_interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return f"{row[name]:.3f}{interval}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return [_without_nan(v) for v in value] if isinstance(value, list) else value
