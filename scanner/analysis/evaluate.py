"""Results against a known truth: detection, localization, and what the deployed thresholds do."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.analysis import overlap
from scanner.analysis.captions_and_maps import captions, maps_of, metrics, regions
from scanner.analysis.detection import RATES, detection_row, is_resolved
from scanner.analysis.evaluation import HARD_KIND, TEMPLATE_POOL, Evaluation
from scanner.analysis.query import connect
from scanner.analysis.truth import Truth, truths
from scanner.errors import ConfigError
from scanner.masks import from_heatmap, from_runs, mean_filtered, resize
from scanner.methods import registry
from scanner.results.folder import Results

Prepare = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def evaluate(
    results: Results,
    run: str,
    truth_path: str | Path,
    *,
    bootstrap: int = 500,
    seed: int = 0,
    smooth: int | None = None,
    shards: Collection[str] | None = None,
) -> Evaluation:
    """Compare a run with a truth.

    Args:
        results: The results folder.
        run: The run.
        truth_path: Parquet file as `truths` reads it.
        bootstrap: Draws over caption families behind each interval.
        seed: Seed of the draws.
        smooth: Side of the mean filter of ``smoothed``, odd, in pixels of the map; null takes the
            paper's 13 of 64, in proportion.
        shards: Identities of the shards whose rows count; all by default.

    Raises:
        ConfigError: If the truth cannot be read or says two things of one caption, has no caption
            of the run, or ``smooth`` is no side of a window.
        ResultsError: If the results cannot be read.
    """
    if smooth is not None and (smooth < 1 or smooth % 2 == 0):
        raise ConfigError(f"smooth must be odd and at least 1, got {smooth}: 13 is the paper's")
    with closing(connect(results, runs=[run], also=[truth_path], shards=shards)) as con:
        truth = truths(con, truth_path)
        names, table = captions(con, first_seed=True)
        known = {row[0]: row for row in table if row[0] in truth}
        if not known:
            raise ConfigError(
                f"there is nothing to evaluate: of the {len(table)} scored captions of run {run} "
                f"none is in the truth {truth_path}, which has {len(truth)}"
            )
        rejected = {row[0] for row in con.execute("SELECT caption_sha256 FROM rejects").fetchall()}
        missing = truth.keys() - known.keys()
        counts = {
            "captions_evaluated": len(known),
            "captions_without_truth": len(table) - len(known),
            "truth_captions_without_score_row": len(missing),
            "of_these_rejected": len(missing & rejected),
        }
        found = Evaluation(run, counts, notes=_not_installed(results, run))
        _measure_detection(
            found, names, [(truth[sha], row) for sha, row in known.items()], bootstrap, seed
        )
        _measure_localization(found, con, truth, partial(mean_filtered, side=smooth))
    if missing or counts["captions_without_truth"]:
        found.notes.append("captions of the results and of the truth differ: see the counts")
    return found


def _not_installed(results: Results, run: str) -> list[str]:
    """Return a note for each detector of a run whose distribution is not here."""
    asked = results.run_file(run).spec.get("detectors") or ()
    return [
        f"{name} is of no distribution that is installed here: it is read as suspicious where it "
        f"is high"
        for name in asked
        if name not in registry.detector_names()
    ]


def _sets_of_negatives(kinds: Sequence[str]) -> dict[str, set[str]]:
    """Return the sets of negatives that are looked at, by name."""
    every = set(kinds)
    sets = {"all": every}
    if HARD_KIND in every and len(every) > 1:
        sets[f"all but {HARD_KIND}"] = every - {HARD_KIND}
    return sets | {f"kind {kind}": {kind} for kind in sorted(every) if len(every) > 1}


def _measure_detection(
    found: Evaluation,
    names: list[str],
    pairs: list[tuple[Truth, tuple[Any, ...]]],
    bootstrap: int,
    seed: int,
) -> None:
    opponents = _sets_of_negatives([t.kind for t, _ in pairs if not t.memorized])
    for column, name in enumerate(names, 2):
        scored = [(t, row[column]) for t, row in pairs if _is_finite(row[column])]
        if not scored:
            continue
        if len(scored) < len(pairs):
            found.notes.append(
                f"{name} is there for {len(scored)} of {len(pairs)} captions: its rows are of these"
            )
        sign = registry.sign(name)
        if sign < 0:
            found.notes.append(f"{name} is suspicious where it is low, and is read that way")
        for against, kinds in opponents.items():
            pool = [(t, sign * s) for t, s in scored if t.memorized or t.kind in kinds]
            row = detection_row(
                np.array([s for _, s in pool], np.float64),
                np.array([t.memorized for t, _ in pool], bool),
                np.array([t.family for t, _ in pool], str),
                bootstrap,
                np.random.default_rng(seed),
            )
            found.detection.append({"score": name, "against": against, **row})
    found.notes += _unresolved(found.detection)
    _measure_flags(found, pairs, opponents)


def _measure_flags(
    found: Evaluation,
    pairs: list[tuple[Truth, tuple[Any, ...]]],
    opponents: Mapping[str, set[str]],
) -> None:
    """Add how often memorized captions and others were flagged, by set of negatives."""
    positives = sum(t.memorized for t, _ in pairs)
    if positives in (0, len(pairs)):
        kind = "negative" if positives else "memorized"
        found.notes.append(f"no {kind} caption was scored: detection measures do not exist")
    for against, kinds in opponents.items():
        flags = [(t.memorized, row[1]) for t, row in pairs if t.memorized or t.kind in kinds]
        if any(flag is not None for _, flag in flags):
            found.deployed.append({"against": against, **_flag_rates(flags)})


def _unresolved(rows: list[dict[str, Any]]) -> list[str]:
    """Return what true-positive rates are where there are too few negatives for their rate."""
    notes = []
    for name, rate in RATES.items():
        few = sorted({row["negatives"] for row in rows if not is_resolved(rate, row["negatives"])})
        if few:
            numbers = ", ".join(f"{number:,}" for number in few)
            notes.append(
                f"tpr@{name} needs {round(1 / rate):,} negatives; among fewer ({numbers}) it is "
                f"the TPR with no false positive among them"
            )
    return notes


def _flag_rates(flags: list[tuple[bool, bool | None]]) -> dict[str, float | int]:
    hits = [flag for memorized, flag in flags if memorized and flag is not None]
    alarms = [flag for memorized, flag in flags if not memorized and flag is not None]
    return {
        "positives": len(hits),
        "negatives": len(alarms),
        "tpr": sum(hits) / len(hits) if hits else math.nan,
        "fpr": sum(alarms) / len(alarms) if alarms else math.nan,
    }


def _measure_localization(
    found: Evaluation, con: duckdb.DuckDBPyConnection, truth: dict[str, Truth], smoothed: Prepare
) -> None:
    for metric, baseline in metrics(con):
        rows = maps_of(con, metric, baseline)
        known = [(truth[row[0]], *row[1:]) for row in rows if row[0] in truth]
        if len(known) < len(rows):
            found.notes.append(
                f"{len(rows) - len(known)} maps of {metric}/{baseline} have no truth: left out"
            )
        pools = {TEMPLATE_POOL: [k for k in known if k[0].kind == TEMPLATE_POOL], "all": known}
        for pool, members in pools.items():
            for method, measured in _overlaps(members, smoothed):
                names = {"pool": pool, "metric": metric, "baseline": baseline, "method": method}
                found.localization.append({**names, **asdict(measured)})
    if found.localization:
        found.notes.append(
            "oracle and smoothed use the best threshold and the scale of the very maps they are "
            "measured on; deployed uses the stored masks"
        )


def _overlaps(
    members: list[tuple[Any, ...]], smoothed: Prepare
) -> list[tuple[str, overlap.Overlap]]:
    if not members:
        return []
    maps = [from_heatmap(heat, height, width) for _, height, width, heat, _ in members]
    truths = regions([member[0] for member in members], maps)
    deployed = [
        (resize(from_runs(runs, height, width), *truth.shape), truth)
        for (_, height, width, _, runs), truth in zip(members, truths, strict=True)
        if runs is not None
    ]
    methods = [
        ("oracle", overlap.sweep(maps, truths, lambda values: values).best()),
        ("smoothed", overlap.sweep(maps, truths, smoothed).best()),
    ]
    if deployed:
        masks, met = zip(*deployed, strict=True)
        methods.append(("deployed", overlap.agreement(masks, met)))
    ones = [np.ones_like(truth) for truth in truths]
    return [*methods, ("all ones", overlap.agreement(ones, truths))]


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
