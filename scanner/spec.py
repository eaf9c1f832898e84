"""What decides the numbers of a scan, and nothing else."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from scanner.errors import ConfigError

LOCALIZE = ("flagged", "all", "none")
DTYPES = ("float32", "bfloat16", "float16")
DETECTORS = (
    "wen_first", "wen_5", "wen", "sharpness", "flipd", "flipd_null", "anisotropy", "metric2",
    "dsm", "increment", "bright_ending", "spread",
)  # fmt: skip
"""Scores that a scan can add to delta_s; `scanner.scan.methods` says what each one is."""
MAPS = ("delta_s", "delta_h", "curvature", "anisotropy", "bright_ending", "combined", "combined_s")
"""Metrics of which a localized caption can have a map."""
DEFAULT_MAPS = ("delta_s", "delta_h", "curvature")
LEAST_STEPS = {"wen_5": 5, "dsm": 3, "anisotropy": 3}
"""How many steps a trajectory needs for what looks at a step in its middle."""
WHEN_LOCALIZED = ("flipd", "flipd_null")
"""Detectors that need products with the Jacobian: only localized captions have them."""
LOW_IS_SUSPICIOUS = ("flipd", "flipd_null", "tightness")
"""Scores whose small scores point at memorization; of all others it is the large ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSpec:
    """Everything that decides the numbers of a scan.

    Batch size, device and the number of actors are absent on purpose: they may change how long
    a scan takes, never what it finds.

    Attributes:
        seeds: Sampling seeds; a caption's score is the mean over them.
        steps: Steps of the DDIM sampler.
        map_back: How many steps before the last Δs, Δh and their kin are taken; 0 is the last.
        guidance_scale: Classifier-free guidance of the sampling.
        probes: Jacobian products per map and branch.
        probe_design: ``structured`` (exact between channels, then between neighbours) or
            ``rademacher`` (Hutchinson, as in the paper).
        localize: Which captions get maps: ``flagged``, ``all`` or ``none``.
        baseline: Fingerprint of the less-trained network, or ``""``. The unconditional baseline
            is always there.
        dtype: Precision of the network; differences and sums are float32 always.
        threshold: A caption is flagged above this delta_s; null leaves it to the calibration.
        pixel_threshold: A pixel is in the mask above this; null leaves it to the calibration.
        fpr: Nominal false-positive rate at which a calibration's threshold is applied.
        fdr: False-discovery rate over all captions of a run instead, or null. What may pass is
            localized; which of it does is settled when the p-values are known.
        store_image: Whether localized rows carry the generated picture.
        detectors: Scores beside delta_s, from `DETECTORS`; the order does not matter.
        maps: Metrics of which localized captions get maps, from `MAPS`; the same.
    """

    seeds: tuple[int, ...] = (0,)
    steps: int = 50
    guidance_scale: float = 7.5
    probes: int = 16
    probe_design: str = "structured"
    localize: str = "flagged"
    baseline: str = ""
    dtype: str = "float32"
    threshold: float | None = None
    pixel_threshold: float | None = None
    fpr: float = 0.01
    store_image: bool = True
    detectors: tuple[str, ...] = ()
    maps: tuple[str, ...] = DEFAULT_MAPS
    fdr: float | None = None
    map_back: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If a field is out of its range.
        """
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be distinct and not negative, got {list(self.seeds)}")
        if not 1 <= self.steps <= 1000:
            raise ConfigError(f"steps must be in 1..1000, got {self.steps}")
        if not 0 <= self.map_back < self.steps:
            raise ConfigError(
                f"map_back must be in 0..{self.steps - 1} for {self.steps} steps, "
                f"got {self.map_back}"
            )
        if self.probes < 1:
            raise ConfigError(f"probes must be at least 1, got {self.probes}")
        for name, rate in (("fpr", self.fpr), ("fdr", self.fdr)):
            if rate is not None and not 0 < rate < 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {rate}")
        if self.fdr is not None and self.threshold is not None:
            raise ConfigError("fdr and threshold exclude each other: give one of them")
        for name, value, allowed in (
            ("localize", self.localize, LOCALIZE),
            ("dtype", self.dtype, DTYPES),
            ("probe_design", self.probe_design, ("structured", "rademacher")),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        object.__setattr__(self, "detectors", _chosen("detectors", self.detectors, DETECTORS))
        object.__setattr__(self, "maps", _chosen("maps", self.maps, MAPS))
        self._check_methods()

    def _check_methods(self) -> None:
        """Refuse methods that this scan cannot serve.

        Raises:
            ConfigError: If there would be no map, too few steps, or no caption to take one of.
        """
        if not self.maps:
            raise ConfigError(f"maps must name at least one of {', '.join(MAPS)}")
        for name in (*self.detectors, *self.maps):
            if self.steps < LEAST_STEPS.get(name, 1):
                raise ConfigError(
                    f"{name} needs at least {LEAST_STEPS[name]} steps, got {self.steps}: raise "
                    f"steps or leave {name} out"
                )
        if self.localize == "none" and (asked := set(WHEN_LOCALIZED) & set(self.detectors)):
            raise ConfigError(
                f"{', '.join(sorted(asked))} must be of localized captions, got localize none: "
                f"localize flagged or all, or leave it out"
            )

    @property
    def candidate_rate(self) -> float:
        """The p-value up to which a caption is localized: no cut-off exceeds it."""
        return self.fpr if self.fdr is None else self.fdr

    def fingerprint(self) -> str:
        """Twelve hex digits that two specs share exactly when they ask for the same numbers.

        Methods that are not asked for leave no trace in it.
        """
        asked = asdict(self)
        if not self.detectors:
            del asked["detectors"]
        if self.maps == DEFAULT_MAPS:
            del asked["maps"]
        if self.fdr is None:
            del asked["fdr"]
        if self.map_back == 0:
            del asked["map_back"]
        return _digest(asked)

    def score_fingerprint(self) -> str:
        """Like `fingerprint`, of what decides scores and maps before any threshold.

        A calibration holds for every spec that shares it: thresholds, which captions get maps,
        and which further scores and maps are asked for, are free.
        """
        return _digest(self.score_settings())

    def score_settings(self) -> dict[str, object]:
        """Return what `score_fingerprint` is the digest of."""
        names = ("steps", "guidance_scale", "probes", "probe_design", "baseline", "dtype")
        if self.map_back:
            names = (*names, "map_back")
        return {"seeds": list(self.seeds), **{name: getattr(self, name) for name in names}}


def run_id(model: str, spec: ScanSpec, calibration: str) -> str:
    """Return the name of the run that scans with this model, spec and calibration.

    It does not depend on the shards: more shards under the same run are more of the same.

    Args:
        model: The model's fingerprint.
        spec: What is asked.
        calibration: The calibration's fingerprint, or ``""``.
    """
    return _digest({"model": model, "spec": spec.fingerprint(), "calibration": calibration})


def _chosen(field: str, names: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the known names that were asked for, once each and in the order of ``known``."""
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(
            f"{field} must be among {', '.join(known)}, got {', '.join(map(repr, unknown))}"
        )
    return tuple(name for name in known if name in names)


def _digest(content: dict[str, object]) -> str:
    canonical = json.dumps(content, sort_keys=True, default=list)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
