"""A scan whose samples are all committed: nothing is started, what is there is added up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from scanner.engine.job import Event
from scanner.engine.plan import CommitIndex
from scanner.engine.queue import Task
from scanner.engine.runtime import WorkerSetup
from scanner.errors import ScannerError
from scanner.shards import reading

THREADS = 32
"""Shards that are looked at at a time: each is one request where it lies in a bucket."""


def identities(
    urls: Sequence[str], commit_index: CommitIndex, limit: int | None
) -> dict[str, str] | None:
    """Return the identity of every shard that counts, if all of it is committed; else null.

    No shard is opened. With a limit, the shards that it leaves out are not looked at.

    Args:
        urls: The shards.
        commit_index: What is committed.
        limit: Samples that count, the first in shard order; null counts all.
    """
    finished = commit_index.finished()
    if limit is None and not all(url in finished for url in urls):
        return None
    found, left = dict[str, str](), limit
    for url, shard_id in _now(urls):
        first = commit_index.first(shard_id)
        fills = left is not None and first == left
        if not (shard_id in finished.get(url, ()) or fills):
            return None
        found[url] = shard_id
        if left is not None:
            left -= first or 0
            if left <= 0:
                break
    return found


def _now(urls: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every address with the identity of its shard, ``""`` if it cannot be looked at."""

    def look(url: str) -> str:
        try:
            return reading.stat(url).id
        except (ScannerError, OSError):
            return ""  # the scan itself says what is wrong

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(urls), THREADS):
            some = urls[start : start + THREADS]
            yield from zip(some, pool.map(look, some), strict=True)


class CommittedRuntime:
    """A `scanner.engine.runtime.Runtime` of a scan that has nothing left to do.

    Args:
        known: Identities of the shards, by address.
    """

    size = 0
    indexing_width = 1
    one_gpu_each = False
    can_kill = False

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known

    def start(self, setup: WorkerSetup) -> Any:
        """Refuse: there is no work.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a scan that is complete needs no worker")

    def open(self, worker: Any) -> Any:
        """Do nothing: there is no worker."""

    def scan(self, worker: Any, task: Task) -> Any:
        """Do nothing: there is no worker."""

    def activity(self, worker: Any) -> Any:
        """Do nothing: there is no worker."""

    def kill(self, worker: Any) -> None:
        """Do nothing: there is no worker."""

    def submit(self, function: Callable[..., Any], *args: object) -> str:
        """Return the address of the shard that is to be counted."""
        return str(args[0])

    def cancel(self, ref: str) -> None:
        """Do nothing: nothing is at work."""

    def ready(self, refs: Sequence[str], seconds: float) -> set[str]:
        """Return all of them."""
        return set(refs)

    def result(self, ref: str) -> str:
        """Return the identity of a shard, which is committed whole."""
        return self._known[ref]

    def check(self) -> None:
        """Do nothing: this process is there."""

    def offer(self) -> str:
        """Return what there is to run on."""
        return "nothing"

    def metrics(self, run: str) -> Callable[[Event], None]:
        """Return what ignores events: nothing happens."""
        return lambda event: None
