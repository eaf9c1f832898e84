"""The scan loop: counts shards, hands out chunks, sorts out what failed. Holds no caption.

Knows no Ray: a `scanner.engine.runtime.Runtime` makes the calls.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scanner.activity import Trace
from scanner.engine import chunk_size
from scanner.engine.failures import Failure
from scanner.engine.indexing import LATE_SECONDS, ShardIndexer
from scanner.engine.job import CHUNK_SIZE, PHASE, Event, Resources
from scanner.engine.packing import Packer
from scanner.engine.plan import CommitIndex, Plan
from scanner.engine.pool import DIED, GONE, ActorLost, ActorReady, Pool, PoolEvent, TaskReturned
from scanner.engine.queue import MOST_FAILURES_IN_A_ROW, Queue, Task
from scanner.engine.record import RunRecord
from scanner.engine.reporter import Reporter, about
from scanner.engine.reports import ActorUsage, ChunkReport
from scanner.engine.runtime import Runtime, WorkerSetup
from scanner.errors import ClusterError, ConfigError, DeviceError, ShardError
from scanner.results.folder import Results
from scanner.results.lease import Lease
from scanner.shards.reading import ShardIndex

MOST_WAITING = 20_000
"""Tasks that wait for an actor before no further shard is planned."""
STALL_SECONDS = 1800.0
"""A task that runs longer is taken away from its actor and tried elsewhere."""


class ScanLoop:
    """The state of one scan.

    Args:
        setup: What its workers are made from.
        commit_index: What earlier scans of the run committed.
        resources: How much may be scanned, and how long.
        runtime: Where the workers run.
        results: Where rows are committed.
        record: The run's record.
        packer: Makes few files of the many that are committed.
        traces: Called with what the first actor recorded of its batches, each time with more of
            them; null has nothing recorded.
    """

    def __init__(
        self, setup: WorkerSetup, commit_index: CommitIndex, resources: Resources,
        runtime: Runtime, results: Results, record: RunRecord, packer: Packer,
        traces: Callable[[Trace], None] | None = None,
    ) -> None:  # fmt: skip
        self._setup, self._runtime, self._results, self._record = setup, runtime, results, record
        self._packer, job = packer, setup.job
        self._queue = Queue()
        self._plan = Plan(commit_index, job.limit, resources.most_samples)
        hours = math.inf if resources.hours is None else resources.hours
        self._deadline = time.monotonic() + 3600 * hours
        self._urls = tuple(dict.fromkeys(job.shards))
        in_order = job.limit is not None or resources.most_samples is not None
        self._indexer = ShardIndexer(
            runtime, self._urls, job.chunk_size or CHUNK_SIZE, commit_index.finished(),
            in_order=in_order,
        )  # fmt: skip
        self._failed_in_row = 0
        self._traces, self._recorders = traces, 0
        self._said = set[str]()

    def run(
        self, lease: Lease, progress: Callable[[Event], None],
        stall_seconds: float = STALL_SECONDS,
    ) -> None:  # fmt: skip
        """Run until everything is committed or given up.

        Args:
            lease: Shows that no other process has taken the run over.
            progress: Called with every event.
            stall_seconds: How long one task may run.
        """
        pool = Pool(self._runtime, self._start_worker, stall_seconds)
        metrics = self._runtime.metrics(self._setup.run)
        self._report = Reporter(
            self._record, self._plan, self._queue, pool, len(self._urls), metrics, progress
        )
        self._report.emit(PHASE, "counting shards and loading the model")
        try:
            self._settle_chunk_size(pool, lease)
            self._loop(pool, lease)
            pool.close()
            self._pack_the_rest(lease)
        finally:
            self._report.note_actors()
            pool.close()
            self._indexer.stop()
            self._packer.stop()
        self._report.emit("end", f"{self._report.summary.samples} samples committed")

    def _start_worker(self) -> Any:
        """Start a worker; the first one records its batches, if anybody asks for them."""
        self._recorders += 1
        profiled = self._traces is not None and self._recorders == 1
        return self._runtime.start(replace(self._setup, profiled=profiled))

    def _loop(self, pool: Pool, lease: Lease) -> None:
        while True:
            lease.check()
            self._runtime.check()
            self._take_shards()
            outstanding = len(self._queue) + pool.in_flight
            if not outstanding and self._indexer.is_over:
                return
            pool.grow(outstanding)
            pool.hand_out(self._queue)
            self._turn(pool)
            self._pack()

    def _settle_chunk_size(self, pool: Pool, lease: Lease) -> None:
        """Have the first actor say how fast it is, where that decides how many samples a chunk has.

        What is decided stands in the run's history and record before any chunk is handed out.
        """
        while self._setup.job.chunk_size is None and self._runtime.size:
            lease.check()
            self._runtime.check()
            pool.grow(len(self._urls))
            self._turn(pool)
            if pool.facts:
                job = self._setup.job
                size = chunk_size.chosen(job, pool.facts[0].sample_seconds)
                size = self._results.agreed_chunk_size(self._setup.run, size)
                lease.check()
                self._record.keep_chunk_size(size)
                self._setup = replace(self._setup, job=replace(job, chunk_size=size))
                self._indexer.chunk_size = size
                self._report.emit(PHASE, f"{size} samples a chunk")

    def _turn(self, pool: Pool) -> None:
        """Wait for something to happen, and note what did."""
        refs = pool.refs + self._packer.refs
        ready = self._runtime.ready(refs + (self._indexer.refs if self._has_room else []), 1.0)
        for happening in pool.events(ready):
            self._note(happening)
        for busy in pool.activities():
            self._report.activity(busy)
        pool.stop_stalled()

    @property
    def _has_room(self) -> bool:
        """Whether further shards are planned: what waits for an actor takes memory."""
        return len(self._queue) < MOST_WAITING

    def _pack(self, *, is_last: bool = False) -> None:
        if problem := self._packer.step(is_last=is_last):
            self._report.emit("problem", problem)

    def _pack_the_rest(self, lease: Lease) -> None:
        """Pack what a long run still has in small files."""
        self._pack(is_last=True)
        if self._packer.refs:
            self._report.emit(PHASE, "packing small files into large ones")
        while self._packer.refs:
            lease.check()
            self._runtime.check()
            self._runtime.ready(self._packer.refs, 1.0)
            self._pack(is_last=True)

    def _take_shards(self) -> None:
        """Plan the shards that are counted, as far as limit, time and memory go."""
        if self._has_room:
            self._plan_shards()
        if time.monotonic() > self._deadline:
            self._indexer.stop()
            self._queue.clear()

    def _plan_shards(self) -> None:
        for url, answer in self._indexer.answers():
            self._add_shard(url, answer)
            if self._plan.is_full or not self._has_room:
                break
        for url in self._indexer.late():
            text = f"{url} is still being counted after {LATE_SECONDS:g} s"
            self._report.emit("wait", text, shard=url)
        if self._plan.is_full:
            self._indexer.stop()
            self._report.shards_total = self._report.shards_counted

    def _add_shard(self, url: str, answer: ShardIndex | str | Failure) -> None:
        skipped = len(self._plan.skipped)
        self._report.shards_counted += 1
        if isinstance(answer, Failure):
            if answer.error is ConfigError:
                raise ConfigError(answer.text)
            text = answer.text if answer.error else f"{url} could not be counted: {answer.text}"
            self._report.incomplete(text, url)
            return
        if isinstance(answer, str):
            problem = self._plan.skip(answer)
        else:
            problem = answer.problem
            for unit in self._plan.work_units(answer):
                self._queue.add(unit)
        for record in self._plan.skipped[skipped:]:
            self._report.skipped(record)
        if problem is not None:
            self._report.incomplete(problem if url in problem else f"{url}: {problem}", url)
        self._report.emit("index", url, shard=url)

    def _note(self, happening: PoolEvent) -> None:
        match happening:
            case ActorReady(facts):
                text = f"{facts.device} on {facts.node} in {facts.seconds:.1f} s"
                self._report.emit("worker", text, actor=facts.name)
            case TaskReturned(task, ChunkReport() as counts, actor):
                self._returned(task, counts, actor)
            case TaskReturned(task, Failure() as failure):
                self._refused(task, failure)
            case ActorLost():
                self._lost(happening)

    def _returned(self, task: Task, counts: ChunkReport, actor: str) -> None:
        if task.proves:
            self._failed_in_row = 0
        self._report.spent(counts)
        self._say_of(counts.usage, actor)
        if counts.trace is not None and self._traces is not None:
            self._traces(counts.trace)
        self._queue.succeeded(task)
        if not task.trial:
            self._packer.add_commit()
            self._report.committed(task.unit, counts.facts(), actor)

    def _say_of(self, usage: ActorUsage, actor: str) -> None:
        """Say once that actors are not compiled though they should be, or take maps more slowly."""
        if usage.not_compiled:
            without = "--compile is without effect, the network runs as it does without: "
            self._say_once(without, usage.not_compiled, actor)
        if usage.checkpointed:
            less = "the maps of one draw do not fit into memory as they are: "
            more = (
                "from now on what the network's blocks compute is computed again for each product"
            )
            self._say_once(less, more, actor)

    def _say_once(self, what: str, more: str, actor: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._report.emit("problem", what + more, actor=actor)

    def _refused(self, task: Task, failure: Failure) -> None:
        if not failure.usable and not task.alone:
            self._retry_apart([task], failure.text)
        elif failure.error is DeviceError:
            self._queue.give_back(task)
        elif failure.error is None:
            self._record_failure(task, f"{failure.text}\n{failure.details}".strip())
        elif failure.error is ShardError:
            if not self._queue.unreadable(task):
                self._report.incomplete(failure.text, task.unit.chunk.shard.url)
        else:
            raise failure.error(failure.text)

    def _lost(self, lost: ActorLost) -> None:
        """Sort out what a lost actor had: committed after all, to blame, or not begun."""
        doing = f"with {lost.tasks[0].unit.name}" if lost.tasks else "while it waited"
        self._report.emit("lost", f"a worker was lost {doing}: {lost.reason}", actor=lost.actor)
        left = list[Task]()
        for task in lost.tasks:
            record = self._results.read_commit(self._setup.run, task.unit.name)
            if task.trial or record is None:
                left.append(task)
            else:
                self._queue.succeeded(task)
                self._packer.add_commit()
                self._report.committed(task.unit, record.content, lost.actor)
        left = [task for task in left if not self._queue.is_over(task)]
        if lost.blames and len(left) == 1 == len(lost.tasks):
            # A reject tells it, and rows must not depend on the moment.
            self._record_failure(left[0], DIED if lost.reason in GONE else lost.reason)
        elif lost.blames and left:
            self._retry_apart(left, lost.reason)
        else:
            for task in reversed(left):
                self._queue.give_back(task)

    def _retry_apart(self, tasks: list[Task], reason: str) -> None:
        """Have tasks tried alone, of which one may have ended its actor."""
        self._count_failure(reason, tasks[0].unit.name)
        for task in reversed(tasks):
            self._queue.give_back(task, suspect=True)
        names = ", ".join(task.unit.name for task in tasks)
        self._report.summary.retries += len(tasks)
        self._report.emit("retry", f"{reason.partition(chr(10))[0]}; each is tried alone: {names}")

    def _count_failure(self, reason: str, name: str) -> None:
        """Count an attempt that came to nothing.

        Raises:
            ClusterError: If there were too many in a row.
        """
        self._failed_in_row += 1
        if self._failed_in_row > MOST_FAILURES_IN_A_ROW + 4 + 2 * self._runtime.size:
            raise ClusterError(
                f"{self._failed_in_row} attempts failed in a row, the last at {name} "
                f"({reason.partition(chr(10))[0]}): what is committed is kept; run again to resume"
            )

    def _record_failure(self, task: Task, reason: str) -> None:
        self._count_failure(reason, task.unit.name)
        line = reason.partition("\n")[0]
        given_up = len(self._queue.quarantined)
        self._queue.failed(task, reason)
        self._report.summary.quarantined = list(self._queue.quarantined)
        kind = "retry" if len(self._queue.quarantined) == given_up else "quarantine"
        self._report.summary.retries += kind == "retry"
        self._report.emit(kind, f"{task.unit.name}: {line}", **about(task.unit))
