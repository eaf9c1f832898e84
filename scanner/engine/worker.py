"""What a runtime calls: the worker that scans, and the function that counts a shard."""

import os
import platform
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from scanner import models
from scanner.engine.compute import ComputeThread, ScanRequest
from scanner.engine.job import Job
from scanner.engine.queue import Task
from scanner.errors import (
    ConfigError,
    DeviceError,
    ResultsError,
    ScannerError,
    ShardError,
    reproducible,
)
from scanner.records import Caption, Reject, RejectReason
from scanner.results.folder import Results
from scanner.results.score_cache import ScoreCacheReader, ScoreFinder
from scanner.shards import reading
from scanner.shards.reading import ShardIndex
from scanner.signed import redacted
from scanner.spec import ScanSpec
from scanner.statistics import calibration

if TYPE_CHECKING:
    from scanner.scan.rows import Images
    from scanner.scan.scanner import Loaded, Scanner

T = TypeVar("T")

EXPECTED_ERRORS = (ConfigError, ResultsError, ShardError, DeviceError)
"""Errors that the driver handles by their type."""

ScannerFactory = Callable[[Job, str], "Scanner"]
"""From a job and a device to a scanner; called once in every actor."""


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """Node, process and device of an actor.

    Attributes:
        pid: Its process.
        node: The machine's name.
        device: The device's name.
        threads: Threads for work on the CPU.
        seconds: Time to load the model.
        gpu: What no other GPU is called: its UUID, or the machine, Ray's node and its number of
            it; ``""`` where none was asked for.
    """

    pid: int
    node: str
    device: str
    threads: int
    seconds: float
    gpu: str = ""

    @property
    def name(self) -> str:
        """The actor's name in events and metrics."""
        return f"{self.node}/{self.pid}"


