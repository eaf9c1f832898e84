"""Actors that are not there: they take their time, commit their chunks, and die.

`SimulatedRuntime` is a `scanner.engine.runtime.Runtime`. An actor's device does its tasks one
after another; its commit goes through the real store's code. What becomes of the answer
(`WorkerLost` for every task of an actor that died) is the engine's business.
"""

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from simulated_store import Clock

from scanner.engine.indexing import index_shard
from scanner.engine.job import Event
from scanner.engine.packing import pack
from scanner.engine.pool import NODE_DIED
from scanner.engine.queue import Task
from scanner.engine.reports import ActorInfo, ActorUsage, ChunkReport
from scanner.engine.runtime import WorkerLost, WorkerSetup
from scanner.results import compact, manifest
from scanner.results.commit_file import DataFile
from scanner.results.folder import Results
from scanner.results.manifest import History
from scanner.shards.shard import Chunk, Shard, ShardIndex

BYTES_PER_ROW = 45
"""Of scores in packed files (docs/results.md, 155,136 rows in 6.7 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is simulated.

    Attributes:
        actors: At a time.
        rate: Samples that a device scores in a second.
        load_seconds: From an actor's start until it has its model.
        lifetime_hours: Mean time until an actor's node is taken away.
        count_seconds: For counting a shard.
        seed: Of everything that is drawn.
    """

    actors: int
    rate: float
    load_seconds: float = 120.0
    lifetime_hours: float = 8.0
    count_seconds: float = 5.0
    seed: int = 0


@dataclass(slots=True)
class Spent:
    """Hours of devices.

    Attributes:
        scanning: At work on tasks that were answered.
        loading: Loading the model, or taken away while they did.
        lost: At work on tasks of which nothing came.
        deaths: Actors that were taken away.
    """

    scanning: float = 0.0
    loading: float = 0.0
    lost: float = 0.0
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Actor:
    number: int
    since: float
    dies: float
    free: float = 0.0
    tasks: dict[int, tuple[Task, float, float]] = field(default_factory=dict)
    is_dead: bool = False


