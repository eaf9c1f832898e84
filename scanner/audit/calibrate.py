"""A calibration from a run over captions that are not memorized."""

import math
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanner import tail
from scanner.audit.query import connect, model_of
from scanner.calibration import MASK_SHARE, Calibration, Screen, SnapBack
from scanner.errors import ConfigError
from scanner.io.results import Results
from scanner.masks import from_heatmap, mean_filtered, to_heatmap
from scanner.spec import ScanSpec

SNAPS = """
SELECT avg(CAST(snap_back AS DOUBLE)) AS s FROM scores
GROUP BY caption_sha256, image_sha256 HAVING s IS NOT NULL ORDER BY s
"""
NUM_CODES = 1 << 16
"""Bit patterns of a float16: a heatmap's pixels are counted by pattern, exactly, in little room."""

STEPS = """
WITH paths AS (
    SELECT caption_sha256, seed, any_value(increments) AS lengths FROM scores
    WHERE increments IS NOT NULL GROUP BY ALL
), steps AS (
    SELECT caption_sha256, seed, unnest(lengths) AS length,
           generate_subscripts(lengths, 1) AS step FROM paths
)
SELECT avg(length ORDER BY caption_sha256, seed), stddev_samp(length ORDER BY caption_sha256, seed)
FROM steps GROUP BY step HAVING count(*) > 1 ORDER BY step
"""
"""Mean and deviation of each of the sampler's steps, where the null run has them; summed in one
order, so that the same rows give the same calibration to the last bit."""


def calibrate(
    results: Results, run: str, *, pixel_fpr: float = 0.01, with_tail: bool = True
) -> Calibration:
    """Fit a calibration on a run whose captions are all taken as not memorized.

    Where the run has ``increment``, the lengths of the sampler's steps get means and deviations.
    A caption's score is its mean delta_s over seeds; where there are several seeds, each one's own
    null scores are kept too. Where images are scored, a caption with two images is two, and means
    of snap_back are kept beside. A pixel threshold is the value that a share
    ``pixel_fpr`` of all pixels of all smoothed maps of that metric and baseline exceeds, or the
    next higher value that occurs.

    Args:
        results: The results folder.
        run: The run over the null captions.
        pixel_fpr: Share of null pixels that may lie in a mask, 0 to 1.
        with_tail: Whether to model p-values below ``1 / (n + 1)``, if the scores bear it.

    Raises:
        ConfigError: If the run has no scores, or not one for every caption, or a map with
            values that are not finite.
    """
    if not 0 < pixel_fpr < 1:
        raise ConfigError(f"pixel_fpr must lie between 0 and 1, got {pixel_fpr}")
    record = results.read_run(run)
    model, spec = _model(record, run), _spec(record, run)
    with closing(connect(results, runs=[run])) as con:
        scores = con.execute(
            "SELECT avg(delta_s) AS s FROM scores GROUP BY caption_sha256, image_sha256 ORDER BY s"
        ).fetchall()
        unscored = sum(s is None for (s,) in scores)
        if not scores or unscored:
            raise ConfigError(
                f"every null caption must have a delta_s: run {run} has {len(scores)} captions, "
                f"{unscored} of them without; calibrate on a scan without a screen"
            )
        by_seed = con.execute(
            "SELECT seed, list(s ORDER BY s) FROM (SELECT seed, caption_sha256, image_sha256, "
            "any_value(delta_s) AS s FROM scores GROUP BY ALL) GROUP BY seed ORDER BY seed"
        ).fetchall()
        snaps = con.execute(SNAPS).fetchall() if spec.source == "image" else []
        increments = con.execute(STEPS).fetchall()
        thresholds = {}
        for metric, baseline in con.execute(
            "SELECT DISTINCT metric, baseline FROM masks ORDER BY ALL"
        ).fetchall():
            maps = con.execute(
                "SELECT any_value(heatmap), any_value(height), any_value(width) FROM masks "
                "WHERE metric = $1 AND baseline = $2 GROUP BY caption_sha256, image_sha256, seed",
                [metric, baseline],
            )
            rows = iter(maps.fetchone, None)
            thresholds[f"{metric}/{baseline}"] = pixel_threshold(rows, pixel_fpr)
    null_scores = tuple(float(s) for (s,) in scores)
    fitted, note = tail.fit(null_scores) if with_tail else (None, "none was asked for")
    return Calibration(
        model=model,
        score_fingerprint=spec.score_fingerprint(),
        null_scores=null_scores,
        pixel_thresholds=thresholds,
        pixel_fpr=pixel_fpr,
        captions=len(scores),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed_scores={seed: tuple(own) for seed, own in by_seed} if len(by_seed) > 1 else {},
        tail=fitted,
        tail_note=note,
        settings=spec.score_settings(),
        mask_share=MASK_SHARE,
        increments=tuple((float(mean), float(deviation)) for mean, deviation in increments),
        snap_back=_snap_back(tuple(float(s) for (s,) in snaps), with_tail=with_tail),
    )


