"""Settings that decide the numbers of a scan, and no others."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from scanner.errors import ConfigError

LOCALIZE = ("flagged", "all", "none")
PROBE_DESIGNS = ("structured", "rademacher")
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
DETECTORS = (
    "wen_first", "wen_5", "wen", "sharpness", "flipd", "flipd_null", "anisotropy", "metric2",
    "dsm", "increment", "bright_ending", "spread",
)  # fmt: skip
"""Scores that a scan can add to delta_s; `scanner.scan.methods` says what each one is."""
MAPS = (
    "delta_s", "delta_h", "curvature", "anisotropy", "bright_ending", "combined", "combined_s",
    "snap_back",
)  # fmt: skip
"""Metrics of which a localized caption can have a map."""
DEFAULT_MAPS = ("delta_s", "delta_h", "curvature")
LARGEST_SIDE = 4096
"""Of a picture, in pixels."""
TIMESTEP = 61
"""Default timestep to which images are noised; docs/methods.md compares others."""
LEAST_STEPS = {"wen_5": 5, "dsm": 3, "anisotropy": 3}
"""Least number of steps for detectors that use a step in the middle of the trajectory."""
AT_FIRST_STEP = ("wen_first", "sharpness", "metric2", "anisotropy")
"""Detectors that compare both branches at the first step."""
WHEN_LOCALIZED = ("flipd", "flipd_null")
"""Detectors that need products with the Jacobian: only localized captions have them."""
SOURCES = ("generated", "image", "auto")
"""Sources of scores: the end of a sampling, the sample's image, or the image where there is one."""
AT_IMAGE = (
    "wen_first", "sharpness", "flipd", "flipd_null", "metric2", "bright_ending", "spread",
    "delta_s", "delta_h", "curvature", "combined", "combined_s", "snap_back",
)  # fmt: skip
"""Detectors and maps that one noised image has; the others look at a trajectory."""
ONLY_AT_IMAGE = ("snap_back",)
"""Those that need the image itself."""
OF_CAPTIONS = ("bright_ending", "combined")
"""Those that look at a caption's tokens."""
LOW_IS_SUSPICIOUS = ("flipd", "flipd_null", "tightness")
"""Scores whose small scores point at memorization; of all others it is the large ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSpec:
    """Everything that decides the numbers of a scan.

    Batch size, device and the number of actors are absent on purpose: they change how long a scan
    takes, and its numbers by rounding alone (docs/performance.md says by how much).

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
        screen: Sampled captions of which the first step's norm, mean over seeds, is below this (in
            noise) are dropped before the second step; null samples all.
        source: One of `SOURCES`.
        timestep: Training timestep to which an image is noised, where images are scored.
        captions: Whether an image is scored under its caption. Without, the empty caption's branch
            takes the caption's place, and the baseline network's takes the empty caption's.
        size: Side of the model's pictures in pixels; null takes the model's own.
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
    screen: float | None = None
    source: str = "generated"
    timestep: int = TIMESTEP
    captions: bool = True
    size: int | None = None

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
            ("probe_design", self.probe_design, PROBE_DESIGNS),
            ("source", self.source, SOURCES),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        object.__setattr__(self, "detectors", _chosen("detectors", self.detectors, DETECTORS))
        object.__setattr__(self, "maps", _chosen("maps", self.maps, MAPS))
        self._check_size()
        self._check_methods()
        self._check_source()
        self._check_screen()

    def _check_size(self) -> None:
        """Refuse pictures of no size that a model has.

        Raises:
            ConfigError: If the size is out of its range.
        """
        if self.size is not None and not 8 <= self.size <= LARGEST_SIDE:
            raise ConfigError(f"size must be from 8 to {LARGEST_SIDE} pixels, got {self.size}")

    def _check_methods(self) -> None:
        """Refuse methods that this scan cannot serve.

        Raises:
            ConfigError: If there would be no map, too few steps, or no caption to take one of.
        """
        if not self.maps:
            raise ConfigError(f"maps must name at least one of {', '.join(MAPS)}")
        sampled = () if self.source == "image" else (*self.detectors, *self.maps)
        for name in sampled:
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

    def _check_source(self) -> None:
        """Refuse what the source of the scores cannot serve.

        Raises:
            ConfigError: If a method does not exist there, or a threshold would be of two scales.
        """
        if self.timestep < 0:
            raise ConfigError(f"timestep must not be negative, got {self.timestep}")
        if not self.captions:
            self._check_without_captions()
        if self.source == "auto":
            if self.threshold is not None or self.pixel_threshold is not None:
                raise ConfigError(
                    "a threshold belongs to one source: scores of images and of samples differ in "
                    "scale; give source image or generated, or calibrations"
                )
            if set(self.maps) <= set(ONLY_AT_IMAGE):
                raise ConfigError("maps must name one that samples without an image have, too")
            return
        if self.source == "image" and self.map_back:
            raise ConfigError("source image has one step: give a timestep instead of map_back")
        for name in (*self.detectors, *self.maps):
            if self.source == "image" and name not in AT_IMAGE:
                raise ConfigError(
                    f"{name} looks at a trajectory and source image has none: leave it out; it "
                    f"has {', '.join(AT_IMAGE)}"
                )
            if self.source == "generated" and name in ONLY_AT_IMAGE:
                raise ConfigError(f"{name} compares with the image: it needs source image or auto")

    def _check_without_captions(self) -> None:
        """Refuse what cannot be without captions.

        Raises:
            ConfigError: If there would be nothing to score, or a method looks at the caption.
        """
        if self.source != "image":
            raise ConfigError(f"without captions only images can be scored, got {self.source}")
        for name in (*self.detectors, *self.maps):
            if name in OF_CAPTIONS:
                raise ConfigError(f"{name} looks at the caption's tokens: leave it out")

    def _check_screen(self) -> None:
        """Refuse a screen where there is nothing to screen from.

        Raises:
            ConfigError: If no caption is sampled, or there is no step beyond the first.
        """
        if self.screen is None:
            return
        if self.source == "image":
            raise ConfigError("an image takes two evaluations, as a screen would: leave screen out")
        if self.steps < 2 or not math.isfinite(self.screen):
            raise ConfigError(
                f"a screen needs a finite number and at least 2 steps, got {self.screen} and "
                f"{self.steps} steps"
            )

    def refuse_blind_start(self, *, flow: bool = False) -> None:
        """Refuse what looks at the first step, for models whose first step holds no signal.

        Args:
            flow: Whether the model is a flow. What compares two branches at the first step is
                then of its outputs and exists; maps are of scores, and do not.

        Raises:
            ConfigError: If something does.
        """
        asked = [name for name in AT_FIRST_STEP if name in self.detectors]
        asked += ["screen"] if self.screen is not None else []
        if asked and not flow:
            raise ConfigError(
                f"{', '.join(asked)} must have a first step with signal, and this model's has none "
                f"(rescale_betas_zero_snr): the scores of all captions are equal there; leave out "
                f"{', '.join(asked)}"
            )
        looks = "anisotropy" in (*self.maps, *self.detectors)
        third_is_first = looks and self.steps == LEAST_STEPS["anisotropy"]
        if self.map_back == self.steps - 1 or third_is_first:
            reason = "a flow" if flow else "rescale_betas_zero_snr"
            raise ConfigError(
                f"the maps are at the first step, where this model has no signal ({reason}): take "
                f"more steps or a smaller map_back"
            )

    def only(self, source: str) -> "ScanSpec":
        """Return what this spec asks of the samples that are scored at one source.

        Args:
            source: ``generated`` or ``image``.
        """
        if self.source == source:
            return self
        return replace(
            self, source=source, **({"screen": None, "map_back": 0} if source == "image" else {}),
            detectors=existing(self.detectors, source),
            maps=existing(self.maps, source),
        )  # fmt: skip

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
        for name in ("fdr", "screen", "size"):
            if asked[name] is None:
                del asked[name]
        if self.captions:
            del asked["captions"]
        for name in self._without_effect():
            del asked[name]
        return _digest(asked)

    def score_fingerprint(self) -> str:
        """Like `fingerprint`, of what decides scores and maps before any threshold.

        A calibration holds for every spec that shares it: thresholds, which captions get maps,
        and which further scores and maps are asked for, are free.
        """
        return _digest(self.score_settings())

    def score_settings(self) -> dict[str, object]:
        """Return what `score_fingerprint` is the digest of."""
        names = (
            "steps", "guidance_scale", "probes", "probe_design", "baseline", "dtype", "map_back",
            "source", "timestep",
        )  # fmt: skip
        deciding = [name for name in names if name not in self._without_effect()]
        settings: dict[str, object] = {"seeds": list(self.seeds)}
        settings |= {name: getattr(self, name) for name in deciding}
        if not self.captions:
            settings["captions"] = False
        if self.size is not None:
            settings["size"] = self.size
        return settings

    def _without_effect(self) -> tuple[str, ...]:
        """Return the settings that do not matter at this source."""
        if self.source == "image":
            return ("steps", "guidance_scale", "map_back")
        unused = () if self.source == "auto" else ("source", "timestep")
        return unused if self.map_back else (*unused, "map_back")


def run_id(model: str, spec: ScanSpec, calibration: str) -> str:
    """Return the name of the run that scans with this model, spec and calibration.

    It does not depend on the shards: more shards under the same run are more of the same.

    Args:
        model: The model's fingerprint.
        spec: What is asked.
        calibration: The calibration's fingerprint, or ``""``.
    """
    return _digest({"model": model, "spec": spec.fingerprint(), "calibration": calibration})


def existing(names: Sequence[str], source: str, *, captions: bool = True) -> tuple[str, ...]:
    """Return the detectors or maps, of those named, that a scan of this source can have."""
    known = tuple(name for name in names if source == "auto" or _exists(name, source))
    return known if captions else tuple(name for name in known if name not in OF_CAPTIONS)


def _exists(name: str, source: str) -> bool:
    return name in AT_IMAGE if source == "image" else name not in ONLY_AT_IMAGE


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
