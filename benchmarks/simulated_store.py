"""A bucket that is not there: names and contents in a database, answers late, refused or lost.

`Clock` is the time of a simulation. `Bucket` has the part of fsspec's interface that
`scanner.results.stores.ObjectStore` uses, so that the store's own code, its retries among it, is
what runs on it.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scanner import retry
from scanner.engine import indexing, loop, pool, record
from scanner.results.stores import Content, ObjectStore

COMMIT_EVERY = 10_000
"""Writes between two transactions of the database."""
MOST_SECONDS = 10_000
"""Seconds of which it is kept how many requests were served, before those that are over go."""


class Clock:
    """Simulated seconds: of the whole, and those that the code at work has waited by itself.

    Attributes:
        now: The time.
        waited: Seconds that whoever is at work waited for a store since `settled` was called.
    """

    def __init__(self) -> None:
        self.now, self.waited = 0.0, 0.0

    def monotonic(self) -> float:
        """Return the time, as the module ``time`` does."""
        return self.now + self.waited

    time = monotonic

    def sleep(self, seconds: float) -> None:
        """Let time pass for whoever is at work."""
        self.waited += seconds

    def settled(self) -> float:
        """Return how long whoever was at work waited, and begin anew."""
        waited, self.waited = self.waited, 0.0
        return waited

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the engine and the retries of stores go by this clock."""
        modules = (indexing, loop, pool, record, retry)
        before = [module.time for module in modules]
        for module in modules:
            module.time = self  # type: ignore[assignment]
        try:
            yield
        finally:
            for module, own in zip(modules, before, strict=True):
                module.time = own


class StoreError(Exception):
    """An answer of the store with a status.

    Attributes:
        status: As HTTP has it.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the simulated store says {status}")
        self.status = status


class Bucket:
    """Objects by name.

    Args:
        clock: Waited on for every answer.
        path: Of the database that holds the objects.
        latency: Seconds of an answer.
        refused: Share of the requests that are answered by 503.
        lost: Share of the writes that are done and whose answer is lost.
        per_second: Requests that are served in a second; 429 answers the others.
        seed: Of what goes wrong.

    Attributes:
        requests: Made so far, by kind; ``429``, ``503`` and ``lost`` count what went wrong.
    """

    def __init__(
        self, clock: Clock, path: Path, *, latency: float = 0.05, refused: float = 0.0,
        lost: float = 0.0, per_second: float = 3500.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.requests = Counter[str]()
        self._clock, self._latency, self._refused, self._lost = clock, latency, refused, lost
        self._per_second, self._random = per_second, random.Random(seed)
        self._served, self._writes = Counter[int](), 0
        self._objects = sqlite3.connect(path, isolation_level=None)
        self._objects.execute("PRAGMA journal_mode = OFF")
        self._objects.execute("PRAGMA synchronous = OFF")
        self._objects.execute("CREATE TABLE objects (name TEXT PRIMARY KEY, content BLOB)")
        self._objects.execute("BEGIN")

    def ls(self, path: str, *, detail: bool) -> list[dict[str, Any]]:
        """Return the folders directly in a folder."""
        self._asked("LIST")
        inside = [name[len(path) + 1 :] for name, _ in self._below(path)]
        names = {name.partition("/")[0] for name in inside if "/" in name}
        return [{"name": f"{path}/{name}", "type": "directory"} for name in sorted(names)]

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]:
        """Return every object below a folder: a request for a thousand of them."""
        found = {name: _facts(name, size) for name, size in self._below(path)}
        for _ in range(0, max(1, len(found)), 1000):
            self._asked("LIST")
        return found

    def info(self, path: str) -> dict[str, Any]:
        """Return an object's size."""
        self._asked("HEAD")
        rows = self._objects.execute(
            "SELECT length(content) FROM objects WHERE name = ?", [path]
        ).fetchall()
        if not rows:
            raise FileNotFoundError(path)
        return _facts(path, rows[0][0])

    def cat_file(self, path: str) -> bytes:
        """Return an object's content."""
        self._asked("GET")
        return self._content(path)

    def cat(self, paths: list[str], *, recursive: bool, on_error: str) -> dict[str, Any]:
        """Return the contents of several objects; an error in the place of one that failed."""
        found = dict[str, Any]()
        for path in paths:
            try:
                found[path] = self.cat_file(path)
            except (FileNotFoundError, StoreError) as error:
                found[path] = error
        return found

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        """Write an object; ``create`` refuses one that is there."""
        self._asked("PUT")
        if mode == "create":
            done = self._objects.execute(
                "INSERT OR IGNORE INTO objects VALUES (?, ?)", [path, content]
            )
            if not done.rowcount:
                raise FileExistsError(path)
        else:
            self._objects.execute("INSERT OR REPLACE INTO objects VALUES (?, ?)", [path, content])
        self._written()
        if self._random.random() < self._lost:
            self.requests["lost"] += 1
            raise ConnectionError("the answer was lost")

    def rm_file(self, path: str) -> None:
        """Remove an object."""
        self._asked("DELETE")
        self._objects.execute("DELETE FROM objects WHERE name = ?", [path])
        self._written()

    def _content(self, path: str) -> bytes:
        rows = self._objects.execute(
            "SELECT content FROM objects WHERE name = ?", [path]
        ).fetchall()
        if not rows:
            raise FileNotFoundError(path)
        return rows[0][0]

    def _below(self, path: str) -> list[tuple[str, int]]:
        return self._objects.execute(
            "SELECT name, length(content) FROM objects WHERE name > ? AND name < ? ORDER BY name",
            [f"{path}/", f"{path}0"],  # "0" follows the slash
        ).fetchall()

    def _written(self) -> None:
        self._writes += 1
        if self._writes % COMMIT_EVERY == 0:
            self._objects.execute("COMMIT")
            self._objects.execute("BEGIN")

    def _asked(self, kind: str) -> None:
        """Take an answer's time, and refuse what is too much or out of luck."""
        self.requests[kind] += 1
        self._clock.sleep(self._latency * self._random.uniform(0.5, 1.5))
        second = int(self._clock.monotonic())  # who waits is ahead of the others
        if self._served[second] >= self._per_second:
            self.requests["429"] += 1
            raise StoreError(429)
        self._served[second] += 1
        if len(self._served) > MOST_SECONDS:
            over = [each for each in self._served if each < self._clock.now]
            for each in over:
                del self._served[each]
        if self._random.random() < self._refused:
            self.requests["503"] += 1
            raise StoreError(503)


class SimulatedStore(ObjectStore):
    """The store of results in a bucket, on a simulated one.

    Args:
        bucket: The bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.files: Any = bucket
        self._files: Any = bucket
        self._path, self.root = "bucket/results", "s3://bucket/results"

    def put(self, name: str, content: Content) -> None:
        """Write an object; of data files, which nobody reads here, the name is kept."""
        is_data = name.endswith(".parquet")
        super().put(name, b"" if is_data else content)


def _facts(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "size": size, "type": "file"}
