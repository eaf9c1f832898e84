"""A calibration from a run over captions that are not memorized."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.analysis.query import connect
from scanner.errors import ConfigError
from scanner.masks import LEVEL, from_heatmap, mean_filtered, to_heatmap
from scanner.methods import registry
from scanner.results.folder import Results
from scanner.results.run_file import RunFile
from scanner.spec import CONSENSUS, CONSENSUS_OF, MASK_FLOORS, PIXEL_FPR, ScanSpec
from scanner.statistics.calibration import MASK_SHARE, Calibration, NullScores, Screen, SnapBack
from scanner.statistics.consensus import Consensus
from scanner.statistics.families import families
from scanner.statistics.intervals import allowed, needed, positives_needed, recall_bound
from scanner.statistics.kinds import Kinds
from scanner.statistics.novelty import NullWords

NULLS = """
WITH draws AS (
    SELECT caption_sha256, image_sha256, seed, any_value({score}) AS s FROM scores GROUP BY ALL
), seeds AS (
    SELECT caption_sha256, image_sha256, list(seed ORDER BY seed) AS seeds,
           list(s ORDER BY seed) AS own
    FROM draws GROUP BY ALL
)
SELECT caption_sha256, max(caption), avg({score}), any_value(seeds), any_value(own), {snap_back}
FROM scores JOIN seeds USING (caption_sha256)
WHERE scores.image_sha256 IS NOT DISTINCT FROM seeds.image_sha256
GROUP BY caption_sha256, scores.image_sha256 ORDER BY caption_sha256, scores.image_sha256
{limit}
"""
NUM_CODES = 1 << 16
"""Number of float16 codes: pixels of heatmaps are counted in an exact histogram over them."""

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


@dataclass(frozen=True, slots=True)
class _Null:
    """A null caption, beside one image where images are scored.

    Attributes:
        sha256: Hash of the caption.
        caption: Its text.
        score: Mean score over seeds, high where it is suspicious; null where it was not scored.
        seeds: Its seeds, ascending.
        by_seed: The score under each of them.
        snap_back: Mean snap_back over seeds, in bits; null where no image was scored.
    """

    sha256: str
    caption: str
    score: float
    seeds: list[int]
    by_seed: list[float]
    snap_back: float | None


def fit(
    results: Results, run: str, *, pixel_fpr: float = PIXEL_FPR,
    mask_floor: str = "pooled", one_per_family: bool = False,
    shards: Collection[str] | None = None, others: Sequence[str] = (),
    without: Collection[str] = (), most: int | None = None, with_kinds: bool = True,
) -> Calibration:  # fmt: skip
    """Fit a calibration on a run whose captions are all taken as not memorized.

    Where the run has ``increment``, the lengths of the sampler's steps get means and deviations.
    A caption's score is its mean delta_s over seeds; where there are several seeds, each one's own
    null scores are kept too. Where images are scored, a caption with two images is two, and means
    of snap_back are kept beside. Near-identical captions are counted as families, or one of each
    is kept: the one with the smallest hash, whatever its score is.

    A pixel threshold is the value that a share ``pixel_fpr`` of all pixels of all smoothed maps of
    that metric and baseline exceeds, or the next higher value that occurs.

    Args:
        results: The results folder.
        run: The run over the null captions.
        pixel_fpr: Share of null pixels that may lie in a mask, 0 to 1.
        mask_floor: Of `scanner.spec.MASK_FLOORS`. ``typical`` takes the median of the null maps'
            own levels instead, which few null maps cannot set.
        one_per_family: Whether scores are of one caption per family of near-identical ones.
        shards: Identities of the shards whose captions count; null for all that the run has.
        others: Scores beside delta_s whose null scores are kept too: columns of the run.
        without: Hashes of captions that do not count, though their maps do.
        most: How many captions count at most: those with the smallest hashes.
        with_kinds: Whether the null captions are divided into kinds.

    Raises:
        ConfigError: If the run has no scores, or not one for every caption, or a map with
            values that are not finite.
    """
    if not 0 < pixel_fpr < 1:
        raise ConfigError(f"pixel_fpr must lie between 0 and 1, got {pixel_fpr}")
    if mask_floor not in MASK_FLOORS:
        raise ConfigError(f"mask_floor must be one of {', '.join(MASK_FLOORS)}, got {mask_floor!r}")
    record = results.run_file(run)
    model, spec = model_of(record, run), spec_of(record, run)
    with closing(connect(results, runs=[run], shards=shards)) as con:
        at_images = spec.source == "image"
        limit = None if most is None else most + len(without)
        nulls = _null_scores(con, run, at_images=at_images, most=limit)
        kept: Sequence[int] = [i for i, null in enumerate(nulls) if null.sha256 not in without]
        kept = kept[:most]
        captions, number = len(kept), None
        if spec.captions:
            leaders = sorted(set(families([nulls[place].caption for place in kept])))
            number = len(leaders)
            kept = [kept[place] for place in leaders] if one_per_family else kept
        nulls = [nulls[place] for place in kept]
        beside = dict[str, NullScores]()
        known, consensus = {"delta_s": nulls}, None
        for name in (name for name in others if name != CONSENSUS):
            own = _null_scores(con, run, at_images=at_images, score=name, most=limit)
            known[name] = own = [own[place] for place in kept]
            beside[name] = NullScores(tuple(sorted(n.score for n in own)), _by_seed(own))
        if CONSENSUS in others:
            consensus, own = _consensus(known)
            known[CONSENSUS] = own
            beside[CONSENSUS] = NullScores(tuple(sorted(n.score for n in own)), _by_seed(own))
        increments = con.execute(STEPS).fetchall()
        floor = typical_level if mask_floor == "typical" else partial(
            pixel_threshold, pixel_fpr=pixel_fpr
        )  # fmt: skip
        thresholds = _pixel_thresholds(con, floor)
    snaps = [null.snap_back for null in nulls if null.snap_back is not None]
    return Calibration(
        model=model,
        score_fingerprint=spec.score_fingerprint(),
        null_scores=tuple(sorted(null.score for null in nulls)),
        pixel_thresholds=thresholds,
        pixel_fpr=pixel_fpr,
        captions=captions,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed_scores=_by_seed(nulls),
        settings=spec.score_settings(),
        mask_share=MASK_SHARE,
        increments=tuple((float(mean), float(deviation)) for mean, deviation in increments),
        snap_back=SnapBack(tuple(sorted(snaps))) if spec.source == "image" and snaps else None,
        families=number,
        others=beside,
        consensus=consensus,
        words=NullWords.of([null.caption for null in nulls]) if spec.captions else None,
        kinds=_kinds(known) if spec.captions and with_kinds else {},
    )


def _kinds(by_score: Mapping[str, Sequence[_Null]]) -> dict[str, Kinds]:
    """Return the kinds of null captions by score."""
    return {
        name: Kinds.of([null.caption for null in nulls], [null.score for null in nulls])
        for name, nulls in by_score.items()
    }


def _pixel_thresholds(
    con: duckdb.DuckDBPyConnection, floor: Callable[[Iterable[tuple[bytes, int, int]]], float]
) -> dict[str, float]:
    """Return the floor of each metric and baseline that there are maps of."""
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
        thresholds[f"{metric}/{baseline}"] = floor(rows)
    return thresholds


def _null_scores(
    con: duckdb.DuckDBPyConnection, run: str, *, at_images: bool, score: str = "delta_s",
    most: int | None = None,
) -> list[_Null]:  # fmt: skip
    """Return the null captions in the order of their hashes, the first of them or all.

    Raises:
        ConfigError: If there are none, or one of them has no such score.
    """
    column = f"{registry.sign(score)} * " + '"' + score.replace('"', '""') + '"'
    snap_back = "avg(CAST(snap_back AS DOUBLE))" if at_images else "NULL"
    limit = "" if most is None else f"LIMIT {most}"
    rows = con.execute(NULLS.format(snap_back=snap_back, score=column, limit=limit)).fetchall()
    nulls = [_Null(*row) for row in rows]
    unscored = sum(null.score is None for null in nulls)
    if not nulls or unscored:
        raise ConfigError(
            f"every null caption must have a {score}: run {run} has {len(nulls)} captions, "
            f"{unscored} of them without; calibrate on a scan without a screen"
        )
    return nulls


def _consensus(known: Mapping[str, Sequence[_Null]]) -> tuple[Consensus, list[_Null]]:
    """Return the scales of a consensus, and the null captions with theirs.

    Args:
        known: From each of `CONSENSUS_OF` to the null captions, in one order.
    """
    members = [known[name] for name in CONSENSUS_OF]
    scales = Consensus.of({n: [null.score for null in known[n]] for n in CONSENSUS_OF})
    found = list[_Null]()
    for each in zip(*members, strict=True):
        own = zip(CONSENSUS_OF, (null.by_seed for null in each), strict=True)
        by_seed = scales.each(dict(own))
        found.append(replace(each[0], score=float(np.mean(by_seed)), by_seed=by_seed))
    return scales, found


def _by_seed(nulls: Sequence[_Null]) -> dict[int, tuple[float, ...]]:
    """Return each seed's null scores, ascending; nothing where there is one seed."""
    scores = defaultdict[int, list[float]](list)
    for null in nulls:
        for seed, score in zip(null.seeds, null.by_seed, strict=True):
            scores[seed].append(score)
    if len(scores) < 2:
        return {}
    return {seed: tuple(sorted(own)) for seed, own in sorted(scores.items())}


