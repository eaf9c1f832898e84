"""What is asked of the engine, what it tells on the way, and what it answers."""

import os
from dataclasses import dataclass, field

from scanner.errors import ConfigError
from scanner.spec import ScanSpec

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A scan: which model over which shards into which results.

    Attributes:
        model: A model folder, a hub id, or ``gaussian``.
        baseline: A less-trained network, or null.
        shards: Addresses, already expanded.
        results: Root of the results folder.
        spec: What decides the numbers.
        calibration: Path of a calibration file, or null.
        images: Whether training images are read for evidence.
        batch_size: Draws at a time on a device.
        chunk_size: Samples per commit. A run keeps the size that it was begun with.
        limit: At most this many samples, the first in shard order; null takes all.
    """

    model: str
    shards: tuple[str, ...]
    results: str
    spec: ScanSpec
    baseline: str | None = None
    calibration: str | None = None
    images: bool = False
    batch_size: int = 16
    chunk_size: int = 256
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If a field is out of its range.
        """
        if not self.shards:
            raise ConfigError("a scan needs at least one shard")
        for name in ("batch_size", "chunk_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Where and how wide to run; never changes a number.

    Attributes:
        actors: Processes that hold the model; null for one per GPU, or per CPU without GPUs.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: Threads of one actor; null shares the CPUs among the actors.
        address: A Ray cluster to join; null starts a local one.
    """

    actors: int | None = None
    device: str = "auto"
    threads: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If a field is out of its range.
        """
        if self.device not in DEVICES:
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        for name in ("actors", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")

    @property
    def joins(self) -> bool:
        """Whether the cluster is someone else's and may grow; then whole devices are asked for."""
        return self.address is not None or "RAY_ADDRESS" in os.environ


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, with the counts at that moment.

    Attributes:
        kind: ``index`` (a shard is counted), ``problem`` (a shard is unreadable or cut),
            ``worker`` (a process is ready), ``chunk`` (one more is committed), ``retry`` (one
            failed and is tried again), ``quarantine`` (one is given up) or ``end``.
        samples_done: Samples committed, those of earlier runs included.
        samples_total: Samples known so far; grows while shards are being counted.
        flagged: Samples flagged so far.
        rejected: Samples rejected so far.
        text: What happened, for a person.
    """

    kind: str
    samples_done: int
    samples_total: int
    flagged: int
    rejected: int
    text: str = ""


@dataclass(slots=True)
class Summary:
    """What became of a scan.

    Sample counts include what earlier runs of the same scan had committed.

    Attributes:
        run: The run's name.
        samples: Samples committed: scored plus rejected.
        scored: Samples with scores.
        flagged: Samples flagged under any seed.
        rejected: Samples that could not be scored.
        chunks_done: Chunks committed now.
        chunks_skipped: Chunks that were committed before.
        incomplete: Shards that are unreadable, cut short or changed, with the reason.
        quarantined: Chunks given up, by name and reason.
        seconds: Wall time.
        denoiser_share: Share of the actors' scanning time spent in the denoiser, 0 to 1.
    """

    run: str
    samples: int = 0
    scored: int = 0
    flagged: int = 0
    rejected: int = 0
    chunks_done: int = 0
    chunks_skipped: int = 0
    incomplete: list[str] = field(default_factory=list)
    quarantined: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    denoiser_share: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether every sample of every shard is accounted for."""
        return not self.incomplete and not self.quarantined
