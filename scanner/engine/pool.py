"""The actors: started, handed tasks, watched, replaced. Knows no Ray."""

import math
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

from scanner.activity import Activity
from scanner.engine.failures import Failure
from scanner.engine.queue import Queue, Task
from scanner.engine.reports import ActorInfo, ActorUsage, ChunkReport
from scanner.engine.runtime import Ref, Runtime, WorkerLost
from scanner.errors import ClusterError, ConfigError, DeviceError

IN_FLIGHT = 6
"""Tasks per actor: one is read or waits for the device, one is scanned, two may be held until
their draws fill a batch, one is written, and one is on its way."""
COMING_SECONDS = 120.0
"""Seconds for which work is left for an actor that is loading its model."""
DIED, UNREACHABLE, NODE_DIED = GONE = (
    "the worker process died", "the worker could not be reached", "the node died",
)  # fmt: skip
"""Ray reports one and the same death by any of these, depending on timing."""
ACTIVITY_SECONDS = 1.0
STALL_LOOK_SECONDS = 0.5
"""Between two looks for tasks that run too long."""
MOST_ASKED = 8
"""Actors that are asked what they are at: more than that nobody reads."""
START_SECONDS = 1800.0
"""Seconds to wait for a first actor: for its place in the cluster, or for its model to load."""


@dataclass(frozen=True, slots=True)
class ActorReady:
    """An actor has its model."""

    facts: ActorInfo


@dataclass(frozen=True, slots=True)
class TaskReturned:
    """A task came back."""

    task: Task
    answer: ChunkReport | Failure
    actor: str = ""


@dataclass(frozen=True, slots=True)
class ActorBusy:
    """An actor said what it is at."""

    activity: Activity
    actor: str


@dataclass(frozen=True, slots=True)
class ActorLost:
    """An actor died, was stopped or could not open.

    Attributes:
        tasks: What it had. If it is one, that is what it was at; of several, any may be.
        reason: What is known of it, one line.
        blames: Whether a task may be what killed it.
        actor: Its name, if it ever opened.
    """

    tasks: tuple[Task, ...]
    reason: str
    blames: bool = True
    actor: str = ""


PoolEvent = ActorReady | TaskReturned | ActorBusy | ActorLost


@dataclass(slots=True, eq=False)
class _Actor:
    handle: Any
    opening: Ref | None
    since: float
    flight: list[tuple[Ref, Task]] = field(default_factory=list)
    asked: Ref | None = None
    death_reason: str = ""
    name: str = ""
    number: int = -1

    @property
    def is_free(self) -> bool:
        """Whether it may be given more, if there is room."""
        is_alone = any(task.alone for _, task in self.flight)
        return self.opening is None and not self.death_reason and not is_alone


