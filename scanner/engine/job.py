"""A scan as the engine takes it, its events, and its summary."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanner.errors import ConfigError
from scanner.models import baseline_names
from scanner.models.overlay import NOTHING_OFF, OFF, Overlay, overlay, prompt_of
from scanner.scan.flag_score import no_such_baseline
from scanner.spec import DEVICES, OFFLOADS, ScanSpec

CHUNK_SIZE = 256
"""Samples per commit where nothing else is asked for or known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A scan: which model over which shards into which results.

    Attributes:
        model: A model folder, a hub id (``ID`` or ``ID@REVISION``), or ``gaussian``.
        baselines: Less-trained networks, ``off`` or ``prompt:TEXT``, beside the unconditional
            branch; maps and columns are against each.
        shards: Addresses, already expanded.
        results: Folder or address of the results.
        spec: What decides the numbers.
        calibration: Path of a calibration file, or null.
        image_calibration: Path of a calibration of samples scored at their image. Given together
            with ``calibration`` where the source is ``auto``, else null.
        images: Whether training images are read for evidence.
        batch_size: Draws at a time on a device; null finds out what it can take.
        chunk_size: Samples per commit; null finds out from the speed of a device. A run keeps the
            size that it was begun with.
        limit: At most this many samples, the first in shard order; null takes all.
        lora: Adapters over the model, each as `scanner.models.overlay.Lora.parsed` takes it.
        weights: A file with another network's weights, in place of the model's, or null.
        auto_probes: Whether the model's channels and tokens decide the spec's ``probes``.
        offload: Parts of the model that are on the device only while they run, of
            `scanner.spec.OFFLOADS`.
        compile: Whether the network's repeated blocks go through ``torch.compile``.
    """

    model: str
    shards: tuple[str, ...]
    results: str
    spec: ScanSpec
    baselines: tuple[str, ...] = ()
    calibration: str | None = None
    image_calibration: str | None = None
    images: bool = False
    batch_size: int | None = None
    chunk_size: int | None = CHUNK_SIZE
    limit: int | None = None
    lora: tuple[str, ...] = ()
    weights: str | None = None
    auto_probes: bool = False
    offload: str = "none"
    compile: bool = False

    @property
    def overlay(self) -> Overlay:
        """Adapters and weights over the model."""
        return overlay(self.lora, self.weights)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If a field is out of its range.
        """
        self._check_baselines()
        self._check_flag()
        if not self.shards:
            raise ConfigError("a scan needs at least one shard")
        self._check_calibrations()
        if self.offload not in OFFLOADS:
            raise ConfigError(f"offload must be one of {', '.join(OFFLOADS)}, got {self.offload!r}")
        for name in ("batch_size", "chunk_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")

    def _check_baselines(self) -> None:
        """Refuse baselines that the scan cannot be compared with.

        Raises:
            ConfigError: If there is none where one is needed, or one is of no use or given twice.
        """
        if OFF in self.baselines and not self.overlay:
            raise ConfigError(NOTHING_OFF)
        if twice := [one for one, number in Counter(self.baselines).items() if number > 1]:
            raise ConfigError(f"the baseline {twice[0]} is given twice")
        prompts = [prompt_of(baseline) for baseline in self.baselines]  # refuses blank ones
        if self.spec.captions:
            return
        if len(self.baselines) != 1:
            raise ConfigError(
                f"images without captions are compared with one less-trained network: give one "
                f"--baseline, not {len(self.baselines)}"
            )
        if prompts != [None]:
            raise ConfigError(
                "images without captions are compared under the empty caption: a prompt is no "
                "baseline of theirs"
            )

    def _check_flag(self) -> None:
        """Refuse a score that would flag and is of no baseline of the scan.

        Raises:
            ConfigError: If it is.
        """
        names = tuple(baseline_names(self.baselines))
        if self.spec.flag_baseline is not None and self.spec.flag_baseline not in names:
            raise ConfigError(no_such_baseline(self.spec.flag_by, names))

    def _check_calibrations(self) -> None:
        """Refuse calibrations that do not fit what is asked.

        Raises:
            ConfigError: If one is missing or of no use.
        """
        if self.spec.fdr is not None and self.calibration is None:
            raise ConfigError(
                "a false-discovery rate needs the p-values of a calibration: give one"
            )
        given = (self.calibration is not None, self.image_calibration is not None)
        if self.spec.source != "auto" and given[1]:
            raise ConfigError(
                f"an image calibration beside another is for source auto, not {self.spec.source}"
            )
        if self.spec.source == "auto" and given[0] != given[1]:
            raise ConfigError(
                "source auto needs two calibrations or none: one made with source generated "
                "(--calibration) and one made with source image (--image-calibration)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Devices and processes of a scan; never changes a number.

    Attributes:
        actors: Processes that hold the model; null for one per GPU, or per CPU without GPUs.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: Threads of one actor; null shares the CPUs among the actors, and leaves a local
            scan as many as torch has.
        address: A Ray cluster to join; null starts a local one.
        local: Whether to scan in this process instead, without Ray, with one model.
        most_samples: Scan so many samples now at most; what is left is for the next scan.
        hours: Begin no further chunk after so long; those at work are finished.
        gpus_per_actor: GPUs over which each actor spreads its model.
    """

    actors: int | None = None
    device: str = "auto"
    threads: int | None = None
    address: str | None = None
    local: bool = False
    most_samples: int | None = None
    hours: float | None = None
    gpus_per_actor: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If a field is out of its range.
        """
        if self.device not in DEVICES:
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        if self.local and self.address is not None:
            raise ConfigError(
                "--local and --address exclude each other: the one scans in this process, the "
                "other on a cluster"
            )
        if self.local and self.actors not in (None, 1):
            raise ConfigError(
                f"a local scan has one model in this process, got {self.actors} actors: leave out "
                f"--actors, or --local"
            )
        if self.hours is not None and self.hours <= 0:
            raise ConfigError(f"hours must be more than 0, got {self.hours}")
        if self.gpus_per_actor > 1 and self.device not in ("auto", "cuda"):
            raise ConfigError(
                f"a model is split over GPUs alone, got {self.gpus_per_actor} GPUs an actor and "
                f"device {self.device}: leave out one of them"
            )
        for name in ("actors", "threads", "most_samples", "gpus_per_actor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")

    @property
    def joins(self) -> bool:
        """Whether the cluster is someone else's and may grow; then whole devices are asked for."""
        has_address = self.address is not None or "RAY_ADDRESS" in os.environ
        return has_address and not self.local


PHASE, ACTIVITY = TRANSIENT = "phase", "activity"
"""Kinds of events that are of the moment: shown, and kept in no log."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, with the counts at that moment.

    Live view, event log and metrics are all made of these. Counts include what earlier scans of
    the run had committed, ``retries`` apart, which are this scan's own.

    Attributes:
        kind: ``phase`` (a part of getting ready begins), ``index`` (a shard is counted),
            ``problem`` (a shard is unreadable or cut, or an option is without effect),
            ``worker`` (an actor is ready),
            ``activity`` (what an actor is at, now and then), ``lost`` (an actor is gone),
            ``chunk`` (one more is committed), ``retry`` (one failed and is tried again),
            ``quarantine`` (one is given up), ``wait`` (another process may be at the run, or a
            shard takes long to count), ``end`` or, from the command line, ``notify`` (somebody was
            told, or could not be).
        samples_done: Samples committed.
        samples_total: Samples known so far; grows while shards are being counted.
        flagged: Samples flagged so far.
        rejected: Samples rejected so far.
        text: What happened, for a person.
        run: The run.
        shard: Address of the shard that it is about, or ``""``.
        chunk: Name of the chunk that it is about, or ``""``.
        actor: The actor that did it, as ``node/pid``, or ``""``.
        scored: Samples with scores so far.
        localized: Samples with maps so far.
        retries: Attempts that failed and were repeated.
        quarantined: Chunks given up.
        shards_counted: Shards whose samples are known.
        shards_total: Shards of the scan; those that a limit leaves out do not count.
        waiting: Tasks that no actor has yet.
        running: Tasks that actors have.
        counts: Of a ``chunk``: its samples, scored, localized, flagged and rejected, ``reasons``
            of rejection, ``seconds``, and of these ``denoiser_seconds``, ``product_seconds``,
            ``preparation_seconds``, ``autoencoder_seconds`` and ``waiting_seconds``.
        time: When, in seconds since 1970.
    """

    kind: str
    samples_done: int
    samples_total: int
    flagged: int
    rejected: int
    text: str = ""
    run: str = ""
    shard: str = ""
    chunk: str = ""
    actor: str = ""
    scored: int = 0
    localized: int = 0
    retries: int = 0
    quarantined: int = 0
    shards_counted: int = 0
    shards_total: int = 0
    waiting: int = 0
    running: int = 0
    counts: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


@dataclass(slots=True)
class Summary:
    """The outcome of a scan.

    Sample counts include what earlier runs of the same scan had committed.

    Attributes:
        run: The run's name.
        samples: Samples committed: scored plus rejected.
        scored: Samples with scores.
        flagged: Samples flagged under any seed.
        rejected: Samples that could not be scored.
        localized: Samples with maps.
        screened: Samples that the screen dropped before they were sampled.
        evaluations: What networks were asked for: ``draws``, ``forward``, ``vjp`` and ``jvp``.
        recalled: Samples scored whose rows are those of a copy that was scored before.
        retries: Attempts of this scan that failed and were repeated.
        chunks_done: Chunks committed now.
        chunks_skipped: Chunks that were committed before.
        incomplete: Shards that are unreadable, cut short or changed, with the reason.
        quarantined: Chunks given up, by name and reason.
        seconds: Wall time.
        denoiser_share: Share of the actors' scanning time spent in the networks, 0 to 1.
        time_shares: Share of it by part: ``network`` (forward evaluations), ``product`` (gradients
            back through the networks), ``preparation`` (tokens, text states, noise, probes),
            ``autoencoder``, ``waiting`` (for reading and committing) and ``other``.
        actors: Of every actor that was opened: ``name``, ``device``, ``gpu``, and the
            ``denoiser_share`` of its wall time.
    """

    run: str
    samples: int = 0
    scored: int = 0
    flagged: int = 0
    rejected: int = 0
    localized: int = 0
    screened: int = 0
    recalled: int = 0
    evaluations: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    chunks_done: int = 0
    chunks_skipped: int = 0
    incomplete: list[str] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    denoiser_share: float = 0.0
    time_shares: dict[str, float] = field(default_factory=dict)
    actors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every sample of every shard is accounted for."""
        return not self.incomplete and not self.quarantined

    def missing(self) -> str:
        """Return what is not accounted for, in a line."""
        parts = [
            *self.incomplete, *(f"{name}: {reason}" for name, reason in self.quarantined),
        ]  # fmt: skip
        more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
        return f"incomplete, what could be read is scored: {'; '.join(parts[:5])}{more}"
