"""Null distributions: p-values, and thresholds for scores and pixels.

A p-value is conformal: it is at most ``a`` with probability at most ``a``, for any distribution of
the scores, if the caption is exchangeable with the n null captions. That is an average over
calibrations, not a statement about the one at hand. There is no p-value below ``1 / (n + 1)``.

Where images are scored, two p-values are taken, of Δs and of the snap-back, and the larger one is
the sample's (an intersection-union test). It is valid for an image beside a memorized caption only
if such an image has no more snap-back than null images have: docs/decisions/0014.
"""

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from scanner import files
from scanner.errors import ConfigError
from scanner.parsing import from_json
from scanner.spec import ScanSpec
from scanner.statistics import contamination
from scanner.statistics.consensus import Consensus
from scanner.statistics.contamination import CorpusNulls
from scanner.statistics.intervals import recall_bound
from scanner.statistics.kinds import Kinds
from scanner.statistics.novelty import NullWords

SCHEMA_VERSION = 3
"""2 had no share for masks, 1 no scores by seed and no settings; both are still read. Files may
have a ``tail`` from before docs/decisions/0015: it is ignored."""
MASK_SHARE = 0.3
"""Chosen on planted captions: docs/calibration.md."""
_NOT_DECIDING = {
    "created", "captions", "settings", "screen", "families", "tail_fingerprint", "words", "kinds",
}  # fmt: skip
"""Fields that change no verdict of a scan, but for kinds where a scan asks for them; the threshold
of a screen is in the scan's own spec."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Threshold below which captions are dropped after the first step, and its recall.

    Attributes:
        threshold: Captions whose first step's norm, mean over seeds, is below this are dropped.
        recall: What was asked for.
        positives: How many memorized captions it was fitted on.
        passing: Share of the null captions that are not dropped.
        dropped: How many of the positives are below the threshold.
        families: Families of near-identical captions among the positives; null in old files.
    """

    threshold: float
    recall: float
    positives: int
    passing: float
    dropped: int
    families: int | None = None

    @property
    def expected(self) -> float:
        """Chance that a further memorized caption is kept, on average over sets of positives."""
        return 1 - (1 + self.dropped) / (1 + self.positives)

    @property
    def bound(self) -> float:
        """The recall that this threshold has at least, with 95% confidence.

        Both hold if memorized captions are exchangeable with the positives and independent.
        """
        return recall_bound(self.positives, self.dropped)


