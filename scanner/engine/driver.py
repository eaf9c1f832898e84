"""One scan from start to end: plans, hands out, counts, records. Holds no caption."""

import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from typing import Any

import ray
from ray.exceptions import RayError

from scanner.engine import heartbeat, score_index
from scanner.engine.cluster import cluster
from scanner.engine.identity import identify
from scanner.engine.indexing import LATE_SECONDS, ShardIndexer
from scanner.engine.job import Event, Job, Resources, Summary
from scanner.engine.metrics import Metrics
from scanner.engine.plan import CommitIndex, Plan, WorkUnit
from scanner.engine.pool import (
    DIED,
    GONE,
    IN_FLIGHT,
    ActorLost,
    ActorReady,
    Pool,
    PoolEvent,
    TaskReturned,
)
from scanner.engine.queue import MOST_FAILURES_IN_A_ROW, Queue, Task
from scanner.engine.record import RunRecord
from scanner.engine.worker import ChunkReport, Failure, ScannerFactory, Worker, build_scanner
from scanner.errors import ClusterError, ConfigError, DeviceError, ShardError
from scanner.models.device import choose_device
from scanner.records import parts_of
from scanner.results.folder import Results
from scanner.results.lease import Lease
from scanner.shards.reading import ShardIndex

STALL_SECONDS = 1800.0
"""A task that runs longer is taken away from its actor and tried elsewhere."""
MOST_INDEXING_TASKS = 32
"""Shards that are counted at a time, at most; a quarter of the CPUs if that is less."""


def scan(
    job: Job, resources: Resources, progress: Callable[[Event], None], *,
    stall_seconds: float = STALL_SECONDS, build: ScannerFactory = build_scanner,
) -> Summary:  # fmt: skip
    """Scan what is not yet scanned, and commit it chunk by chunk.

    Run again after any end, it goes on where the commits stop; no row comes twice. What cannot
    be scanned is in the summary and in the run's record, and does not stop the rest.

    Args:
        job: What to scan.
        resources: Where and how wide.
        progress: Called in this process with everything that happens.
        stall_seconds: How long one task may run.
        build: Makes an actor's scanner; must be picklable.

    Returns:
        The summary, also of an incomplete scan.

    Raises:
        ConfigError: If the model, the baseline or the calibration cannot be used, or another
            process scans the same run.
        ResultsError: If results cannot be written.
        ClusterError: If processes die faster than they can be replaced.
        ClusterLostError: If the cluster goes away.
        LeaseError: If this process stood still and another one took the run over.
        KeyboardInterrupt: On SIGINT or SIGTERM, after the run is marked interrupted.
    """
    who, results = identify(job), Results(job.results)
    results.check()

    def told(text: str) -> None:
        progress(Event("wait", 0, 0, 0, 0, text, run=who.run))

    with (
        _interruptible(),
        Lease(results.store, f"leases/{who.run}", f"scan of run {who.run}", told=told) as lease,
    ):
        record = RunRecord.begin(results, who.run, who.job, who.model, who.calibration)
        # Twice: Ray may take long to start, and then has a handler of its own.
        with record, cluster(resources.address), _interruptible():
            job = replace(who.job, chunk_size=record.chunk_size)
            drive = _ScanRun(job, resources, progress, results, record, lease)
            start = drive.starter(build, who.model if resources.joins else "")
            drive.run(Pool(start, drive.size, stall_seconds, one_gpu_each=drive.one_gpu_each))
    return drive.summary


