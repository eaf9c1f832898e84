"""Settings that decide the numbers of a scan, and no others."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from scanner.errors import ConfigError
from scanner.methods import Method, Need, registry
from scanner.methods.declaration import existing
from scanner.methods.registry import DEFAULT_MAPS, MAPS

CONSENSUS, CONSENSUS_OF = "consensus", ("delta_s", "wen", "wen_5")
"""The score on which several agree (`scanner.statistics.consensus`), and which they are."""
LOCALIZE = ("flagged", "all", "none")
PROBE_DESIGNS = ("structured", "rademacher")
P_VALUES = ("all", "kind")
"""What p-values are taken among: all null captions, or those of the caption's kind."""
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
OFFLOADS = ("none", "text", "all")
"""Parts of a model that lie on the CPU and are on the device only while they run: none, text
encoders, or text encoders and the autoencoder."""
LARGEST_SIDE = 4096
"""Of a picture, in pixels."""
STEPS, GUIDANCE_SCALE = 50, 7.5
"""Defaults of the sampling, those of the papers."""
FPR, PIXEL_FPR = 0.01, 0.01
"""Default false-positive rates, of captions and of a mask's pixels."""
TIMESTEP = 61
"""Default timestep to which images are noised; docs/measurements.md compares others."""
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": {
            "steps": STEPS, "guidance_scale": GUIDANCE_SCALE, "probes": 16,
            "probe_design": "rademacher", "map_back": 0,
        },
        "balanced": {"steps": 20, "probe_design": "structured"},
        "fast": {"steps": 5, "probe_design": "structured", "map_back": 2},
    }
)  # fmt: skip
"""From a preset to its settings, under the names of `ScanSpec`.

``paper`` is Kim & Lee's: 50 steps, guidance 7.5, 16 products of Hutchinson's estimator for each
branch. The others take the products between channels and neighbours, as many as the model's
latents need, after fewer steps; with 5 the score ``wen_5`` still exists, and maps are best two
steps before the last (chosen on the shipped U-Net, not on the others). What each costs and finds
beside the published procedure is measured in docs/measurements.md, *Against the published
procedure*; what it costs at LAION's size is in docs/cluster.md, *A corpus on paper*.
"""
MASK_FLOORS = ("pooled", "typical")
"""Floors of masks: of all null pixels together, or of a typical null map."""
ROOM_FOR_ROUNDS = 3
"""So many times the usual products are a target error's most: two rounds of as many, and what goes
before them on coarser grids."""
SOURCES = ("generated", "image", "auto")
"""Sources of scores: the end of a sampling, the sample's image, or the image where there is one."""


