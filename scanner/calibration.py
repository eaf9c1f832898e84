"""What a scan takes from null captions: p-values, and thresholds for scores and pixels."""

import hashlib
import json
import math
from bisect import bisect_left
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scanner.errors import ConfigError
from scanner.spec import ScanSpec


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
        captions: How many null captions there were.
        created: When it was fitted, ISO 8601.
    """

    model: str
    score_fingerprint: str
    null_scores: tuple[float, ...]
    pixel_thresholds: dict[str, float]
    pixel_fpr: float
    captions: int
    created: str

    def __post_init__(self) -> None:
        """Refuse what cannot be a calibration.

        Raises:
            ConfigError: If the scores are not ascending and finite, or a rate is out of range.
        """
        scores = self.null_scores
        if not scores or not all(map(math.isfinite, scores)) or list(scores) != sorted(scores):
            raise ConfigError("null_scores must be finite, ascending and at least one")
        if not all(map(math.isfinite, self.pixel_thresholds.values())):
            raise ConfigError(f"pixel_thresholds must be finite, got {self.pixel_thresholds}")
        if not 0 < self.pixel_fpr < 1:
            raise ConfigError(f"pixel_fpr must lie between 0 and 1, got {self.pixel_fpr}")

    @property
    def min_p(self) -> float:
        """The smallest p-value that this many null captions can give: ``1 / (1 + n)``."""
        return 1 / (1 + len(self.null_scores))

    def fingerprint(self) -> str:
        """Twelve hex digits of everything that decides a number; the date does not."""
        decided = {k: v for k, v in asdict(self).items() if k not in {"created", "captions"}}
        canonical = json.dumps(decided, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def p_value(self, score: float) -> float:
        """Return the conformal p-value ``(1 + #{null >= score}) / (1 + n)``.

        If the caption is exchangeable with the null captions, it is at most ``a`` with
        probability at most ``a``, whatever the distribution of the scores.

        Raises:
            ValueError: If the score is not a number.
        """
        if math.isnan(score):
            raise ValueError("a score that is not a number has no p-value")
        at_least = len(self.null_scores) - bisect_left(self.null_scores, score)
        return (1 + at_least) / (1 + len(self.null_scores))

    def threshold(self, fpr: float) -> float:
        """Return the score above which the p-value is at most ``fpr``, and only there.

        ``score > threshold(fpr)`` and ``p_value(score) <= fpr`` say the same. Infinite where
        even the highest score is not significant: where ``fpr < min_p``.

        Example:
            >>> c = Calibration("m", "s", (1.0, 2.0, 3.0), {}, 0.01, 3, "")
            >>> c.threshold(0.25), c.threshold(0.5), c.threshold(0.2)
            (3.0, 2.0, inf)
        """
        # A score above null number i (from the highest, 0) has at most i nulls at or above it.
        allowed = sum((1 + i) / (1 + len(self.null_scores)) <= fpr for i in self._ranks())
        return self.null_scores[-allowed] if allowed else math.inf

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
        if spec.score_fingerprint() != self.score_fingerprint:
            raise ConfigError(
                "the calibration must be made with the scan's settings: seeds, steps, guidance "
                "scale, probes, baseline or dtype differ (settings of the calibration "
                f"{self.score_fingerprint}, of the scan {spec.score_fingerprint()}: seeds "
                f"{list(spec.seeds)}, steps {spec.steps}, guidance scale {spec.guidance_scale}, "
                f"probes {spec.probes} {spec.probe_design}, baseline {spec.baseline or 'none'}, "
                f"dtype {spec.dtype}); calibrate with these"
            )

    def save(self, path: str | Path) -> None:
        """Write it as JSON; `load` returns an equal one."""
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def _ranks(self) -> range:
        return range(len(self.null_scores))


def load(path: str | Path) -> Calibration:
    """Read what `Calibration.save` wrote.

    Raises:
        ConfigError: If there is no such file, or it is not a calibration.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return _calibration(content)
    except OSError as error:
        raise ConfigError(f"calibration {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
        raise ConfigError(
            f"{path} is not a calibration ({type(error).__name__}: {error}); "
            "make one with calibrate"
        ) from error


def _calibration(content: dict[str, Any]) -> Calibration:
    return Calibration(
        model=str(content["model"]),
        score_fingerprint=str(content["score_fingerprint"]),
        null_scores=tuple(float(x) for x in content["null_scores"]),
        pixel_thresholds={str(k): float(v) for k, v in content["pixel_thresholds"].items()},
        pixel_fpr=float(content["pixel_fpr"]),
        captions=int(content["captions"]),
        created=str(content["created"]),
    )
