"""One model measured: checkpoints sampled and scanned, tables beside them, curves for all arms."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from scanner import files
from scanner.errors import ConfigError
from scanner.testbed.benchmark import (
    detection,
    gallery,
    response,
    sampling,
    scans,
    starting,
    tables,
)
from scanner.testbed.benchmark.extraction import SEEDS, extract
from scanner.testbed.benchmark.recipe import Recipe

Report = Callable[[str, int, int], None]
"""Called with (checkpoint, captions done, captions in all)."""

Row = dict[str, object]

FEWEST = 6
"""Items with a positive dose that a curve needs."""


def measure(
    recipe: Recipe, folder: Path, report: Report = lambda *_: None, *, only_last: bool = False,
    fresh: int = 2200, nulls: int = 1000,
) -> list[Row]:  # fmt: skip
    """Sample and scan the checkpoints of a model that were not measured yet; return all curves.

    In the model's folder lie then ``measured/step-00000`` for each checkpoint, with
    ``extraction.parquet``, ``scores.parquet``, ``maps.parquet`` and ``gallery.png``, and
    ``response.json``, the rows that are returned.

    Args:
        recipe: Of the model, as it was trained.
        folder: Of the benchmark.
        report: Called as captions are done.
        only_last: Whether the last checkpoint alone is measured.
        fresh: Fresh captions of the evaluation.
        nulls: Most fresh captions that calibrate.

    Raises:
        ConfigError: If there is no checkpoint.
        IncompleteError: If a scan could not be finished.
    """
    out = folder / recipe.name
    checkpoints = sorted(path for path in out.glob("step-?????") if path.is_dir())
    if not checkpoints:
        raise ConfigError(
            f"{out} has no checkpoint: memscan benchmark train --out {folder} --family "
            f"{recipe.family} --replicate {recipe.replicate} makes some"
        )
    rows: list[Row] = []
    for checkpoint in checkpoints[-1:] if only_last else checkpoints:
        own = scans.measured(checkpoint)
        table = own / "extraction.parquet"
        if not table.exists():
            _sample(recipe, folder, checkpoint, table, report)
        if not (own / "gallery.png").exists():
            _scan(recipe, folder, checkpoint, report, fresh, nulls)
        found = curves(pq.read_table(table).to_pylist())
        rows += [{"model": recipe.name, "checkpoint": checkpoint.name, **row} for row in found]
    text = json.dumps(rows, indent=1)
    files.write(out / "response.json", text)
    return rows


def curves(table: list[Row]) -> list[Row]:
    """Return how every arm responds to the dose.

    Regions of a template are also told apart by size. A row has the number of items, the share
    of samples that are copies at dose 0 and at the highest dose, and, where there are items
    enough, ED10, ED50 and ED90 with intervals over families.
    """
    found = []
    planted = [row for row in table if row["role"] == "planted"]
    groups: dict[str, list[Row]] = {}
    for row in planted:
        groups.setdefault(str(row["arm"]), []).append(row)
        if row["arm"] == "template":
            groups.setdefault(f"template, {row['region']}%", []).append(row)
    for name, rows in sorted(groups.items()):
        found.append({"arm": name, **_curve(rows)})
    return found


def _curve(rows: list[Row]) -> Row:
    doses, copies, seeds = (
        [float(row[column]) for row in rows]  # type: ignore[arg-type]
        for column in ("dose", "copies", "seeds")
    )
    shares = {
        dose: sum(c for c, d in zip(copies, doses, strict=True) if d == dose)
        / sum(s for s, d in zip(seeds, doses, strict=True) if d == dose)
        for dose in sorted(set(doses))
    }
    told: Row = {"captions": len(rows), "shares": {f"{dose:g}": s for dose, s in shares.items()}}
    positive = {dose for dose in doses if dose > 0}
    if sum(dose > 0 for dose in doses) < FEWEST or len(positive) < 2:
        return told
    families = [str(row["family"]) for row in rows]
    fitted = response.fit(doses, copies, seeds, families)
    for percent, estimate in fitted.effective.items():
        told[f"ed{percent}"] = asdict(estimate) | {"crossed": fitted.crossed[percent]}
    return told


def as_text(rows: list[Row]) -> str:
    """Return a table for a person: the last checkpoint's curves."""
    last = max(str(row["checkpoint"]) for row in rows)
    lines = [f"{last:24}{'captions':>9}{'dose 0':>8}{'highest':>9}   ED10, ED50, ED90"]
    for row in rows:
        if row["checkpoint"] == last:
            shares: dict[str, float] = row["shares"]  # type: ignore[assignment]
            ends = f"{shares.get('0', float('nan')):>8.2f}{list(shares.values())[-1]:>9.2f}"
            effective = ", ".join(_said(row[k]) for k in ("ed10", "ed50", "ed90") if k in row)
            lines.append(f"{row['arm']!s:24}{row['captions']:>9}{ends}   {effective}")
    return "\n".join(lines)


def _said(estimate: object) -> str:
    values: dict[str, float] = estimate  # type: ignore[assignment]
    word = f"{values['value']:.0f} ({values['low']:.0f} to {values['high']:.0f})"
    return word if values["crossed"] else f"{word} extrapolated"


def _scan(
    recipe: Recipe, folder: Path, checkpoint: Path, report: Report, fresh: int, nulls: int
) -> None:  # fmt: skip
    """Scan a checkpoint, and write what follows from its scans."""

    def told(what: str, done: int, total: int) -> None:
        report(f"{checkpoint.name}, {what}", done, total)

    found = scans.known(checkpoint) or scans.scan(
        recipe, folder, checkpoint, told, fresh=fresh, nulls=nulls
    )
    truth = scans.corpus_of(recipe, folder) / f"truth-{recipe.replicate}.parquet"
    own = scans.measured(checkpoint)
    tables.write(own, truth, own / "extraction.parquet", found)
    captions = detection.read(pq.read_table(own / tables.SCORES))
    base = starting.clean_base(folder) if recipe.family == "lora" else None
    gallery.draw_gallery(
        sampling.load(checkpoint, base), starting.assignment(recipe), recipe.seed, captions,
        found, own / "gallery.png", steps=1 if recipe.small else sampling.STEPS,
    )  # fmt: skip


def _sample(recipe: Recipe, folder: Path, checkpoint: Path, table: Path, report: Report) -> None:
    base = starting.clean_base(folder) if recipe.family == "lora" else None
    pipeline = sampling.load(checkpoint, base)
    extract(
        pipeline, starting.load_vae(folder), starting.assignment(recipe), recipe.seed, table,
        seeds=SEEDS[:2] if recipe.small else SEEDS, steps=1 if recipe.small else sampling.STEPS,
        progress=lambda done, total: report(checkpoint.name, done, total),
    )  # fmt: skip