def _snap_back(scores: tuple[float, ...], *, with_tail: bool) -> SnapBack | None:
    return SnapBack(scores, tail.fit(scores)[0] if with_tail else None) if scores else None


def screen(results: Results, positive_run: str, null_run: str, recall: float) -> Screen:
    """Fit where captions can be dropped after the first step.

    Of m memorized captions the k-th smallest norm is taken, ``k = floor((1 - recall)(m + 1))``: a
    further one, exchangeable with them, is below it with a chance of at most ``k / (m + 1)``.

    Args:
        results: The results folder.
        positive_run: A run over memorized captions, all of them screened.
        null_run: A run over null captions with ``wen_first``.
        recall: Share of memorized captions to keep, 0 to 1.

    Raises:
        ConfigError: If the recall is out of range, or there are too few positives to promise it.
    """
    if not 0 < recall < 1:
        raise ConfigError(f"recall must lie between 0 and 1, got {recall}")
    norms = _means(results, positive_run, "screen")
    allowed = math.floor((1 - recall) * (len(norms) + 1) + 1e-9)
    if allowed < 1:
        raise ConfigError(
            f"{len(norms)} positives can promise a recall of {len(norms) / (len(norms) + 1):.3g} "
            f"at most; {recall:g} needs {math.ceil(1 / (1 - recall) - 1e-9) - 1} or more"
        )
    threshold = norms[allowed - 1]
    nulls = _means(results, null_run, "wen_first")
    passing = sum(norm >= threshold for norm in nulls) / max(1, len(nulls))
    return Screen(threshold, recall, len(norms), passing)


def _means(results: Results, run: str, column: str) -> list[float]:
    """Return every caption's mean over its seeds, ascending."""
    with closing(connect(results, runs=[run])) as con:
        rows = con.execute(
            f"SELECT avg(CAST({column} AS DOUBLE)) AS s FROM scores GROUP BY caption_sha256 "  # noqa: S608
            "HAVING s IS NOT NULL ORDER BY s"
        ).fetchall()
    return [float(s) for (s,) in rows]


def pixel_threshold(maps: Iterable[tuple[bytes, int, int]], pixel_fpr: float) -> float:
    """Return the value that at most a share of the pixels of smoothed null maps exceed.

    Args:
        maps: Heatmap, height and width of each, as `scanner.records.MaskRow` has them.
        pixel_fpr: That share.

    Raises:
        ConfigError: If pixels are not finite.
    """
    counts = np.zeros(NUM_CODES, np.int64)
    for row in maps:
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are none are refused
            smooth = to_heatmap(mean_filtered(from_heatmap(*row)))
        counts += np.bincount(np.frombuffer(smooth, "<u2"), minlength=NUM_CODES)
    return exceeded_by(counts, pixel_fpr)


def exceeded_by(counts: NDArray[np.int64], share: float) -> float:
    """Return the smallest value that at most ``share`` of the counted heatmap pixels exceed.

    Args:
        counts: How many pixels have each float16 bit pattern, ``(65536,)``.
        share: 0 to 1.

    Returns:
        The value in score units.

    Raises:
        ConfigError: If pixels are not finite.
    """
    logs = np.arange(NUM_CODES, dtype="<u2").view("<f2").astype(np.float64)
    if counts[~np.isfinite(logs)].any():
        raise ConfigError("null maps must be finite; these are not: verify the results")
    order = np.argsort(np.where(np.isfinite(logs), logs, np.inf), kind="stable")
    above = counts.sum() - np.cumsum(counts[order])
    within = (above <= share * counts.sum()) & (counts[order] > 0)
    log = logs[order][int(np.argmax(within))]
    return float(np.sign(log) * np.expm1(np.abs(log)))


def _model(record: dict[str, Any], run: str) -> str:
    model = model_of(record)
    if model is None:
        raise ConfigError(f"the record of run {run} names no model; scan again")
    return model


def _spec(record: dict[str, Any], run: str) -> ScanSpec:
    settings = record.get("spec")
    if not isinstance(settings, dict):
        raise ConfigError(f"the record of run {run} has no spec; scan again")
    try:
        return ScanSpec(**{**settings, "seeds": tuple(settings.get("seeds", (0,)))})
    except TypeError as error:
        raise ConfigError(f"the spec of run {run} is of another version: {error}") from error
