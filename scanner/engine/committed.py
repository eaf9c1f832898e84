"""A scan whose samples are all committed: nothing is started, what is there is added up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any

from scanner.engine.job import Event
from scanner.engine.plan import CommitIndex
from scanner.engine.queue import Task
from scanner.engine.runtime import WorkerSetup
from scanner.errors import ScannerError
from scanner.shards import reading

THREADS = 32
"""Shards that are looked at at a time: each is one request where it lies in a bucket."""
LOOKED_AT_TOGETHER = 64
"""Shards that a thread is handed at once: handing over takes longer than a look at a local file."""


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
    if limit is not None:
        return _first_identities(urls, commit_index, limit)
    found = dict[str, str]()
    for url, shard_id in _now(urls, THREADS * LOOKED_AT_TOGETHER):
        if shard_id not in finished.get(url, ()):
            return None
        found[url] = shard_id
    return found


def _first_identities(
    urls: Sequence[str], commit_index: CommitIndex, limit: int
) -> dict[str, str] | None:
    """Return the identities of the shards with the first samples, null if one is not committed."""
    finished, found, left = commit_index.finished(), dict[str, str](), limit
    for url, shard_id in _now(urls, THREADS):
        first = commit_index.first(shard_id)
        if not (shard_id in finished.get(url, ()) or first == left):
            return None
        found[url] = shard_id
        left -= first or 0
        if left <= 0:
            break
    return found


def _now(urls: Sequence[str], together: int) -> Iterator[tuple[str, str]]:
    """Yield every address with the identity of its shard, ``""`` if it cannot be looked at."""

    def look(url: str) -> str:
        try:
            return reading.stat(url).id
        except (ScannerError, OSError):
            return ""  # the scan itself says what is wrong

    def look_at(some: Sequence[str]) -> list[tuple[str, str]]:
        return [(url, look(url)) for url in some]

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(urls), together):
            some = urls[start : start + together]
            each = ceil(len(some) / THREADS)
            parts = [some[at : at + each] for at in range(0, len(some), each)]
            for part in pool.map(look_at, parts):
                yield from part


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