def screen(
    results: Results, positive_run: str, null_run: str, recall: float, *,
    positives: Collection[str] | None = None, nulls: Collection[str] | None = None,
) -> Screen:  # fmt: skip
    """Fit where captions can be dropped after the first step.

    The threshold is the highest positive's norm at which the recall is at least ``recall`` with
    95% confidence: a tolerance bound from order statistics (Wilks 1941). Where too few positives
    show that, it is the least norm, and `Screen.bound` says what they do show.

    Args:
        results: The results folder.
        positive_run: A run over memorized captions, all of them screened.
        null_run: A run over null captions with ``wen_first``.
        recall: Share of memorized captions to keep, 0 to 1.
        positives: Identities of the shards whose memorized captions count; null for all.
        nulls: The same of the null captions.

    Raises:
        ConfigError: If the recall is out of range, or so few positives do not even have it on
            average.
    """
    if not 0 < recall < 1:
        raise ConfigError(f"recall must lie between 0 and 1, got {recall}")
    captions, norms = _means(results, positive_run, "screen", positives)
    if allowed(1 - recall, len(norms)) < 1:
        raise ConfigError(
            f"{len(norms)} positives keep {len(norms) / (len(norms) + 1):.3g} of memorized "
            f"captions on average, at most; {recall:g} needs {needed(1 - recall)} positives for "
            f"that, and {positives_needed(recall)} to have it with 95% confidence"
        )
    order = np.argsort(norms, kind="stable")
    dropped = _dropped(recall, len(norms))
    threshold = norms[order[dropped]]
    _, null_norms = _means(results, null_run, "wen_first", nulls)
    return Screen(
        threshold=threshold,
        recall=recall,
        positives=len(norms),
        passing=sum(norm >= threshold for norm in null_norms) / max(1, len(null_norms)),
        dropped=sum(norm < threshold for norm in norms),
        families=len(set(families(captions))),
    )