@dataclass(frozen=True, slots=True)
class SnapBack:
    """Denoising gains of images that are not memorized, over the baseline.

    Attributes:
        null_scores: Each null sample's mean snap_back over its seeds, in bits, ascending.
    """

    null_scores: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be scores.

        Raises:
            ConfigError: If they are not ascending and finite.
        """
        _check_scores(self.null_scores)

    def p_value(self, score: float) -> float:
        """Return the p-value of a sample, as `Calibration.p_value` does."""
        return _conformal(self.null_scores, score)

    def threshold(self, fpr: float) -> float:
        """Return the bits above which the p-value is at most ``fpr``, and only there."""
        return _threshold(self.null_scores, fpr)


@dataclass(frozen=True, slots=True)
class NullScores:
    """Null scores of a score other than Δs, high where it is suspicious.

    Attributes:
        null_scores: Each null caption's mean over its seeds, ascending; of a score whose low
            values are suspicious, times -1.
        seed_scores: By seed, as `Calibration.seed_scores`.
    """

    null_scores: tuple[float, ...]
    seed_scores: dict[int, tuple[float, ...]]

    def __post_init__(self) -> None:
        """Refuse what cannot be scores.

        Raises:
            ConfigError: If they are not ascending and finite.
        """
        for scores in (self.null_scores, *self.seed_scores.values()):
            _check_scores(scores)


@dataclass(frozen=True)
class Calibration:
    """Scores of captions that are not memorized, and what follows from them.

    Attributes:
        model: Fingerprint of the model the scores come from.
        score_fingerprint: `ScanSpec.score_fingerprint` of the run the scores come from.
        null_scores: Each null caption's mean delta_s over its seeds, ascending.
        pixel_thresholds: From ``metric/baseline`` to the value that a share ``pixel_fpr`` of all
            null pixels exceeds.
        pixel_fpr: That share.
        captions: How many null captions there were; more than null scores where one caption per
            family was kept.
        created: When it was fitted, ISO 8601.
        seed_scores: By seed, each null caption's delta_s under that seed alone, ascending; empty
            where there is one seed, whose scores are the null scores.
        settings: What ``score_fingerprint`` is the digest of; empty in old files.
        mask_share: Share of a map's own level that a pixel of its mask exceeds, as in
            `masks.region`. 0 in old files: there the pixel threshold decides alone, and null
            maps and masks are not smoothed.
        increments: Mean and standard deviation of the length of each of the sampler's steps over
            null captions and seeds; empty where the null run had no ``increment``.
        screen: Where to drop captions after the first step, or null.
        snap_back: Null distribution of the snap-back, where images are scored; null elsewhere
            and in old files, where Δs decides alone.
        families: Families of near-identical captions among the null captions; null in old files
            and where images are scored without captions.
        others: Null scores by score, of those that were asked for beside Δs: a detector, or
            ``delta_s_NAME`` of a baseline.
        consensus: Scales of the scores that agree, where they were asked for; null elsewhere.
        tail_fingerprint: Of an old file with a tail model, which is ignored: the fingerprint under
            which runs used it. Else empty.
        corpus: Where the null scores are of a corpus, of which a share may be memorized:
            `scanner.statistics.contamination`. Null where captions were given as nulls.
        words: Words of the null captions, which say what captions are unlike them; null in old
            files and where there are no captions.
        kinds: Kinds of null captions by score, for p-values among captions of one kind; empty in
            old files and where there are no captions.
    """

    model: str
    score_fingerprint: str
    null_scores: tuple[float, ...]
    pixel_thresholds: dict[str, float]
    pixel_fpr: float
    captions: int
    created: str
    seed_scores: dict[int, tuple[float, ...]] = field(default_factory=dict[int, tuple[float, ...]])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    mask_share: float = 0.0
    increments: tuple[tuple[float, float], ...] = ()
    screen: Screen | None = None
    snap_back: SnapBack | None = None
    families: int | None = None
    others: dict[str, NullScores] = field(default_factory=dict[str, NullScores])
    consensus: Consensus | None = None
    tail_fingerprint: str = ""
    corpus: CorpusNulls | None = None
    words: NullWords | None = None
    kinds: dict[str, Kinds] = field(default_factory=dict[str, Kinds])

    def __post_init__(self) -> None:
        """Refuse what cannot be a calibration.

        Raises:
            ConfigError: If the scores are not ascending and finite, or a rate is out of range.
        """
        for scores in (self.null_scores, *self.seed_scores.values()):
            _check_scores(scores)
        if not all(map(math.isfinite, self.pixel_thresholds.values())):
            raise ConfigError(f"pixel_thresholds must be finite, got {self.pixel_thresholds}")
        if not 0 < self.pixel_fpr < 1:
            raise ConfigError(f"pixel_fpr must lie between 0 and 1, got {self.pixel_fpr}")
        if not 0 <= self.mask_share < 1:
            raise ConfigError(f"mask_share must lie between 0 and 1, got {self.mask_share}")
        if not all(math.isfinite(m) and math.isfinite(d) and d >= 0 for m, d in self.increments):
            raise ConfigError("increments must be finite means and deviations of at least 0")

    def of_score(self, name: str) -> "Calibration":
        """Return this calibration with the null scores of another score in the place of Δs's.

        Args:
            name: ``delta_s``, or one of ``others``.

        Raises:
            ConfigError: If it has none of that name.
        """
        if name == "delta_s":
            return self
        if name not in self.others:
            known = ", ".join(("delta_s", *self.others))
            raise ConfigError(
                f"the calibration has no null scores of {name}, by which is to be flagged (it has "
                f"{known}): calibrate with --flag-by {name}"
            )
        own = self.others[name]
        return replace(self, null_scores=own.null_scores, seed_scores=own.seed_scores, others={})

    @property
    def min_p(self) -> float:
        """The smallest p-value of so many null captions: ``1 / (1 + n)``."""
        return 1 / (1 + len(self.null_scores))

    @property
    def independent(self) -> int:
        """Number of independent null scores: one per family, where families are known."""
        return min(len(self.null_scores), self.families or len(self.null_scores))

    @property
    def nulls(self) -> str:
        """What the null scores are of, in words, where that is a corpus; else empty."""
        return "" if self.corpus is None else str(self.corpus)

    @property
    def has_floor(self) -> bool:
        """Whether masks have a floor from null maps; a corpus of which few have maps has none."""
        return self.corpus is None or bool(self.pixel_thresholds)

    def fingerprint(self, p_values: str = "all") -> str:
        """Twelve hex digits of everything that decides a number; the date does not.

        Args:
            p_values: What p-values are taken among, of `scanner.spec.P_VALUES`.
        """
        own = self.digest(None, None)
        if p_values == "all":
            return own
        kinds = {name: asdict(each) for name, each in sorted(self.kinds.items())}
        words = None if self.words is None else asdict(self.words)
        canonical = json.dumps([own, kinds, words], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def named(self, fingerprint: str) -> bool:
        """Whether a run with this fingerprint was scanned with this calibration."""
        known = (self.fingerprint(), self.tail_fingerprint, self.fingerprint("kind"))
        return bool(fingerprint) and fingerprint in known

    def digest(self, tail: object, snap_back_tail: object) -> str:
        """Return the fingerprint that the file has or had with these tails."""
        decided = {k: v for k, v in asdict(self).items() if k not in _NOT_DECIDING}
        decided["tail"] = tail
        if self.snap_back is not None:
            decided["snap_back"]["tail"] = snap_back_tail
        decided["corpus"] = None if self.corpus is None else self.corpus.deciding()
        for name in ("seed_scores", "tail", "mask_share", "increments", "snap_back", "others",
                     "corpus", "consensus"):  # fmt: skip
            if not decided[name]:  # so that old files keep their names
                del decided[name]
        canonical = json.dumps(decided, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def p_value(self, score: float, snap_back: float | None = None) -> float:
        """Return the conformal p-value ``(1 + #{null >= score}) / (1 + n)``.

        With a snap-back that is calibrated, the larger one of both p-values.

        If the caption is exchangeable with the null captions, it is at most ``a`` with
        probability at most ``a``, whatever the distribution of the scores, on average over
        calibrations; `scanner.statistics.intervals.realized` says how far one calibration may be
        off.

        Raises:
            ValueError: If the score is not a number.
        """
        p_value = _conformal(self.null_scores, score)
        if self.snap_back is None or snap_back is None:
            return p_value
        return max(p_value, self.snap_back.p_value(snap_back))

    def kind_p_value(
        self, score: str, value: float, text: str, snap_back: float | None = None
    ) -> tuple[float, str]:
        """Return the p-value among null captions of the caption's kind, and where it comes from.

        That is ``kind``, or ``unlike`` (then 1) of a caption that is more unlike the null captions
        than each of them. With a snap-back that is calibrated, the larger one of both p-values.

        Args:
            score: The score's name; this is `of_score` of it.
            value: The caption's score.
            text: The caption.
            snap_back: As `p_value` takes it.

        Raises:
            ValueError: If the score is not a number.
        """
        if self.words is None or self.words.is_new(text):
            return 1.0, "unlike"
        p_value = self.kinds[score].p_value(self.null_scores, value, text)
        if self.snap_back is not None and snap_back is not None:
            p_value = max(p_value, self.snap_back.p_value(snap_back))
        return p_value, "kind"

    def check_kinds(self, score: str) -> None:
        """Refuse p-values among captions of one kind where kinds are not known, or mixed.

        Raises:
            ConfigError: If so.
        """
        if self.corpus is not None:
            raise ConfigError(
                "--p-values kind is among captions that are not memorized: calibrate on such, not "
                "on a corpus of which a share may be"
            )
        if self.words is None or score not in self.kinds:
            raise ConfigError(
                "the calibration has no kinds of captions, which --p-values kind needs: calibrate "
                "again"
            )

    def seed_p_value(self, seed: int, score: float) -> float:
        """Return the conformal p-value of one seed's score among null scores under that seed.

        It is of that seed alone. The least of several seeds' is no p-value of the caption.

        Raises:
            ValueError: If the score is not a number, or the seed has no null scores.
        """
        scores = self.seed_scores.get(seed) if self.seed_scores else self.null_scores
        if scores is None:
            raise ValueError(f"seed {seed} must be among {sorted(self.seed_scores)}")
        return _conformal(scores, score)

    def increment_z(self, lengths: Sequence[float]) -> float:
        """Return how far the most unusual of a trajectory's steps lies from its null mean.

        Broken Memories (Huang et al., KDD 2026): ``max over k of |length_k - mean_k| / std_k``,
        in standard deviations of the null trajectories. Steps that do not vary are passed over.

        Args:
            lengths: Of each of the sampler's steps, in latents.

        Raises:
            ValueError: If there are not as many steps as were calibrated.
        """
        if len(lengths) != len(self.increments):
            raise ValueError(f"steps must be {len(self.increments)}, got {len(lengths)}")
        apart = [
            abs(length - mean) / deviation
            for length, (mean, deviation) in zip(lengths, self.increments, strict=True)
            if deviation > 0
        ]
        return max(apart, default=0.0)

    def threshold(self, fpr: float) -> float:
        """Return the score above which the p-value is at most ``fpr``, and only there.

        ``score > threshold(fpr)`` and ``p_value(score) <= fpr`` say the same (of an image, if its
        snap-back is above `SnapBack.threshold` too). Infinite where
        even the highest score is not significant: where ``fpr < min_p``.

        Example:
            >>> c = Calibration("m", "s", (1.0, 2.0, 3.0), {}, 0.01, 3, "")
            >>> c.threshold(0.25), c.threshold(0.5), c.threshold(0.2)
            (3.0, 2.0, inf)
        """
        return _threshold(self.null_scores, fpr)

    def check(self, model: str, spec: ScanSpec) -> None:
        """Refuse a model or a spec whose scores are not comparable with the null scores.

        Raises:
            ConfigError: If one of them differs, naming it.
        """
        if model != self.model:
            raise ConfigError(
                f"the calibration must be of the model that is scanned: it is of {self.model}, "
                f"the scan is of {model}; run calibrate with this model"
            )
        if spec.score_fingerprint() == self.score_fingerprint:
            return
        asked = spec.score_settings()
        source = str(self.settings.get("source", "generated"))
        if self.settings and source != spec.source:
            raise ConfigError(
                f"the calibration must be of the scan's source: source (calibration {source}, scan "
                f"{spec.source}); calibrate with the scan's, or scan with the calibration's"
            )
        usual = {"captions": True, "target_error": None} if self.settings else {}
        own = usual | self.settings
        differing = [
            f"{name} (calibration {_shown(own[name])}, scan {_shown(value)})"
            for name, value in (usual | asked).items()
            if name in own and own[name] != value
        ]
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in asked.items())
        raise ConfigError(
            "the calibration must be made with the scan's settings; "
            + (f"different: {', '.join(differing)}" if differing else f"the scan's: {settings}")
            + "; calibrate with the scan's, or scan with the calibration's"
        )

    @staticmethod
    def load(path: str | Path) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            ConfigError: If there is no such file, or it is not a calibration.
        """
        return load(path)

    def save(self, path: str | Path) -> None:
        """Write it as JSON; `load` returns an equal one.

        Raises:
            OutputError: If it cannot be written; a calibration that was there is as it was.
        """
        content = {"schema_version": SCHEMA_VERSION, "conformal_from": self.min_p, **asdict(self)}
        content |= {"nulls": self.nulls} if self.corpus is not None else {}
        files.write(path, json.dumps(content, indent=1) + "\n")


def benjamini_hochberg(p_values: NDArray[np.float64], q: float) -> float:
    """Return the largest p-value that Benjamini and Hochberg reject at rate ``q``.

    It is the largest sorted ``p[k]`` (k from 1) with ``p[k] <= k q / n``, so never above ``q``.
    Among the captions up to it, the expected share of false ones is at most ``q`` if the p-values
    are independent or positively dependent, as conformal p-values of independent captions against
    one calibration set are (Bates et al. 2023); on average over calibration sets.

    Returns:
        The cut-off; -1 if nothing is rejected.

    Raises:
        ValueError: If ``q`` is not between 0 and 1.

    Example:
        >>> benjamini_hochberg(np.array([0.001, 0.02, 0.03, 0.9]), 0.05)
        0.03
    """
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, got {q}")
    ordered = np.sort(p_values)
    passed = np.flatnonzero(ordered <= q * np.arange(1, len(ordered) + 1) / max(1, len(ordered)))
    return float(ordered[passed[-1]]) if len(passed) else -1.0


def load(path: str | Path) -> Calibration:
    """Read what `Calibration.save` wrote.

    Raises:
        ConfigError: If there is no such file, or it is not a calibration.
    """
    try:
        content = from_json(Path(path).read_bytes())
        return _calibration(content)
    except OSError as error:
        raise ConfigError(f"calibration {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
            ConfigError) as error:  # fmt: skip
        raise ConfigError(
            f"{path} is not a calibration ({type(error).__name__}: {error}); "
            "make one with calibrate"
        ) from error


def _calibration(content: dict[str, Any]) -> Calibration:
    if (version := int(content.get("schema_version", 1))) > SCHEMA_VERSION:
        raise ConfigError(f"it is of version {version}, this memscan reads up to {SCHEMA_VERSION}")
    found = Calibration(
        model=str(content["model"]),
        score_fingerprint=str(content["score_fingerprint"]),
        null_scores=tuple(float(x) for x in content["null_scores"]),
        pixel_thresholds={str(k): float(v) for k, v in content["pixel_thresholds"].items()},
        pixel_fpr=float(content["pixel_fpr"]),
        captions=int(content["captions"]),
        created=str(content["created"]),
        seed_scores=_seed_scores(content.get("seed_scores", {})),
        settings=dict(content.get("settings", {})),
        mask_share=float(content.get("mask_share", 0)),
        increments=tuple((float(m), float(d)) for m, d in content.get("increments", ())),
        screen=None if content.get("screen") is None else _screen(content["screen"]),
        snap_back=None if content.get("snap_back") is None else _snap_back(content["snap_back"]),
        families=None if content.get("families") is None else int(content["families"]),
        others={
            str(name): NullScores(
                tuple(float(x) for x in own["null_scores"]), _seed_scores(own["seed_scores"])
            )
            for name, own in content.get("others", {}).items()
        },
        consensus=_consensus(content.get("consensus")),
        tail_fingerprint=str(content.get("tail_fingerprint", "")),
        corpus=contamination.read(content.get("corpus")),
        words=None if content.get("words") is None else NullWords(**content["words"]),
        kinds={str(n): _kinds(own) for n, own in content.get("kinds", {}).items()},
    )
    snap_back: dict[str, Any] = content.get("snap_back") or {}
    tails: tuple[object, object] = content.get("tail"), snap_back.get("tail")
    if tails == (None, None):
        return found
    return replace(found, tail_fingerprint=found.digest(*tails))


def _seed_scores(content: dict[str, Any]) -> dict[int, tuple[float, ...]]:
    return {int(seed): tuple(float(x) for x in scores) for seed, scores in content.items()}


def _consensus(content: dict[str, Any] | None) -> Consensus | None:
    if content is None:
        return None
    middles, deviations = (tuple(map(float, content[k])) for k in ("middles", "deviations"))
    return Consensus(middles, deviations)


def _kinds(content: dict[str, Any]) -> Kinds:
    divisions = tuple((int(w), int(no), int(yes)) for w, no, yes in content["divisions"])
    return Kinds(divisions, str(content["kinds"]))


def _snap_back(content: dict[str, Any]) -> SnapBack:
    return SnapBack(tuple(float(x) for x in content["null_scores"]))


def _screen(content: dict[str, Any]) -> Screen:
    recall, positives = float(content["recall"]), int(content["positives"])
    # Old files do not say how many they drop: their threshold was the norm number
    # floor((1 - recall)(m + 1)) from below.
    usual = math.floor((1 - recall) * (positives + 1) + 1e-9) - 1
    families = content.get("families")
    screen = Screen(
        float(content["threshold"]), recall, positives, float(content["passing"]),
        int(content.get("dropped", usual)), None if families is None else int(families),
    )  # fmt: skip
    if not math.isfinite(screen.threshold):
        raise ConfigError(f"a screen's threshold must be finite, got {screen.threshold}")
    if not 0 <= screen.dropped < screen.positives:
        raise ConfigError(
            f"a screen drops fewer positives than it has, got {screen.dropped} of {positives}"
        )
    return screen


def _check_scores(scores: Sequence[float]) -> None:
    if not scores or not all(map(math.isfinite, scores)) or list(scores) != sorted(scores):
        raise ConfigError("null_scores must be finite, ascending and at least one")


def _threshold(nulls: tuple[float, ...], fpr: float) -> float:
    number = len(nulls)
    if fpr < 1 / (1 + number):
        return math.inf
    # A score above null number i (from the highest, 0) has at most i nulls at or above it.
    allowed = sum((1 + i) / (1 + number) <= fpr for i in range(number))
    return nulls[-allowed]


def _conformal(nulls: tuple[float, ...], score: float) -> float:
    if math.isnan(score):
        raise ValueError("a score that is not a number has no p-value")
    return (1 + len(nulls) - bisect_left(nulls, score)) / (1 + len(nulls))


def _shown(value: object) -> str:
    if isinstance(value, list):
        values = cast("list[object]", value)
        return f"{values[0]}..{values[-1]}" if len(values) > 3 else " ".join(map(str, values))
    return "none" if value == "" else str(value)