class SimulatedRuntime:
    """Actors and shards by a clock.

    Args:
        clock: The time.
        results: Where actors commit, and what is packed.
        samples: Of every shard, by address.
        fleet: What is simulated.

    Attributes:
        spent: Hours of devices so far.
        outside: Seconds of this process that were not the head's: actors' commits, counting,
            packing.
    """

    one_gpu_each = False
    can_kill = True

    def __init__(
        self, clock: Clock, results: Results, samples: dict[str, int], fleet: Fleet
    ) -> None:
        self.size, self.indexing_width = fleet.actors, 32
        self.spent, self.outside = Spent(), 0.0
        self._clock, self._results, self._samples, self._fleet = clock, results, samples, fleet
        self._random = random.Random(fleet.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._answers = dict[int, Any]()
        self._number, self._actors, self._run = 0, 0, ""
        self._history: History | None = None

    def start(self, setup: WorkerSetup) -> _Actor:
        """Start an actor, which will be taken away some day."""
        self._run, now = setup.run, self._clock.monotonic()
        life = self._random.expovariate(1 / (3600 * self._fleet.lifetime_hours))
        self._actors += 1
        actor = _Actor(self._actors, now, now + life)
        self._at(actor.dies, lambda: self._die(actor))
        return actor

    def open(self, worker: _Actor) -> int:
        """Load the model."""
        ref, seconds = self._ref(), self._fleet.load_seconds * self._random.uniform(0.8, 1.5)
        worker.free = worker.since + seconds
        facts = ActorInfo(worker.number, "spot", "simulated", 1, seconds, "", 1 / self._fleet.rate)

        def loaded() -> None:
            self.spent.loading += (min(worker.free, worker.dies) - worker.since) / 3600
            self._answers[ref] = WorkerLost(NODE_DIED) if worker.is_dead else facts

        self._at(min(worker.free, worker.dies), loaded)
        return ref

    def scan(self, worker: _Actor, task: Task) -> int:
        """Do a task when those before it are done."""
        ref, now = self._ref(), self._clock.monotonic()
        if worker.is_dead:
            self._answers[ref] = WorkerLost(NODE_DIED)
            return ref
        seconds = (task.stop - task.start) / self._fleet.rate * self._random.uniform(0.8, 1.25)
        begin = max(now, worker.free)
        worker.free = begin + seconds
        worker.tasks[ref] = task, begin, worker.free
        self._at(worker.free, lambda: self._done(worker, ref))
        return ref

    def activity(self, worker: _Actor) -> int:
        """Return a call that is never answered: there is nothing to see."""
        return self._ref()

    def kill(self, worker: _Actor) -> None:
        """Stop an actor."""
        worker.is_dead = True
        worker.tasks.clear()

    def submit(self, function: Callable[..., Any], *args: Any) -> int:
        """Count a shard, or pack; both beside the head."""
        ref = self._ref()
        with self._beside():
            if function is index_shard:
                answer, seconds = self._counted(*args), self._fleet.count_seconds
            elif function is pack:
                answer, self._history = packed(self._results, args[1], self._history)
                seconds = 1.0
            else:
                raise ValueError(f"{function} is not simulated")
            seconds += self._clock.settled()

        def answered() -> None:
            self._answers[ref] = answer

        self._at(self._clock.now + seconds, answered)
        return ref

    def cancel(self, ref: int) -> None:
        """Forget a call."""

    def ready(self, refs: Sequence[int], seconds: float) -> set[int]:
        """Return the calls that are over; the first of them is what the time goes on to."""
        self._clock.now += self._clock.settled()
        if seconds == 0:
            return {ref for ref in refs if ref in self._answers}
        self._play(self._clock.now)
        with self._beside():  # a cluster has its own ways to know what is waited for
            wanted = set(refs)
        while not (found := self._answers.keys() & wanted) and self._events:
            self._play(self._events[0][0])
        return found

    def result(self, ref: int) -> Any:
        """Return an answer.

        Raises:
            WorkerLost: If its actor is gone.
        """
        answer = self._answers.pop(ref)
        if isinstance(answer, WorkerLost):
            raise answer
        return answer

    def check(self) -> None:
        """Do nothing: this process is there."""

    def offer(self) -> str:
        """Return what there is to run on."""
        return f"{self.size} simulated actors"

    def metrics(self, run: str) -> Callable[[Event], None]:
        """Return what ignores events."""
        return lambda event: None

    def _ref(self) -> int:
        self._number += 1
        return self._number

    def _at(self, moment: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, self._ref(), what))

    def _play(self, until: float) -> None:
        """Let everything happen up to a moment."""
        with self._beside():
            while self._events and self._events[0][0] <= until:
                self._clock.now = max(self._clock.now, self._events[0][0])
                heapq.heappop(self._events)[2]()
            self._clock.now = max(self._clock.now, until)

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Take the time of what is inside for that of others than the head."""
        begun = time.process_time()
        try:
            yield
        finally:
            self.outside += time.process_time() - begun

    def _done(self, actor: _Actor, ref: int) -> None:
        """Commit what a device has done, and answer: the actor may be taken away in between."""
        if actor.is_dead or ref not in actor.tasks:
            return
        task, begin, end = actor.tasks[ref]
        if not task.trial:
            commit(self._results, self._run, task, end - begin)
        moment = self._clock.now + self._clock.settled()
        if moment >= actor.dies:
            return  # committed, and nobody is told
        samples = task.stop - task.start
        report = ChunkReport(
            samples=samples, scored=samples, flagged=0, rejected=0, seconds=end - begin,
            denoiser_seconds=end - begin, usage=ActorUsage(seconds=end - actor.since),
            evaluations={"draws": samples, "forward": 100 * samples},
        )  # fmt: skip

        def answered() -> None:
            if not actor.is_dead and actor.tasks.pop(ref, None):
                self.spent.scanning += (end - begin) / 3600
                self._answers[ref] = report

        self._at(moment, answered)

    def _die(self, actor: _Actor) -> None:
        if actor.is_dead:
            return
        actor.is_dead = True
        self.spent.deaths += 1
        for ref, (_, begin, end) in actor.tasks.items():
            self.spent.lost += max(0.0, min(end, self._clock.now) - begin) / 3600
            self._answers[ref] = WorkerLost(NODE_DIED)
        actor.tasks.clear()

    def _counted(self, url: str, size: int, finished: frozenset[str]) -> ShardIndex | str:
        shard, samples = shard_of(url, self._samples[url]), self._samples[url]
        if shard.id in finished:
            return shard.id
        chunks = tuple(
            Chunk(shard, number, start * 1000, min(size, samples - start))
            for number, start in enumerate(range(0, samples, size))
        )
        return ShardIndex(shard, chunks, samples, None)


def shard_of(url: str, samples: int) -> Shard:
    """Return a shard as it would be found."""
    return Shard(url, 100_000 * samples, "simulated")


def commit(results: Results, run: str, task: Task, seconds: float) -> bool:
    """Commit a task as an actor does: its file, then the record that makes it count."""
    unit, samples = task.unit, task.stop - task.start
    file = DataFile(
        f"scores/run={run}/{unit.name}.{seconds:08.0f}.parquet", samples, "0" * 64,
        samples * BYTES_PER_ROW,
    )  # fmt: skip
    if results.store.entry(f"commits/{run}/{unit.name}.json") is not None:
        return False
    results.store.put(file.path, b"")
    report = ChunkReport(
        samples=samples, scored=samples, flagged=0, rejected=0, seconds=seconds,
        denoiser_seconds=seconds, evaluations={"draws": samples, "forward": 100 * samples},
    )  # fmt: skip
    counts = {"samples": samples, "scored": samples, "rejected": 0, "flagged": 0}
    facts = unit.place.as_json() | report.facts()
    return results.commit_files(run, unit.name, {"scores": file}, counts=counts, facts=facts)


def _requests(results: Results) -> Counter[str]:
    return results.store.files.requests  # type: ignore[attr-defined]


def packed(results: Results, run: str, before: History | None) -> tuple[int, History]:
    """Pack a run's records as `scanner.results.compact` does, without rows.

    Args:
        results: Where they are.
        run: The run.
        before: Its history at the last time, to save this process's time.

    Returns:
        How many chunks, and the history then.
    """
    known = results.read_committed(run, before)
    history = known.history
    units = compact._units_to_pack(known, compact.TARGET_BYTES)
    chosen, size, chunks, done = list[Any](), 0, 0, 0
    for position, unit in enumerate(units):
        chosen.append(unit)
        size += unit.bytes
        chunks += len(unit.records)
        is_full = size >= compact.TARGET_BYTES or chunks >= compact.MOST_CHUNKS
        if not is_full and position < len(units) - 1:
            continue
        if len(chosen) > 1:
            commits = {record.chunk: record for each in chosen for record in each.records}
            rows = sum(record.files["scores"].rows for record in commits.values())
            path = f"scores/run={run}/pack-{history.length:016x}.parquet"
            results.store.put(path, b"")
            _requests(results)["GET"] += 2 * len(chosen)  # to pack them, and to compare
            replaces = tuple(each.pack for each in chosen if each.pack is not None)
            files = {"scores": DataFile(path, rows, "0" * 64, size)}
            pack = manifest.Pack(-1, commits, files, replaces)
            _, history = compact._add_to_history(results, run, pack, history)
            done += len(commits)
        chosen, size, chunks = [], 0, 0
    return done, history