def _dropped(recall: float, positives: int) -> int:
    """Return how many positives may lie below the threshold; 0 if none may."""
    numbers = range(1, positives)
    return bisect_left(numbers, True, key=lambda n: recall_bound(positives, n) < recall)


def _means(
    results: Results, run: str, column: str, shards: Collection[str] | None
) -> tuple[list[str], list[float]]:
    """Return every caption and its mean over its seeds, in the order of the captions' hashes."""
    with closing(connect(results, runs=[run], shards=shards)) as con:
        rows = con.execute(
            f"SELECT max(caption), avg(CAST({column} AS DOUBLE)) AS s FROM scores "  # noqa: S608
            "GROUP BY caption_sha256 HAVING s IS NOT NULL ORDER BY caption_sha256"
        ).fetchall()
    return [str(caption) for caption, _ in rows], [float(s) for _, s in rows]


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
        with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are refused
            smooth = to_heatmap(mean_filtered(from_heatmap(*row)))
        counts += np.bincount(np.frombuffer(smooth, "<u2"), minlength=NUM_CODES)
    return exceeded_by(counts, pixel_fpr)


def typical_level(maps: Iterable[tuple[bytes, int, int]]) -> float:
    """Return the median over null maps of a map's own level, as `scanner.masks.region` has it.

    Args:
        maps: Heatmap, height and width of each, as `scanner.records.MaskRow` has them.

    Raises:
        ConfigError: If pixels are not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite numbers are refused
        levels = [float(np.quantile(mean_filtered(from_heatmap(*row)), LEVEL)) for row in maps]
    if not np.isfinite(levels).all():
        raise ConfigError("null maps must be finite; these are not: verify the results")
    return float(np.median(levels))


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


def model_of(record: RunFile, run: str) -> str:
    """Return the fingerprint of the model of a run.

    Raises:
        ConfigError: If the record has none.
    """
    if record.model is None:
        raise ConfigError(f"the record of run {run} names no model; scan again")
    return record.model


def spec_of(record: RunFile, run: str) -> ScanSpec:
    """Return the settings of a run.

    Raises:
        ConfigError: If the record has none, or another version's.
    """
    settings = record.spec
    if not settings:
        raise ConfigError(f"the record of run {run} has no spec; scan again")
    try:
        return ScanSpec(**{**settings, "seeds": tuple(settings.get("seeds", (0,)))})
    except TypeError as error:
        raise ConfigError(f"the spec of run {run} is of another version: {error}") from error
