"""What runs in Ray's processes: the actor that scans, and the task that counts a shard."""

import os
import platform
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from scanner import calibration, models
from scanner.engine.job import Job
from scanner.engine.queue import Errand
from scanner.errors import ConfigError, ResultsError, ShardError
from scanner.io import shards
from scanner.io.results import Results
from scanner.io.shards import ShardIndex
from scanner.records import Caption, ChunkResult, Reject

if TYPE_CHECKING:
    from scanner.scan.scanner import Scanner

T = TypeVar("T")

Build = Callable[[Job, str], "Scanner"]
"""From a job and a device to a scanner; called once in every actor."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an actor is and where.

    Attributes:
        pid: Its process.
        node: The machine's name.
        device: The device's name.
        threads: Threads for work on the CPU.
        seconds: Time to load the model.
    """

    pid: int
    node: str
    device: str
    threads: int
    seconds: float

    @property
    def name(self) -> str:
        """What the actor is called in events and metrics."""
        return f"{self.node}/{self.pid}"


@dataclass(frozen=True, slots=True)
class Counts:
    """What came of one errand; all that returns to the driver.

    Attributes:
        samples: Samples read: scored plus rejected.
        scored: Samples with scores.
        flagged: Samples flagged under any seed.
        rejected: Samples rejected.
        seconds: Time of the errand.
        denoiser_seconds: Time of it in the denoiser.
        localized: Samples that got maps.
        reasons: Samples rejected, by reason.
    """

    samples: int
    scored: int
    flagged: int
    rejected: int
    seconds: float
    denoiser_seconds: float
    localized: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a process that is still there to tell.

    Attributes:
        error: The exception that it is to the driver, or null for one that nobody foresaw.
        text: One line.
        details: The traceback, where the exception was not foreseen.
        usable: Whether the process can be trusted with further work.
    """

    error: type[ConfigError | ResultsError | ShardError] | None
    text: str
    details: str = ""
    usable: bool = True


def build_scanner(job: Job, device: str) -> "Scanner":
    """Load the networks that a job names and return a scanner on a device.

    Raises:
        ConfigError: If a model, a baseline or a calibration cannot be read.
    """
    from scanner.scan.scanner import Scanner

    denoiser = models.load(job.model, device=device, dtype=job.spec.dtype)
    baseline = None
    if job.baseline is not None:
        network = models.load_baseline(job.baseline, denoiser, job.spec.dtype)
        baseline = (models.baseline_name(job.baseline), network)
    null = None if job.calibration is None else calibration.load(job.calibration)
    return Scanner(
        denoiser, job.spec, baseline=baseline, calibration=null, batch_size=job.batch_size
    )


class Worker:
    """Loads the model once and scans what it is handed, one errand after the other.

    Args:
        job: The scan.
        run: Name of the run to commit under.
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: Threads for work on the CPU.
        build: Makes the scanner.
        fingerprint: What the model must be, or ``""`` to take it on trust.
    """

    def __init__(
        self, job: Job, run: str, device: str, threads: int, build: Build, fingerprint: str = ""
    ) -> None:
        self._job, self._run, self._device, self._threads = job, run, device, threads
        self._build, self._fingerprint = build, fingerprint
        self._scanner: Scanner | None = None
        self._results = Results(job.results)

    def open(self) -> Facts | Failure:
        """Load the model."""
        return _answered(self._open)

    def scan(self, errand: Errand) -> Counts | Failure:
        """Scan and, unless it is a trial, commit."""
        answer = _answered(lambda: self._scan(errand))
        if isinstance(answer, Failure) and self._device == "cuda" and answer.error is None:
            return Failure(None, answer.text, answer.details, usable=_cuda_works())
        return answer

    def _open(self) -> Facts:
        start = time.perf_counter()
        if self._fingerprint and models.fingerprint(self._job.model) != self._fingerprint:
            raise ConfigError(
                f"{self._job.model} on {platform.node()} is not the model that the driver "
                f"has ({self._fingerprint}): put the same files on every node"
            )
        self._scanner = self._build(self._job, self._device)

        import torch

        torch.set_num_threads(self._threads)
        name = torch.cuda.get_device_name() if self._device == "cuda" else self._device
        seconds = time.perf_counter() - start
        return Facts(os.getpid(), platform.node(), name, self._threads, seconds)

    def _scan(self, errand: Errand) -> Counts:
        if self._scanner is None:
            raise RuntimeError("a worker was handed an errand before it was opened")
        start, before = time.perf_counter(), self._scanner.denoiser_seconds
        spent = self._scanner.evaluations.copy()
        captions, rejects = _sorted_out(errand, images=self._job.images)
        result = self._scanner.scan(captions) if captions else ChunkResult()
        result.rejects.extend(rejects)
        samples, rejected = errand.stop - errand.start, len(result.rejects)
        counts = Counts(
            samples=samples, scored=samples - rejected, rejected=rejected,
            flagged=len({row.caption.key for row in result.scores if row.flagged}),
            seconds=time.perf_counter() - start,
            denoiser_seconds=self._scanner.denoiser_seconds - before,
            localized=len({row.caption.key for row in result.scores if row.stage == "localize"}),
            reasons=dict(Counter(reject.reason for reject in result.rejects)),
        )  # fmt: skip
        if not errand.trial:
            facts: dict[str, Any] = errand.piece.facts()
            facts |= {name: getattr(counts, name) for name in Counts.__slots__}
            spent = {name: n - spent[name] for name, n in self._scanner.evaluations.items()}
            facts["evaluations"] = spent
            extra = list(self._scanner.extra_columns)
            self._results.commit(self._run, errand.piece.name, result, extra=extra, facts=facts)
        return counts


def survey(url: str, chunk_size: int, finished: frozenset[str]) -> ShardIndex | str | Failure:
    """Count a shard; of one that is committed whole, return the identity without opening it."""

    def look() -> ShardIndex | str:
        shard = shards.stat(url)
        return shard.id if shard.id in finished else shards.index(shard, chunk_size)

    return _answered(look)


def _sorted_out(errand: Errand, *, images: bool) -> tuple[list[Caption], list[Reject]]:
    """Read an errand's samples: what to scan, and what is rejected already.

    Raises:
        ShardError: If the shard has fewer samples than when it was counted.
    """
    items = islice(shards.read(errand.piece.chunk, images=images), errand.start, errand.stop)
    captions, rejects, poison = list[Caption](), list[Reject](), dict(errand.poison)
    position = errand.start
    for position, item in enumerate(items, errand.start + 1):
        if isinstance(item, Reject):
            rejects.append(item)
        elif (reason := poison.get(position - 1)) is not None:
            rejects.append(
                Reject(item.shard, item.key, "poison", reason.partition("\n")[0], item.sha256)
            )
        else:
            captions.append(item)
    if position != errand.stop:
        raise ShardError(
            f"{errand.piece.chunk.shard.url} has changed since it was counted: "
            f"chunk {errand.piece.chunk.number} ends after {position} samples, not {errand.stop}"
        )
    return captions, rejects


def _answered(work: Callable[[], T]) -> T | Failure:
    """Return what work returns, or its failure as a value that crosses processes."""
    try:
        return work()
    except (ConfigError, ResultsError, ShardError) as error:
        kind = next(k for k in (ConfigError, ResultsError, ShardError) if isinstance(error, k))
        return Failure(kind, str(error))
    except Exception as error:  # the edge of the process: what is not caught here is lost
        return Failure(None, f"{type(error).__name__}: {error}", traceback.format_exc())


def _cuda_works() -> bool:
    """Whether the device still answers; after some errors a process cannot use it again."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