@dataclass(frozen=True, slots=True)
class ActorUsage:
    """An actor's time so far, by part.

    Attributes:
        seconds: Wall time from its first task's receipt to the last one's end.
        denoiser_seconds: Of that, in the networks: forward evaluations and products.
        product_seconds: Of that, gradients back through the networks.
        preparation_seconds: Time for tokens, text states, noise and probes.
        autoencoder_seconds: Time in the autoencoder.
        waiting_seconds: Time that the device waited: for tasks, reading and committing.
        batch_sizes: Draws at a time at present, by stage.
        shortages: Times that memory ran out and a batch was halved.
    """

    seconds: float = 0.0
    denoiser_seconds: float = 0.0
    product_seconds: float = 0.0
    preparation_seconds: float = 0.0
    autoencoder_seconds: float = 0.0
    waiting_seconds: float = 0.0
    batch_sizes: dict[str, int] = field(default_factory=dict)
    shortages: int = 0

    @property
    def share(self) -> float:
        """Share of the wall time that was spent in the networks, 0 to 1."""
        return self.denoiser_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """The result of one task; nothing else returns to the driver.

    Attributes:
        samples: Samples read: scored plus rejected.
        scored: Samples with scores.
        flagged: Samples flagged under any seed.
        rejected: Samples rejected.
        seconds: Time of the actor's device: waiting for this task, and at work on it. Tasks
            overlap, these times do not.
        denoiser_seconds: Of that, in the networks: forward evaluations and products.
        product_seconds: Of that, gradients back through the networks.
        preparation_seconds: Time for tokens, text states, noise and probes.
        autoencoder_seconds: Time in the autoencoder.
        waiting_seconds: Time that the device waited while the actor had tasks: reading and
            committing.
        localized: Samples that got maps.
        screened: Samples that the screen dropped before they were sampled.
        reasons: Samples rejected, by reason.
        recalled: Samples whose rows are a copy's, scored before.
        redone: Samples whose numbers are float32's, because the scan's own precision gave none.
        evaluations: Of networks, by kind, and draws.
        effort: The actor's own, up to here.
    """

    samples: int
    scored: int
    flagged: int
    rejected: int
    seconds: float
    denoiser_seconds: float
    product_seconds: float = 0.0
    preparation_seconds: float = 0.0
    autoencoder_seconds: float = 0.0
    waiting_seconds: float = 0.0
    localized: int = 0
    screened: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    recalled: int = 0
    redone: int = 0
    evaluations: dict[str, int] = field(default_factory=dict)
    usage: ActorUsage = field(default_factory=ActorUsage)

    @classmethod
    def names(cls) -> list[str]:
        """Return what a commit records of them."""
        return [name for name in cls.__slots__ if name != "usage"]

    def facts(self) -> dict[str, Any]:
        """Return the same with the numbers."""
        return {name: getattr(self, name) for name in self.names()}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in a process that survived it.

    Attributes:
        error: The exception that it is to the driver, or null for one that nobody foresaw.
        text: One line.
        details: The traceback, where the exception was not foreseen.
        usable: Whether the process can be trusted with further work.
    """

    error: type[ScannerError] | None
    text: str
    details: str = ""
    usable: bool = True


def build_scanner(job: Job, device: str, *, loaded: "Loaded | None" = None) -> "Scanner":
    """Load the networks that a job names and return a scanner on a device.

    Args:
        job: The scan.
        device: Where the networks go.
        loaded: The same networks, where they are on the device already.

    Raises:
        ConfigError: If a model, a baseline or a calibration cannot be read.
    """
    from scanner.scan.scanner import Scanner

    def load(dtype: str) -> "Loaded":
        denoiser = models.load(
            job.model, device=device, dtype=dtype, side=job.spec.size, overlay=job.overlay
        )
        if job.baseline is None:
            return denoiser, None
        network = models.load_baseline(job.baseline, denoiser, dtype)
        return denoiser, (models.baseline_name(job.baseline), network)

    denoiser, baseline = loaded or load(job.spec.dtype)
    null, of_images = (
        None if path is None else calibration.load(path)
        for path in (job.calibration, job.image_calibration)
    )
    return Scanner(
        denoiser, job.spec, baseline=baseline, calibration=null, image_calibration=of_images,
        batch_size=job.batch_size, precise=lambda: load("float32"),
    )  # fmt: skip


class Worker:
    """Loads the model once and scans what it is handed.

    `scan` may be called from several threads at once: each reads its task's shard, waits for
    the one thread that has the device, and encodes and commits the rows, so that the device has
    the next task while the last one is written. What they hold at a time are captions without
    images, and the maps of localized ones; images are read one by one, after that.

    Args:
        job: The scan.
        run: Name of the run to commit under.
        device: ``cpu``, ``cuda`` or ``mps``.
        threads: Threads for work on the CPU.
        build: Makes the scanner.
        fingerprint: What the model must be, or ``""`` to take it on trust.
        finder: Knows which captions are scored already; null knows none. Not asked where images
            are scored: what a sample's rows are then is not decided by its caption.
    """

    def __init__(
        self, job: Job, run: str, device: str, threads: int, build: ScannerFactory,
        fingerprint: str = "", finder: ScoreFinder | None = None,
    ) -> None:  # fmt: skip
        self._job, self._run, self._device, self._threads = job, run, device, threads
        self._build, self._fingerprint = build, fingerprint
        self._scanner: Scanner | None = None
        self._is_closed = False
        self._compute: ComputeThread | None = None
        self._results = Results(job.results)
        at_image = job.spec.source != "generated"
        self._recall = (
            None if finder is None or at_image else ScoreCacheReader(self._results, finder)
        )

    def open(self) -> ActorInfo | Failure:
        """Load the model."""
        return _answered(self._open)

    def scan(self, task: Task) -> ChunkReport | Failure:
        """Scan and, unless it is a trial, commit."""
        answer = _answered(lambda: self._scan(task))
        if isinstance(answer, Failure) and self._device == "cuda" and answer.error is None:
            return Failure(None, answer.text, answer.details, usable=_cuda_works())
        return answer

    def close(self, seconds: float) -> None:
        """Give up what is being scanned and let the model go.

        Args:
            seconds: How long to wait for the evaluation that a network is at.
        """
        self._is_closed = True
        if self._compute is not None:
            self._compute.close(seconds)

    def _open(self) -> ActorInfo:
        start = time.perf_counter()
        own = models.fingerprint(self._job.model, self._job.overlay) if self._fingerprint else ""
        if own != self._fingerprint:
            raise ConfigError(
                f"{self._job.model} on {platform.node()} is not the model that the driver "
                f"has ({self._fingerprint}): put the same files on every node"
            )
        if self._fingerprint and self._run not in self._results.runs():
            raise ConfigError(
                f"{self._job.results} on {platform.node()} does not show the run that the driver "
                f"began there: results must lie on storage that every node shares"
            )
        self._scanner = self._build(self._job, self._device)
        self._compute = ComputeThread(self._scanner, self._threads)
        if self._is_closed:  # while the model was being loaded
            self._compute.close(0)
        name, gpu = _device(self._device)
        seconds = time.perf_counter() - start
        return ActorInfo(os.getpid(), platform.node(), name, self._threads, seconds, gpu)

    def _scan(self, task: Task) -> ChunkReport:
        if self._scanner is None or self._compute is None:
            raise RuntimeError("a worker was handed a task before it was opened")
        with self._compute.task():
            return self._scanned(task, self._scanner, self._compute)

    def _scanned(self, task: Task, scanner: "Scanner", compute: ComputeThread) -> ChunkReport:
        captions, rejects = self._sorted_out(task, scanner)
        known = {} if self._recall is None else self._recall.rows(list(captions.values()))
        work = compute.scan(ScanRequest(list(captions.values()), known, task.alone))
        images = _images(task, captions) if self._job.images else _no_images
        result = scanner.rows(work, images)
        result.rejects.extend(rejects)
        samples, rejected = task.stop - task.start, len(result.rejects)
        counts = ChunkReport(
            samples=samples, scored=samples - rejected, rejected=rejected,
            flagged=len({row.caption.key for row in result.scores if row.flagged}),
            seconds=work.cost.seconds, **_seconds_of(work.cost.parts),
            localized=len({row.caption.key for row in result.scores if row.stage == "localize"}),
            screened=len({row.caption.key for row in result.scores if row.stage == "screen"}),
            reasons=dict(Counter(reject.reason for reject in result.rejects)),
            recalled=work.samples(work.cached), redone=work.samples(work.rescored),
            evaluations=dict(work.cost.evaluations),
            usage=self._usage(scanner, compute),
        )  # fmt: skip
        if not task.trial:
            facts = task.unit.place.as_json() | counts.facts()
            extra = list(scanner.extra_columns)
            self._results.commit(self._run, task.unit.name, result, extra=extra, facts=facts)
            if self._recall is not None:
                self._recall.add(self._run, task.unit.name, work.verdicts.keys())
        return counts

    def _sorted_out(
        self, task: Task, scanner: "Scanner"
    ) -> tuple[dict[int, Caption], list[Reject]]:
        """Return what to scan, by position in the chunk, and what is rejected.

        Images that are scored are decoded here, in the thread that reads.
        """
        captions, rejects = dict[int, Caption](), list[Reject]()
        for position, item in _read(task, self._job.spec):
            taken = item if isinstance(item, Reject) else scanner.draws_of(item)
            if isinstance(taken, Reject):
                rejects.append(taken)
            else:
                captions[position] = taken
        return captions, rejects

    def _usage(self, scanner: "Scanner", compute: ComputeThread) -> ActorUsage:
        sizes = {name: size.size for name, size in scanner.sizes.items()}
        shortages = sum(size.shortages for size in scanner.sizes.values())
        parts = _seconds_of(scanner.parts | {"waiting": compute.waiting})
        return ActorUsage(compute.seconds, **parts, batch_sizes=sizes, shortages=shortages)


def _seconds_of(parts: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by part as `ChunkReport` and `ActorUsage` name them."""
    network, product = parts.get("network", 0.0), parts.get("product", 0.0)
    others = ("preparation", "autoencoder", "waiting")
    return {"denoiser_seconds": network + product, "product_seconds": product} | {
        f"{name}_seconds": parts.get(name, 0.0) for name in others
    }


