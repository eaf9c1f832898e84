"""Shards counted beside the driver, so that it never opens one. Knows no Ray."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from scanner.engine.failures import Failure, value_or_failure
from scanner.engine.runtime import Ref, Runtime, WorkerLost
from scanner.errors import ShardError
from scanner.shards import reading
from scanner.shards.reading import ShardIndex

COUNT_SECONDS = 1800.0
"""Seconds that counting a shard may take; then it is started once more."""
COUNT_ATTEMPTS = 2
LATE_SECONDS = 30.0
"""A shard that takes longer to count is named."""


@dataclass(slots=True)
class _IndexingTask:
    """A shard that is being counted."""

    url: str
    ref: Ref
    attempt: int = 1
    since: float = field(default_factory=lambda: time.monotonic())
    is_told: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


class ShardIndexer:
    """Counts shards, a few at a time.

    Attributes:
        chunk_size: Samples per chunk of the shards that are counted from now on.

    Args:
        runtime: Where they are counted.
        urls: The shards.
        chunk_size: Samples per chunk.
        finished: Identities of the shards that need no counting, by address.
        in_order: Whether they must be told of in their order, as a limit on samples needs; if
            not, a slow shard holds up no other.
    """

    def __init__(
        self, runtime: Runtime, urls: Sequence[str], chunk_size: int,
        finished: Mapping[str, Set[str]], *, in_order: bool = True,
    ) -> None:  # fmt: skip
        self._runtime, self._in_order = runtime, in_order
        self._urls, self.chunk_size, self._finished = deque(urls), chunk_size, finished
        self._running: list[_IndexingTask] = []

    @property
    def refs(self) -> list[Ref]:
        """References that are waited for."""
        return [count.ref for count in self._next()]

    @property
    def is_over(self) -> bool:
        """Whether every shard has been reported."""
        return not self._urls and not self._running

    def stop(self) -> None:
        """Look at no further shard."""
        self._urls.clear()
        for count in self._running:
            self._runtime.cancel(count.ref)
        self._running.clear()

    def answers(self) -> Iterator[tuple[str, ShardIndex | str | Failure]]:
        """Yield address and index of the next shards that are counted, without waiting.

        Of a shard that is finished, the identity stands for the index; of one that cannot be
        read, or not counted in time, the failure.

        Raises:
            ClusterLostError: If this process's own node is dead.
        """
        self._fill()
        self._restart_stalled()
        while (found := self._next_answer()) is not None:
            count, answer = found
            self._running.remove(count)
            self._fill()
            yield count.url, answer

    def late(self) -> Iterator[str]:
        """Yield the address of each shard that takes long to count, once."""
        for count in self._running:
            is_late = not count.is_told and count.seconds > LATE_SECONDS
            if is_late and not self._runtime.ready([count.ref], 0):  # or it waits to be planned
                count.is_told = True
                yield count.url

    def _next(self) -> list[_IndexingTask]:
        """Return the shards of which the next to be told of is one."""
        return self._running[:1] if self._in_order else self._running

    def _next_answer(self) -> tuple[_IndexingTask, ShardIndex | str | Failure] | None:
        for count in self._next():
            if self._runtime.ready([count.ref], 0):
                return count, self._answer_of(count.ref)
            if count.seconds > COUNT_SECONDS:
                self._runtime.cancel(count.ref)
                return count, Failure(
                    ShardError,
                    f"{count.url} could not be counted within {COUNT_SECONDS:g} s, tried "
                    f"{count.attempt} times: split it, or copy it to a faster place",
                )
        return None

    def _restart_stalled(self) -> None:
        for count in self._running:
            is_slow = count.seconds > COUNT_SECONDS and count.attempt < COUNT_ATTEMPTS
            if is_slow and not self._runtime.ready([count.ref], 0):
                self._runtime.cancel(count.ref)
                count.ref, count.since = self._start_counting(count.url), time.monotonic()
                count.attempt += 1

    def _fill(self) -> None:
        while self._urls and len(self._running) < self._runtime.indexing_width:
            url = self._urls.popleft()
            self._running.append(_IndexingTask(url, self._start_counting(url)))

    def _start_counting(self, url: str) -> Ref:
        finished = frozenset(self._finished.get(url, ()))
        return self._runtime.submit(index_shard, url, self.chunk_size, finished)

    def _answer_of(self, ref: Ref) -> ShardIndex | str | Failure:
        try:
            return self._runtime.result(ref)
        except WorkerLost as lost:
            return Failure(None, f"the process that counted it died ({lost.reason})")


def index_shard(url: str, chunk_size: int, finished: frozenset[str]) -> ShardIndex | str | Failure:
    """Count a shard; of one that is committed whole, return the identity without opening it."""

    def look() -> ShardIndex | str:
        shard = reading.stat(url)
        return shard.id if shard.id in finished else reading.index(shard, chunk_size)

    return value_or_failure(look)