_SILENT: dict[str, object] = {
    "detectors": (), "maps": DEFAULT_MAPS, "fdr": None, "screen": None, "size": None,
    "captions": True, "flag_by": "delta_s", "mask_share": None, "p_values": "all",
    "target_error": None,
}  # fmt: skip
"""Fields that came later: at these values they are not in the name of a run."""


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
        probes: Jacobian products per map and branch; under a target error, the most.
        target_error: Products of a map go on, round by round, until the root mean square of its
            pixels' standard errors is below this share of the map's own root mean square; null
            takes all of them.
        probe_design: ``structured`` (exact between channels, then between neighbours) or
            ``rademacher`` (Hutchinson, as in the paper).
        localize: Which captions get maps: ``flagged``, ``all`` or ``none``.
        baseline: Fingerprint of the less-trained network, or ``""``. The unconditional baseline
            is always there.
        dtype: Precision of the network; differences and sums are float32 always.
        threshold: A caption is flagged above this score (below, where low is suspicious); null
            leaves it to the calibration.
        flag_by: The score that flags: ``delta_s``, a detector that every scored caption has (it is
            then among ``detectors``), ``delta_s_NAME`` of a baseline, or ``consensus`` of several
            (then these are).
        pixel_threshold: A pixel is in the mask above this; null leaves it to the calibration.
        mask_share: A pixel is in the mask above this share of its map's own level, 0 to 1, as in
            `scanner.masks.region`, whatever a calibration says; null leaves it to the calibration.
        p_values: What p-values are taken among, of `P_VALUES`: ``all`` null captions, or those
            of the caption's ``kind`` (`scanner.statistics.kinds`).
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
        detectors: Scores beside delta_s, from `registry.detector_names`; the order does not matter.
        maps: Metrics of which localized captions get maps, from `registry.MAPS`; the same.
    """

    seeds: tuple[int, ...] = (0,)
    steps: int = STEPS
    guidance_scale: float = GUIDANCE_SCALE
    probes: int = 16
    probe_design: str = "structured"
    localize: str = "flagged"
    baseline: str = ""
    dtype: str = "float32"
    threshold: float | None = None
    pixel_threshold: float | None = None
    fpr: float = FPR
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
    flag_by: str = "delta_s"
    mask_share: float | None = None
    p_values: str = "all"
    target_error: float | None = None

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
        if self.target_error is not None and self.probes < 2:
            raise ConfigError(
                f"a target error needs the spread of at least 2 products, got {self.probes} probes"
            )
        self._check_rates()
        for name, value, allowed in (
            ("localize", self.localize, LOCALIZE),
            ("dtype", self.dtype, DTYPES),
            ("probe_design", self.probe_design, PROBE_DESIGNS),
            ("source", self.source, SOURCES),
            ("p_values", self.p_values, P_VALUES),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        self._take_flag()
        object.__setattr__(
            self, "detectors", _chosen("detectors", self.detectors, registry.detector_names())
        )
        object.__setattr__(self, "maps", _chosen("maps", self.maps, tuple(MAPS)))
        self._check_size()
        self._check_methods()
        self._check_source()
        self._check_screen()

    def _take_flag(self) -> None:
        """Put the detectors that flag among the detectors.

        Raises:
            ConfigError: If there is no such score.
        """
        if self.flag_by == "delta_s" or self.flag_baseline is not None:
            return
        if self.flag_by == CONSENSUS:
            beside = tuple(name for name in CONSENSUS_OF if name != "delta_s")
            object.__setattr__(self, "detectors", (*self.detectors, *beside))
            return
        if self.flag_by not in registry.detector_names():
            raise ConfigError(
                f"flag_by must be delta_s, delta_s_NAME of a baseline, {CONSENSUS}, or among "
                f"{', '.join(registry.detector_names())}, got {self.flag_by!r}"
            )
        object.__setattr__(self, "detectors", (*self.detectors, self.flag_by))

    def _check_rates(self) -> None:
        """Refuse rates and shares that are none.

        Raises:
            ConfigError: If one is out of its range, or two rules would flag.
        """
        for name, rate in (
            ("fpr", self.fpr), ("fdr", self.fdr), ("mask_share", self.mask_share),
            ("target_error", self.target_error),
        ):  # fmt: skip
            if rate is not None and not 0 < rate < 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {rate}")
        if self.fdr is not None and self.threshold is not None:
            raise ConfigError("fdr and threshold exclude each other: give one of them")

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
            ConfigError: If there would be no map, too few steps, or no caption to take one of, or
                the score that flags would be of flagged captions alone.
        """
        if self.flag_by in self.late:
            raise ConfigError(
                f"{self.flag_by} is of localized captions alone, so it cannot say which are: flag "
                f"by another score"
            )
        if self.flag_baseline is not None and not self.captions:
            raise ConfigError(f"{self.flag_by} is of scores under captions: flag by delta_s")
        if not self.maps:
            raise ConfigError(f"maps must name at least one of {', '.join(MAPS)}")
        sampled = () if self.source == "image" else self.methods
        for method in sampled:
            if self.steps < method.least_steps:
                raise ConfigError(
                    f"{method.name} needs at least {method.least_steps} steps, got {self.steps}: "
                    f"raise steps or leave {method.name} out"
                )
        if self.localize == "none" and (late := self._names(Need.LOCALIZATION)):
            raise ConfigError(
                f"{', '.join(sorted(late))} must be of localized captions, got localize none: "
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
            self._check_both_sources()
            return
        if self.source == "image" and self.map_back:
            raise ConfigError("source image has one step: give a timestep instead of map_back")
        for name in self._names(Need.TRAJECTORY) if self.source == "image" else ():
            every = (*registry.DETECTORS.values(), *MAPS.values())
            usable = ", ".join(dict.fromkeys(existing(every, "image")))
            raise ConfigError(
                f"{name} looks at a trajectory and source image has none: leave it out; it has "
                f"{usable}"
            )
        for name in self._names(Need.IMAGE) if self.source == "generated" else ():
            raise ConfigError(f"{name} compares with the image: it needs source image or auto")

    def _check_both_sources(self) -> None:
        """Refuse what cannot be of sampled captions and of images alike.

        Raises:
            ConfigError: If a threshold would be of two scales, or there would be no map.
        """
        if self.threshold is not None or self.pixel_threshold is not None:
            raise ConfigError(
                "a threshold belongs to one source: scores of images and of samples differ in "
                "scale; give source image or generated, or calibrations"
            )
        if self.flag_by in self.detectors:
            both = [registry.detector(self.flag_by)]
            if not existing(both, "generated") or not existing(both, "image"):
                raise ConfigError(
                    f"{self.flag_by} is not of images and of samples alike: flag by another score"
                )
        if not existing((MAPS[name] for name in self.maps), "generated"):
            raise ConfigError("maps must name one that samples without an image have, too")

    def _check_without_captions(self) -> None:
        """Refuse what cannot be without captions.

        Raises:
            ConfigError: If there would be nothing to score, or a method looks at the caption.
        """
        if self.p_values == "kind":
            raise ConfigError("p-values by kind are of captions: leave them out without captions")
        if self.source != "image":
            raise ConfigError(f"without captions only images can be scored, got {self.source}")
        for name in self._names(Need.CAPTION):
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
        asked = self._names(Need.FIRST_STEP)
        asked += ["screen"] if self.screen is not None else []
        if asked and not flow:
            raise ConfigError(
                f"{', '.join(asked)} must have a first step with signal, and this model's has none "
                f"(rescale_betas_zero_snr): the scores of all captions are equal there; leave out "
                f"{', '.join(asked)}"
            )
        own = [method.step for method in self.methods]
        if self.map_back == self.steps - 1 or -self.steps in own:
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
            detectors=existing(map(registry.detector, self.detectors), source),
            maps=existing((MAPS[name] for name in self.maps), source),
        )  # fmt: skip

    @property
    def methods(self) -> list[Method]:
        """The detectors and maps that are asked for."""
        return registry.asked(self.detectors, self.maps)

    @property
    def computed(self) -> list[Method]:
        """Those of them that the scan computes: without localization there is no map."""
        return registry.asked(self.detectors, () if self.localize == "none" else self.maps)

    def needs(self, need: Need) -> bool:
        """Return whether something that the scan computes has a need."""
        return any(need in method.needs for method in self.computed)

    @property
    def flag_baseline(self) -> str | None:
        """Name of the baseline whose Δs flags; null where another score does."""
        prefix, _, name = self.flag_by.partition("delta_s_")
        return name or None if not prefix else None

    @property
    def late(self) -> list[str]:
        """Names of the detectors that only localized captions have."""
        return self._names(Need.LOCALIZATION)

    def _names(self, need: Need) -> list[str]:
        return [method.name for method in self.methods if need in method.needs]

    @property
    def stops_early(self) -> bool:
        """Whether products stop once an error is small."""
        return self.target_error is not None

    @property
    def candidate_rate(self) -> float:
        """The p-value up to which a caption is localized: no cut-off exceeds it."""
        return self.fpr if self.fdr is None else self.fdr

    def fingerprint(self) -> str:
        """Twelve hex digits that two specs share exactly when they ask for the same numbers.

        Methods that are not asked for leave no trace in it. Of a detector of another distribution
        it holds the distribution's version.
        """
        silent = {name for name, usual in _SILENT.items() if getattr(self, name) == usual}
        silent |= set(self._without_effect())
        asked = {name: value for name, value in asdict(self).items() if name not in silent}
        if packages := registry.packages(self.detectors):
            asked["packages"] = packages
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
        if self.target_error is not None:
            settings["target_error"] = self.target_error
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


def _chosen(field: str, names: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the known names that were asked for, once each and in the order of ``known``.

    Raises:
        ConfigError: If a name is not known.
    """
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(
            f"{field} must be among {', '.join(known)}, got {', '.join(map(repr, unknown))}"
        )
    return tuple(name for name in known if name in names)


def _digest(content: dict[str, object]) -> str:
    canonical = json.dumps(content, sort_keys=True, default=list)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
