"""The worker that a runtime calls: it holds a model and scans tasks."""

import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from scanner import models
from scanner.activity import Activity
from scanner.engine.compute import ComputeThread, ScanRequest
from scanner.engine.devices import cuda_works, name_and_gpu
from scanner.engine.failures import Failure, value_or_failure
from scanner.engine.job import Job
from scanner.engine.queue import Task
from scanner.engine.reports import ActorInfo, ActorUsage, ChunkReport, seconds_by_part
from scanner.engine.samples import image_reader, no_images, read_samples
from scanner.errors import ConfigError
from scanner.records import Caption, Reject
from scanner.results.folder import Results
from scanner.results.score_cache import ScoreCacheReader, ScoreFinder
from scanner.statistics import calibration

if TYPE_CHECKING:
    from scanner.scan.networks import Loaded
    from scanner.scan.profiling import BatchProfiler
    from scanner.scan.scanner import Scanner

ScannerFactory = Callable[..., "Scanner"]
"""From a job and a device to a scanner; called once in every actor, with ``gpus`` if they are
several."""


def build_scanner(
    job: Job, device: str, *, loaded: "Loaded | None" = None, gpus: int = 1
) -> "Scanner":
    """Load the networks that a job names and return a scanner on a device.

    Args:
        job: The scan.
        device: Where the networks go.
        loaded: The same networks, where they are on the device already.
        gpus: Over how many of this process's GPUs the networks are spread.

    Raises:
        ConfigError: If a model, a baseline or a calibration cannot be read.
    """
    from scanner.models.base import Compiles
    from scanner.scan.scanner import Scanner

    def load(dtype: str) -> "Loaded":
        denoiser = models.load(
            job.model, device=device, dtype=dtype, side=job.spec.size, overlay=job.overlay,
            offload=job.offload, gpus=gpus,
        )  # fmt: skip
        return denoiser, models.load_baselines(job.baselines, denoiser, dtype)

    denoiser, baselines = loaded or load(job.spec.dtype)
    if job.compile and isinstance(denoiser, Compiles):
        denoiser.compile_blocks(job.batch_size)
    null, of_images = (
        None if path is None else calibration.load(path)
        for path in (job.calibration, job.image_calibration)
    )
    return Scanner(
        denoiser, job.spec, baselines=baselines, calibration=null, image_calibration=of_images,
        batch_size=job.batch_size, precise=lambda: load("float32"), in_powers=job.compile,
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
        profiled: Whether it records some of its batches and reports the trace.
    """

    def __init__(
        self, job: Job, run: str, device: str, threads: int, build: ScannerFactory,
        fingerprint: str = "", finder: ScoreFinder | None = None, profiled: bool = False,
    ) -> None:  # fmt: skip
        self._job, self._run, self._device, self._threads = job, run, device, threads
        self._build, self._fingerprint = build, fingerprint
        self._scanner: Scanner | None = None
        self._is_closed = False
        self._compute: ComputeThread | None = None
        self._profiled = profiled
        self._profiler: BatchProfiler | None = None
        self._results = Results(job.results)
        at_image = job.spec.source != "generated"
        self._earlier_scores = (
            None if finder is None or at_image else ScoreCacheReader(self._results, finder)
        )

    def open(self) -> ActorInfo | Failure:
        """Load the model."""
        return value_or_failure(self._open)

    def scan(self, task: Task) -> ChunkReport | Failure:
        """Scan and, unless it is a trial, commit."""
        answer = value_or_failure(lambda: self._scan(task))
        if isinstance(answer, Failure) and self._device == "cuda" and answer.error is None:
            return Failure(None, answer.text, answer.details, usable=cuda_works())
        return answer

    def activity(self) -> Activity:
        """Return what the device is at."""
        return Activity() if self._scanner is None else self._scanner.activity()

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
        self._profiler = self._scanner.profile() if self._profiled else None
        self._compute = ComputeThread(self._scanner, self._threads)
        if self._is_closed:  # while the model was being loaded
            self._compute.close(0)
        name, gpu = name_and_gpu(self._device)
        seconds = time.perf_counter() - start
        pace = self._sample_seconds(self._scanner) if self._job.chunk_size is None else 0.0
        return ActorInfo(os.getpid(), platform.node(), name, self._threads, seconds, gpu, pace)

    def _sample_seconds(self, scanner: "Scanner") -> float:
        """Return about how long a sample takes; 0 if that cannot be measured, which harms nobody.

        What ails the device will show in the scan itself.
        """
        from scanner.scan.speed import sample_seconds

        try:
            return sample_seconds(scanner.network, self._job.spec)
        except Exception:  # noqa: BLE001 - an estimate, of whatever model
            return 0.0

    def _scan(self, task: Task) -> ChunkReport:
        if self._scanner is None or self._compute is None:
            raise RuntimeError("a worker was handed a task before it was opened")
        with self._compute.task():
            return self._scan_chunk(task, self._scanner, self._compute)

    def _scan_chunk(self, task: Task, scanner: "Scanner", compute: ComputeThread) -> ChunkReport:
        captions, rejects = self._read(task, scanner)
        own, earlier = list(captions.values()), self._earlier_scores
        known = {} if earlier is None else earlier.rows(own)
        chunk = compute.scan(ScanRequest(own, known, task.alone))
        images = image_reader(task, captions) if self._job.images else no_images
        result = scanner.rows(chunk, images)
        result.rejects.extend(rejects)
        samples, rejected = task.stop - task.start, len(result.rejects)
        report = ChunkReport(
            samples=samples, scored=samples - rejected, rejected=rejected,
            flagged=len({row.caption.key for row in result.scores if row.flagged}),
            seconds=chunk.cost.seconds, **seconds_by_part(chunk.cost.parts),
            localized=len({row.caption.key for row in result.scores if row.stage == "localize"}),
            screened=len({row.caption.key for row in result.scores if row.stage == "screen"}),
            reasons=dict(Counter(reject.reason for reject in result.rejects)),
            recalled=chunk.samples(chunk.cached), redone=chunk.samples(chunk.rescored),
            evaluations=dict(chunk.cost.evaluations),
            usage=self._usage(scanner, compute),
            trace=self._profiler.trace() if self._profiler else None,
        )  # fmt: skip
        if not task.trial:
            facts = task.unit.place.as_json() | report.facts()
            extra = list(scanner.extra_columns)
            self._results.commit(self._run, task.unit.name, result, extra=extra, facts=facts)
            if earlier is not None:
                earlier.add(self._run, task.unit.name, chunk.verdicts.keys())
        return report

    def _read(self, task: Task, scanner: "Scanner") -> tuple[dict[int, Caption], list[Reject]]:
        """Return what to scan, by position in the chunk, and what is rejected.

        Images that are scored are decoded here, in the thread that reads.
        """
        captions, rejects = dict[int, Caption](), list[Reject]()
        for position, item in read_samples(task, self._job.spec):
            sample = item if isinstance(item, Reject) else scanner.prepare(item)
            if isinstance(sample, Reject):
                rejects.append(sample)
            else:
                captions[position] = sample
        return captions, rejects

    def _usage(self, scanner: "Scanner", compute: ComputeThread) -> ActorUsage:
        sizes = {name: size.size for name, size in scanner.sizes.items()}
        shortages = sum(size.shortages for size in scanner.sizes.values())
        parts = seconds_by_part(scanner.parts | {"waiting": compute.waiting})
        return ActorUsage(
            compute.seconds, **parts, batch_sizes=sizes, shortages=shortages,
            not_compiled=scanner.not_compiled if self._job.compile else "",
            checkpointed=scanner.checkpointed,
        )  # fmt: skip
