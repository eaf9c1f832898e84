"""What was measured of every model, side by side: tables, figures and one JSON file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from scanner import files
from scanner.analysis.detection import RATES
from scanner.errors import ConfigError
from scanner.report import dose_figures
from scanner.testbed.benchmark import detection, localization
from scanner.testbed.benchmark.tables import MAPS, SCORES

Row = dict[str, Any]

SHOWN = 8
"""Scores of which a page has the table by dose; the JSON file has all."""
AGAINST = ("all fresh", "scenes", "traps", "same style")


def models(folder: Path) -> dict[str, Path]:
    """Return what was measured of every model's last measured checkpoint, a folder each.

    Raises:
        ConfigError: If nothing was measured yet.
    """
    paths = sorted(folder.glob(f"*/measured/*/{SCORES}"))
    found = {path.parents[2].name: path.parent for path in paths}
    if not found:
        raise ConfigError(
            f"{folder} has no measured checkpoint: memscan benchmark measure --out {folder} "
            f"measures one"
        )
    return found


def measured(folder: Path) -> dict[str, list[Row]]:
    """Return everything that follows from ``scores.parquet`` and ``maps.parquet``.

    Args:
        folder: The folder that holds both.
    """
    captions = detection.read(pq.read_table(folder / SCORES))
    maps = localization.Maps(pq.read_table(folder / MAPS), captions)
    return {
        "detection": detection.detected(captions),
        "differences": detection.compared(captions),
        "doses": detection.by_dose(captions),
        "maps": localization.measured(maps),
        "map_differences": localization.compared(maps),
    }


def compare(folder: Path) -> Path:
    """Write ``benchmark.json``, ``benchmark.md``, ``doses.png`` and ``differences.png``.

    The last is left out where no model gives anything back.

    Args:
        folder: Of the benchmark.

    Returns:
        The Markdown file.

    Raises:
        ConfigError: If nothing was measured yet.
    """
    facts = {name: measured(own) for name, own in models(folder).items()}
    files.write(folder / "benchmark.json", json.dumps(facts, indent=1))
    leading = (s for own in facts.values() for s in detection.leading(own["detection"], 4))
    best = list(dict.fromkeys(("delta_s", *leading)))
    dose_figures.draw_doses({name: own["doses"] for name, own in facts.items()}, best[:6],
                      folder / "doses.png")  # fmt: skip
    differences = {name: own["differences"] for name, own in facts.items() if own["differences"]}
    if differences:
        target = folder / "differences.png"
        dose_figures.draw_forest(differences, "tpr@1%", AGAINST[1:], target)
    target = folder / "benchmark.md"
    files.write(target, as_markdown(facts))
    return target


def as_markdown(facts: Mapping[str, Mapping[str, Sequence[Row]]]) -> str:
    """Return the tables of all models for a page."""
    parts: list[str] = []
    for name, own in facts.items():
        parts += [f"### {name}", *_detection(own["detection"])]
        best = ["given back", *detection.leading(own["detection"], SHOWN)]
        parts += _doses([row for row in own["doses"] if row["score"] in best])
        parts += _maps(own["maps"])
    return "\n\n".join(parts) + "\n"


def _detection(rows: Sequence[Row]) -> list[str]:
    """Return a table of AUC and TPR by score and set of clean captions."""
    if not rows:
        return [f"Fewer than {detection.FEWEST} captions are given back: nothing to detect."]
    sets = [name for name in AGAINST if any(row["against"] == name for row in rows)]
    sets += [n for n in dict.fromkeys(row["against"] for row in rows) if n not in sets]
    by_score: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_score.setdefault(row["score"], {})[row["against"]] = row
    first = "all fresh" if "all fresh" in sets else sets[0]

    def order(score: str) -> float:
        row = by_score[score].get(first)
        return -row["auc"] if row else 1.0

    parts = []
    for measure, title in (("auc", "AUC"), *((f"tpr@{rate}", f"TPR at {rate}") for rate in RATES)):
        lines = [_line([title, *(_numbered(rows, name) for name in sets)])]
        lines.append(_line(["---"] * (len(sets) + 1)))
        for score in sorted(by_score, key=order):
            cells = [_cell(by_score[score].get(name), measure) for name in sets]
            lines.append(_line([f"`{score}`", *cells]))
        parts.append("\n".join(lines))
    return parts


def _numbered(rows: Sequence[Row], against: str) -> str:
    row = next(row for row in rows if row["against"] == against)
    return f"{against} ({row['positives']} against {row['negatives']:,})"


def _doses(rows: Sequence[Row]) -> list[str]:
    """Return, by arm, the doses at which half of the items come back and are flagged."""
    parts = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        doses = list(own[0]["shares"])
        lines = [_line([f"{arm}, share by dose", "half of them at", *doses])]
        lines.append(_line(["---"] * (len(doses) + 2)))
        for row in own:
            if row.get("rate", "1%") != "1%":
                continue
            what = "given back" if row["score"] == "given back" else (
                f"`{row['score']}` flags, 1% of {row['against']}")  # fmt: skip
            shares = [f"{value:.2f}" for value in row["shares"].values()]
            lines.append(_line([what, _dose(row.get("seen_at")), *shares]))
        parts.append("\n".join(lines))
    return parts


def _dose(estimate: Row | None) -> str:
    if estimate is None:
        return ""
    told = f"{estimate['value']:.0f} ({estimate['low']:.0f}–{estimate['high']:.0f})"
    return told if estimate["crossed"] else f"{told}, not crossed"


def _maps(rows: Sequence[Row]) -> list[str]:
    pools = list(dict.fromkeys(row["pool"] for row in rows))
    parts = []
    for how in ("oracle", "deployed"):
        lines = [_line([f"IoU, {how}", *pools]), _line(["---"] * (len(pools) + 1))]
        for name in dict.fromkeys(row["map"] for row in rows):
            own = {row["pool"]: row for row in rows if row["map"] == name}
            lines.append(_line([f"`{name}`", *(_cell(own.get(pool), how) for pool in pools)]))
        parts.append("\n".join(lines))
    return parts


def _cell(row: Row | None, measure: str) -> str:
    if row is None or measure not in row:
        return ""
    low, high = row[f"{measure}_interval"]
    return f"{row[measure]:.3f} ({low:.3f}–{high:.3f})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