def index_shard(url: str, chunk_size: int, finished: frozenset[str]) -> ShardIndex | str | Failure:
    """Count a shard; of one that is committed whole, return the identity without opening it."""

    def look() -> ShardIndex | str:
        shard = reading.stat(url)
        return shard.id if shard.id in finished else reading.index(shard, chunk_size)

    return _answered(look)


def _read(task: Task, spec: ScanSpec) -> Iterator[tuple[int, Caption | Reject]]:
    """Yield a task's samples with their positions in the chunk, the poisoned as rejects.

    Args:
        task: What to read.
        spec: Says whether images or captions are scored, or both.

    Raises:
        ShardError: If the shard has fewer samples than when it was counted.
    """
    images = spec.source != "generated"
    samples = reading.read(task.unit.chunk, images=images, captions=spec.captions)
    items = islice(samples, task.start, task.stop)
    poison, end = dict(task.poison), task.start
    for position, item in enumerate(items, task.start):
        end = position + 1
        reason = None if isinstance(item, Reject) else poison.get(position)
        if reason is not None and not isinstance(item, Reject):
            text = reproducible(reason.partition("\n")[0])
            yield position, Reject(item.shard, item.key, RejectReason.POISON, text, item.sha256)
        else:
            yield position, item
    if end != task.stop:
        raise ShardError(
            f"{task.unit.chunk.shard.url} has changed since it was counted: "
            f"chunk {task.unit.chunk.number} ends after {end} samples, not {task.stop}"
        )


def _images(task: Task, captions: Mapping[int, Caption]) -> "Images":
    """Return what reads the images of captions, which it is given as numbers in their order."""
    positions = list(captions)

    def images(wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        numbers = {positions[number]: number for number in wanted}
        keys = {position: captions[position].key for position in numbers}
        for position, content in reading.pictures(task.unit.chunk, keys):
            yield numbers[position], content

    return images


def _no_images(_: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    yield from ()


def _answered(work: Callable[[], T]) -> T | Failure:
    """Return what work returns, or its failure as a value that crosses processes."""
    try:
        return work()
    except EXPECTED_ERRORS as error:
        return Failure(next(k for k in EXPECTED_ERRORS if isinstance(error, k)), str(error))
    except Exception as error:  # the edge of the process: what is not caught here is lost
        text = redacted(f"{type(error).__name__}: {error}")
        return Failure(None, text, redacted(traceback.format_exc()))


def _device(device: str) -> tuple[str, str]:
    """Return the name of this process's device, and what tells its GPU from all others."""
    import torch

    if device == "cuda":
        facts = torch.cuda.get_device_properties(torch.cuda.current_device())
        if (uuid := getattr(facts, "uuid", None)) is not None:
            return facts.name, str(uuid)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    ray = sys.modules.get("ray")  # absent where the scan is local
    if ray is None or not ray.is_initialized():
        return name, ""
    here = ray.get_runtime_context()
    numbers = ",".join(here.get_accelerator_ids().get("GPU", ()))
    return name, f"{platform.node()}/{here.get_node_id()}:{numbers}" if numbers else ""


def _cuda_works() -> bool:
    """Whether the device still answers; after some errors a process cannot use it again."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