class _ScanRun:
    """The state of one scan in the driver."""

    def __init__(
        self, job: Job, resources: Resources, progress: Callable[[Event], None],
        results: Results, record: RunRecord, lease: Lease,
    ) -> None:  # fmt: skip
        self._job, self._progress, self._results, self._record = job, progress, results, record
        self.summary, self._lease = record.summary, lease
        self._run = self.summary.run
        have = ray.cluster_resources()
        self.device, self.size, self._share, self._threads = placement(resources, have)
        self._memory: Any = None
        self._queue = Queue()
        commits = results.commits(self._run)
        record.add_commits(commits.values())
        commit_index = CommitIndex(commits)
        self._plan = Plan(commit_index, job.limit, resources.most_samples)
        hours = math.inf if resources.hours is None else resources.hours
        self._deadline = time.monotonic() + 3600 * hours
        urls = tuple(dict.fromkeys(job.shards))
        width = max(2, min(MOST_INDEXING_TASKS, int(have.get("CPU", 0)) // 4))
        in_order = job.limit is not None or resources.most_samples is not None
        self._survey = ShardIndexer(
            urls, job.chunk_size, commit_index.finished(), width, in_order=in_order
        )  # fmt: skip
        self._metrics = Metrics(self._run)
        self._shards_counted, self._shards_total = 0, len(urls)
        self._pool: Pool | None = None
        self._failed_in_row = 0
        self._seconds, self._parts = 0.0, Counter[str]()

    @property
    def one_gpu_each(self) -> bool:
        """Whether every actor has a GPU of its own."""
        return self._share.get("num_gpus", 0.0) >= 1

    def starter(self, build: ScannerFactory, fingerprint: str) -> Callable[[], Any]:
        """Return what starts one actor, and with the first the memory that all of them ask."""
        actor = ray.remote(Worker).options(
            **self._share, max_restarts=0, max_task_retries=0, max_concurrency=IN_FLIGHT
        )

        def start() -> Any:
            return actor.remote(
                self._job, self._run, self.device, self._threads, build, fingerprint,
                self._finder(),
            )  # fmt: skip

        return start

    def _finder(self) -> score_index.ScoreIndexClient | None:
        """Return what knows the captions that are scored already; null where images are scored."""
        if self._job.spec.source != "generated":
            return None
        if self._memory is None:
            like = score_index.runs_like(self._results, self._run, self._record.identity)
            self._memory = score_index.start(self._job.results, like)
        return score_index.ScoreIndexClient(self._memory)

    def run(self, pool: Pool) -> None:
        """Run until everything is committed or given up."""
        self._pool = pool
        try:
            self._loop(pool)
        except RayError as error:
            raise ClusterError(f"Ray went away ({error}): run again to resume") from error
        finally:
            pool.close()
            if self._memory is not None:
                ray.kill(self._memory)
            self._survey.stop()
        self._emit("end", f"{self.summary.samples} samples committed")

    def _loop(self, pool: Pool) -> None:
        while True:
            self._lease.check()
            heartbeat.check()
            for url, answer in self._survey.answers():
                self._add_shard(url, answer)
            for url in self._survey.late():
                text = f"{url} is still being counted after {LATE_SECONDS:g} s"
                self._emit("wait", text, shard=url)
            if self._plan.is_full:
                self._survey.stop()
                self._shards_total = self._shards_counted
            if time.monotonic() > self._deadline:
                self._survey.stop()
                self._queue.clear()
            outstanding = len(self._queue) + pool.in_flight
            if not outstanding and self._survey.is_over:
                return
            pool.grow(outstanding)
            pool.hand_out(self._queue)
            refs = pool.refs + self._survey.refs
            if refs and ray.wait(refs, timeout=1.0)[0]:
                ready = set(ray.wait(refs, num_returns=len(refs), timeout=0)[0])
                for happening in pool.events(ready):
                    self._note(happening)
                    self._note_actors(pool)
            pool.stop_stalled()

    def _add_shard(self, url: str, answer: ShardIndex | str | Failure) -> None:
        skipped = len(self._plan.skipped)
        self._shards_counted += 1
        if isinstance(answer, Failure):
            if answer.error is ConfigError:
                raise ConfigError(answer.text)
            text = answer.text if answer.error else f"{url} could not be counted: {answer.text}"
            self._incomplete(text, url)
            return
        if isinstance(answer, str):
            problem = self._plan.skip(answer)
        else:
            problem = answer.problem
            for unit in self._plan.work_units(answer):
                self._queue.add(unit)
        for facts in self._plan.skipped[skipped:]:
            self._count(facts)
            self.summary.chunks_skipped += 1
        if problem is not None:
            self._incomplete(problem if url in problem else f"{url}: {problem}", url)
        self._emit("index", url, shard=url)

    def _note(self, happening: PoolEvent) -> None:
        match happening:
            case ActorReady(facts):
                text = f"{facts.device} on {facts.node} in {facts.seconds:.1f} s"
                self._emit("worker", text, actor=facts.name)
            case TaskReturned(task, ChunkReport() as counts, actor):
                self._returned(task, counts, actor)
            case TaskReturned(task, Failure() as failure):
                self._refused(task, failure)
            case ActorLost():
                self._lost(happening)

    def _note_actors(self, pool: Pool) -> None:
        self._record.actors = list(zip(pool.facts, pool.efforts, strict=True))
        self.summary.actors = [
            {"name": f.name, "device": f.device, "gpu": f.gpu, "denoiser_share": effort.share}
            for f, effort in self._record.actors
        ]

    def _returned(self, task: Task, counts: ChunkReport, actor: str) -> None:
        if task.proves:
            self._failed_in_row = 0
        self._seconds += counts.seconds
        self._parts.update(parts_of(counts.facts()))
        whole = max(self._seconds, 1e-9)
        shares = {name: seconds / whole for name, seconds in self._parts.items()}
        self.summary.denoiser_share = shares["network"] + shares["product"]
        self.summary.time_shares = shares
        self._queue.succeeded(task)
        if not task.trial:
            self._committed(task.unit, counts.facts(), actor)

    def _committed(self, unit: WorkUnit, facts: dict[str, Any], actor: str) -> None:
        self._count(facts)
        self._record.add_commit(unit.facts())
        self.summary.chunks_done += 1
        counts = {name: facts[name] for name in ChunkReport.names() if name in facts}
        self._emit("chunk", unit.name, **_about(unit), actor=actor, counts=counts)

    def _refused(self, task: Task, failure: Failure) -> None:
        if not failure.usable and not task.alone:
            self._retry_apart([task], failure.text)
        elif failure.error is DeviceError:
            self._queue.give_back(task)
        elif failure.error is None:
            self._failed(task, f"{failure.text}\n{failure.details}".strip())
        elif failure.error is ShardError:
            if not self._queue.unreadable(task):
                self._incomplete(failure.text, task.unit.chunk.shard.url)
        else:
            raise failure.error(failure.text)

    def _lost(self, lost: ActorLost) -> None:
        """Sort out what a lost actor had: committed after all, to blame, or not begun."""
        doing = f"with {lost.tasks[0].unit.name}" if lost.tasks else "while it waited"
        self._emit("lost", f"a worker was lost {doing}: {lost.reason}", actor=lost.actor)
        left = list[Task]()
        for task in lost.tasks:
            facts = self._results.read_commit(self._run, task.unit.name)
            if task.trial or facts is None:
                left.append(task)
            else:
                self._queue.succeeded(task)
                self._committed(task.unit, facts, lost.actor)
        left = [task for task in left if not self._queue.is_over(task)]
        if lost.blames and len(left) == 1 == len(lost.tasks):
            # The reason is stored in the reject, so it must not depend on timing.
            self._failed(left[0], DIED if lost.reason in GONE else lost.reason)
        elif lost.blames and left:
            self._retry_apart(left, lost.reason)
        else:
            for task in reversed(left):
                self._queue.give_back(task)

    def _retry_apart(self, tasks: list[Task], reason: str) -> None:
        """Have tasks tried alone, of which one may have ended its actor."""
        self._fail(reason, tasks[0].unit.name)
        for task in reversed(tasks):
            self._queue.give_back(task, suspect=True)
        names = ", ".join(task.unit.name for task in tasks)
        self.summary.retries += len(tasks)
        self._emit("retry", f"{reason.partition(chr(10))[0]}; each is tried alone: {names}")

    def _fail(self, reason: str, name: str) -> None:
        """Count an attempt that came to nothing.

        Raises:
            ClusterError: If there were too many in a row.
        """
        self._failed_in_row += 1
        if self._failed_in_row > MOST_FAILURES_IN_A_ROW + 4 + 2 * self.size:
            raise ClusterError(
                f"{self._failed_in_row} attempts failed in a row, the last at {name} "
                f"({reason.partition(chr(10))[0]}): what is committed is kept; run again to resume"
            )

    def _failed(self, task: Task, reason: str) -> None:
        self._fail(reason, task.unit.name)
        line = reason.partition("\n")[0]
        given_up = len(self._queue.quarantined)
        self._queue.failed(task, reason)
        self.summary.quarantined = list(self._queue.quarantined)
        kind = "retry" if len(self._queue.quarantined) == given_up else "quarantine"
        self.summary.retries += kind == "retry"
        self._emit(kind, f"{task.unit.name}: {line}", **_about(task.unit))

    def _count(self, facts: Any) -> None:
        for name in (
            "samples", "scored", "localized", "screened", "flagged", "rejected", "recalled",
        ):  # fmt: skip
            setattr(self.summary, name, getattr(self.summary, name) + facts.get(name, 0))
        for name, number in facts.get("evaluations", {}).items():
            self.summary.evaluations[name] = self.summary.evaluations.get(name, 0) + number

    def _incomplete(self, text: str, shard: str) -> None:
        if text not in self.summary.incomplete:
            self.summary.incomplete.append(text)
            self._emit("problem", text, shard=shard)

    def _emit(self, kind: str, text: str, **facts: Any) -> None:
        done = self.summary
        event = Event(
            kind, done.samples, self._plan.total, done.flagged, done.rejected, text,
            run=self._run, scored=done.scored, localized=done.localized, retries=done.retries,
            quarantined=len(done.quarantined), shards_counted=self._shards_counted,
            shards_total=self._shards_total, waiting=len(self._queue),
            running=self._pool.in_flight if self._pool else 0,
            **facts,
        )  # fmt: skip
        self._metrics(event)
        self._progress(event)


def _about(unit: WorkUnit) -> dict[str, str]:
    return {"shard": unit.chunk.shard.url, "chunk": unit.name}


def placement(
    resources: Resources, have: Mapping[str, float]
) -> tuple[str, int, dict[str, float], int]:
    """Return device, number of actors, what Ray reserves for each, and threads of each.

    More local actors than devices share them evenly; in a cluster that may grow, each actor
    asks for a whole one.

    Args:
        resources: What is asked.
        have: What Ray has, by its names: ``CPU`` and ``GPU``.

    Raises:
        ConfigError: If CUDA is asked for and no node has a GPU.
    """
    cpus, gpus = max(1, int(have.get("CPU", 1))), int(have.get("GPU", 0))
    device = resources.device
    if device != "cuda" or not resources.joins:  # a cluster may still get its GPUs
        device = choose_device(device, gpus, "Ray")
    units = max(1, gpus) if device == "cuda" else cpus
    size = resources.actors or units
    # Ray counts in ten thousandths and rounds: rounded up, the last actor would find no place.
    share = 1.0 if resources.joins else 10_000 // ceil(size / units) / 10_000
    threads = resources.threads or max(1, cpus // size)
    if device == "cuda":
        return device, size, {"num_gpus": share, "num_cpus": 0}, threads
    return device, size, {"num_cpus": share}, threads


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