class Pool:
    """Up to ``size`` actors, started as there is work for them.

    An actor that dies is not restarted by itself; the pool starts another while there is work.

    Attributes:
        facts: Every actor that was opened.
        efforts: What each of them last told of its time.

    Args:
        runtime: Where they run.
        start: Starts one actor there.
        stall_seconds: A task that runs longer is taken away, and its actor stopped, where that
            can be.
    """

    def __init__(self, runtime: Runtime, start: Callable[[], Any], stall_seconds: float) -> None:
        self.facts: list[ActorInfo] = []
        self.efforts: list[ActorUsage] = []
        self._runtime, self._start, self._size = runtime, start, runtime.size
        self._stall_seconds = stall_seconds if runtime.can_kill else math.inf
        self._in_flight = 0
        self._actors: list[_Actor] = []
        self._owners, self._opening = dict[Ref, _Actor](), dict[Ref, _Actor]()
        self._losses_at_opening, self._last_asked, self._last_looked = 0, -math.inf, -math.inf

    @property
    def refs(self) -> list[Ref]:
        """References that are waited for."""
        return list(self._owners)

    @property
    def in_flight(self) -> int:
        """Tasks that actors have."""
        return self._in_flight

    @property
    def ready(self) -> int:
        """Actors that have their model."""
        return len(self._actors) - len(self._opening)

    def grow(self, outstanding: int) -> None:
        """Start actors until there is one for every outstanding task, or all there may be."""
        while len(self._actors) < min(self._size, outstanding):
            handle = self._start()
            actor = _Actor(handle, opening := self._runtime.open(handle), time.monotonic())
            self._actors.append(actor)
            self._owners[opening] = self._opening[opening] = actor

    def hand_out(self, queue: Queue) -> None:
        """Give tasks to the open actors, evenly, until each has enough or none is left.

        The fewer are left, the less an actor gets ahead of time, so that all end together, and
        one that is still loading its model finds something to do.

        For every task that must be alone, the actor with the least to do gets nothing more
        until it has nothing at all, and then that.
        """
        if not len(queue):
            return
        most = self._most_each(len(queue))
        free = [a for a in self._actors if len(a.flight) < most and a.is_free]
        free.sort(key=lambda a: len(a.flight))
        draining, others = free[: queue.apart], free[queue.apart :]
        for actor in draining:
            if not actor.flight and (task := queue.take()) is not None:
                self._send(actor, task)
        for depth in range(1, most + 1):
            for actor in others:
                if len(actor.flight) >= depth:
                    continue
                if (task := queue.take(alone=False)) is None:
                    return
                self._send(actor, task)

    def _most_each(self, waiting: int) -> int:
        """Return how many tasks an actor may have: half its share of what is left, or two."""
        now = time.monotonic()
        coming = sum(now - actor.since < COMING_SECONDS for actor in self._opening.values())
        outstanding, actors = waiting + self.in_flight, max(1, self.ready + coming)
        return min(IN_FLIGHT, ceil(outstanding / actors), max(2, ceil(outstanding / actors / 2)))

    def events(self, ready: Set[Ref]) -> Iterator[PoolEvent]:
        """Yield what the ready references say.

        Raises:
            ConfigError: If the model cannot be opened and never was, or two actors that should
                have a GPU each share one; the text says why.
            ClusterError: If actors die at opening again and again, or no device is large enough.
        """
        touched = {self._owners[ref] for ref in ready if ref in self._owners}
        for actor in [each for each in self._actors if each in touched]:
            if actor.opening is not None and actor.opening in ready:
                yield from self._opening_events(actor, actor.opening)
            yield from self._answer_events(actor, ready)

    def activities(self) -> Iterator[ActorBusy]:
        """Yield what the first actors are at, each at most every `ACTIVITY_SECONDS`."""
        now, asks = time.monotonic(), False
        if now - self._last_asked >= ACTIVITY_SECONDS:
            self._last_asked, asks = now, True
        for actor in list(islice((a for a in self._actors if a.flight), MOST_ASKED)):
            if actor.asked is not None and self._runtime.ready([actor.asked], 0):
                yield from self._activity(actor, actor.asked)
                actor.asked = None
            if asks and actor.asked is None:
                actor.asked = self._runtime.activity(actor.handle)

    def _activity(self, actor: _Actor, ref: Ref) -> Iterator[ActorBusy]:
        try:
            answer = self._runtime.result(ref)
        except WorkerLost:
            return  # its tasks tell
        yield ActorBusy(answer, actor.name)

    def stop_stalled(self) -> None:
        """Stop the actors whose task runs too long; they are reported lost in due course.

        Raises:
            ClusterError: If for as long no actor could even be opened.
        """
        now = time.monotonic()
        if now - self._last_looked < STALL_LOOK_SECONDS:
            return
        self._last_looked = now
        for actor in self._actors:
            late = now - actor.since > self._stall_seconds and not actor.death_reason
            if late and actor.flight:
                actor.death_reason = f"no answer within {self._stall_seconds:g} s"
                self._runtime.kill(actor.handle)
        if self._actors and all(
            a.opening is not None and now - a.since > START_SECONDS for a in self._actors
        ):
            raise ClusterError(
                f"no worker could start within {START_SECONDS:g} s: the cluster offers "
                f"{self._runtime.offer()}; ask for fewer actors, or for a device that it has"
            )

    def close(self) -> None:
        """Stop all actors and abandon what they had."""
        for actor in self._actors:
            self._runtime.kill(actor.handle)
        self._actors.clear()
        self._owners.clear()
        self._opening.clear()
        self._in_flight = 0

    def _opening_events(self, actor: _Actor, opening: Ref) -> Iterator[PoolEvent]:
        try:
            answer: ActorInfo | Failure = self._runtime.result(opening)
        except WorkerLost as lost:
            yield self._lost_at_opening(actor, lost.reason, lost.details)
            return
        if isinstance(answer, Failure):
            if not self.facts:
                what = "" if answer.error is ConfigError else "the model could not be opened: "
                raise ConfigError(f"{what}{answer.text}")
            yield self._lost_at_opening(actor, answer.text, answer.text)
            return
        self._check_gpu(answer)
        del self._owners[opening], self._opening[opening]
        actor.opening, self._losses_at_opening = None, 0
        actor.number = len(self.facts)
        self.facts.append(answer)
        actor.name = answer.name
        self.efforts.append(ActorUsage())
        yield ActorReady(answer)

    def _check_gpu(self, new: ActorInfo) -> None:
        if not (self._runtime.one_gpu_each and new.gpu):
            return
        for other in [self.facts[a.number] for a in self._actors if a.opening is None]:
            if other.gpu == new.gpu:
                raise ConfigError(
                    f"every actor must have a GPU of its own, but {other.name} and {new.name} both "
                    f"have {new.gpu}: let Ray set CUDA_VISIBLE_DEVICES, and unset "
                    f"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
                )

    def _lost_at_opening(self, actor: _Actor, reason: str, details: str) -> ActorLost:
        self._losses_at_opening += 1
        if self._losses_at_opening >= 3 + 2 * self._size:
            raise ClusterError(
                f"{self._losses_at_opening} workers in a row died while they loaded the model; "
                f"is there memory for {self._size}? The last one: {details}"
            )
        return self._remove(actor, reason)

    def _send(self, actor: _Actor, task: Task) -> None:
        if not actor.flight:
            actor.since = time.monotonic()
        ref = self._runtime.scan(actor.handle, task)
        actor.flight.append((ref, task))
        self._owners[ref] = actor
        self._in_flight += 1

    def _answer_events(self, actor: _Actor, ready: Set[Ref]) -> Iterator[PoolEvent]:
        """Yield the answers of an actor; its death last, so that what it answered counts.

        Raises:
            ClusterError: If no worker's device is large enough.
        """
        died, usable, too_small = "", True, ""
        for ref, task in [pair for pair in actor.flight if pair[0] in ready]:
            try:
                answer: ChunkReport | Failure = self._runtime.result(ref)
            except WorkerLost as lost:
                died = actor.death_reason or lost.reason
                continue
            actor.flight.remove((ref, task))
            self._forget(ref)
            actor.since = time.monotonic()
            if isinstance(answer, Failure):
                usable = usable and answer.usable
                too_small = answer.text if answer.error is DeviceError else too_small
            else:
                self.efforts[actor.number] = answer.usage
            yield TaskReturned(task, answer, actor.name)
        if died:
            yield self._remove(actor, died)
        elif not usable:
            yield self._remove(actor, "its device failed", blames=False)
        elif too_small:
            self._size -= 1  # another would be given the same device
            yield self._remove(actor, f"it gets no more work: {too_small}", blames=False)
            if not self._size:
                raise ClusterError(
                    f"no worker's device is large enough, the last said: {too_small}; use a larger "
                    f"one, fewer --actors per device, --dtype float16, or free its memory"
                )

    def _remove(self, actor: _Actor, reason: str, *, blames: bool = True) -> ActorLost:
        self._actors.remove(actor)
        for ref, _ in actor.flight:
            self._forget(ref)
        if actor.opening is not None:
            del self._owners[actor.opening], self._opening[actor.opening]
        self._runtime.kill(actor.handle)
        return ActorLost(tuple(task for _, task in actor.flight), reason, blames, actor.name)

    def _forget(self, ref: Ref) -> None:
        del self._owners[ref]
        self._in_flight -= 1
