"""Scores that are there already, found by caption: what was scored once is not scored again."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, Thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scanner.errors import ResultsError
from scanner.records import Caption, ScoreRow
from scanner.results.folder import Part, Results
from scanner.results.run_file import Identity
from scanner.results.schema import SCORES
from scanner.schema import columns_of

AT_ONCE = 16
"""Files read at a time: a store answers slowly, but many at once."""

LOAD_SECONDS = 60.0
"""Seconds that a question waits while earlier commits are read; after that, it is answered by what
is known so far, and a caption may be scored again."""
_OWN = tuple(column.name for column in columns_of(ScoreRow))

RunShard = tuple[str, str]
"""Run and chunk."""


class ScoreFinder(Protocol):
    """Says which chunk holds the rows of a caption."""

    def find(self, prefixes: NDArray[np.uint64]) -> list[tuple[RunShard, list[int]]]:
        """Return places, each with the positions in ``prefixes`` of what it may hold."""
        ...

    def add(self, place: RunShard, prefixes: NDArray[np.uint64]) -> None:
        """Note that a chunk is committed."""
        ...


class ScoreIndex:
    """The captions of committed chunks: twelve bytes each, the first eight of the hash and a place.

    Sorted parts, each at least twice as long as the next: a look-up is a binary search in a
    few of them, and what is added is merged when there is as much of it. While two parts are
    merged they take their room twice. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._places: list[RunShard] = []
        self._parts: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []
        self._lock = Lock()

    def __len__(self) -> int:
        """Captions, copies not counted."""
        return sum(len(prefixes) for prefixes, _ in self._parts)

    @property
    def bytes(self) -> int:
        """Bytes that the captions take."""
        return sum(prefixes.nbytes + owners.nbytes for prefixes, owners in self._parts)

    def find(self, prefixes: NDArray[np.uint64]) -> list[tuple[RunShard, list[int]]]:
        """Return places, each with the positions in ``prefixes`` of what it may hold.

        Two captions may share a prefix: who reads the rows compares the whole hash.
        """
        with self._lock:
            owners, places = self._owners(prefixes), self._places
        found: dict[RunShard, list[int]] = defaultdict(list)
        for position in np.flatnonzero(owners >= 0).tolist():
            found[places[owners[position]]].append(position)
        return list(found.items())

    def add(self, place: RunShard, prefixes: NDArray[np.uint64]) -> None:
        """Note the captions of a committed chunk; what is known already stays where it is."""
        with self._lock:
            new = np.unique(prefixes)
            new = new[self._owners(new) < 0]
            if not len(new):
                return
            self._parts.append((new, np.full(len(new), len(self._places), np.int32)))
            self._places.append(place)
            while len(self._parts) > 1 and len(self._parts[-2][0]) < 2 * len(self._parts[-1][0]):
                (more, their), (some, own) = self._parts[-2:]
                where = np.searchsorted(more, some)
                self._parts[-2:] = [(np.insert(more, where, some), np.insert(their, where, own))]

    def load(self, results: Results, runs: Iterable[str]) -> None:
        """Add what is committed of some runs.

        Raises:
            ResultsError: If a commit record is damaged.
        """
        for run in runs:
            parts = results.parts([run])["scores"]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for found in pool.map(lambda part: _prefixes(results, part), parts):
                    for chunk, prefixes in found:
                        self.add((run, chunk), prefixes)

    def _owners(self, prefixes: NDArray[np.uint64]) -> NDArray[np.int32]:
        owners = np.full(len(prefixes), -1, np.int32)
        for part, places in self._parts:
            where = np.minimum(np.searchsorted(part, prefixes), len(part) - 1)
            is_there = part[where] == prefixes
            owners[is_there] = places[where[is_there]]
        return owners


class BackgroundScoreIndex:
    """A `ScoreIndex` that reads earlier commits in a thread of its own.

    Args:
        results: The results folder.
        runs: The runs whose rows do for this scan.
    """

    def __init__(self, results: Results, runs: Iterable[str]) -> None:
        self._index, self._loaded = ScoreIndex(), Event()
        Thread(target=self._load, args=(results, tuple(runs)), daemon=True).start()

    def find(self, prefixes: NDArray[np.uint64]) -> list[tuple[RunShard, list[int]]]:
        """Return places, each with the positions in ``prefixes`` of what it may hold."""
        self._loaded.wait(LOAD_SECONDS)
        return self._index.find(prefixes)

    def add(self, place: RunShard, prefixes: NDArray[np.uint64]) -> None:
        """Note that a chunk is committed."""
        self._index.add(place, prefixes)

    def _load(self, results: Results, runs: tuple[str, ...]) -> None:
        try:
            self._index.load(results, runs)
        except ResultsError:
            pass  # a damaged record: the driver, which reads them too, says so
        finally:
            self._loaded.set()


class ScoreCacheReader:
    """The rows of captions that were scored before.

    A copy of a caption gets the very numbers of the row that is there. Scored once more in another
    batch they would differ by rounding. Shard, key and address are its own, and the verdict is
    the scan's.

    Args:
        results: Where the rows are.
        finder: Knows in which chunks.
    """

    def __init__(self, results: Results, finder: ScoreFinder) -> None:
        self._results, self._finder = results, finder

    def rows(self, captions: Sequence[Caption]) -> dict[str, list[ScoreRow]]:
        """Return the score rows of the captions that are known, by hash, one row per seed.

        Each row stands for the first of the captions given that has its hash. Rows that cannot be
        read are not known: to score a caption again costs time, and nothing else.
        """
        first = {caption.sha256: caption for caption in reversed(captions)}
        hashes = list(first)
        places = self._finder.find(prefixes_of(hashes)) if hashes else []
        found: dict[str, list[ScoreRow]] = {}
        if places:
            with ThreadPoolExecutor(min(AT_ONCE, len(places))) as pool:
                for rows in pool.map(
                    lambda at: self._read(at[0], {hashes[p] for p in at[1]}, first), places
                ):
                    found |= rows
        return found

    def add(self, run: str, chunk: str, hashes: Collection[str]) -> None:
        """Note that a chunk is committed."""
        if hashes:
            self._finder.add((run, chunk), prefixes_of(hashes))

    def _read(
        self, place: RunShard, wanted: set[str], first: dict[str, Caption]
    ) -> dict[str, list[ScoreRow]]:
        try:
            rows = self._results.chunk_rows(*place, wanted)
        except ResultsError:
            return {}
        found: dict[str, dict[int, ScoreRow]] = defaultdict(dict)
        for row in rows:
            sha = row["caption_sha256"]
            found[sha].setdefault(row["seed"], _row(row, first[sha]))
        return {sha: list(by_seed.values()) for sha, by_seed in found.items()}


def runs_like(results: Results, run: str, identity: Identity) -> list[str]:
    """Return a run, and the others whose rows were made by the same model and settings.

    Calibration, thresholds, and which captions get maps may differ: verdicts are made anew. A
    detector of another distribution must be of the same version, where both runs have it.
    """
    found, own = [run], identity.packages
    for other in results.runs() if results.exists() else []:
        theirs = results.run_file(other).identity
        packages = theirs.packages
        is_like = (theirs.model, theirs.scores) == (identity.model, identity.scores)
        if other != run and is_like and all(packages.get(n, v) == v for n, v in own.items()):
            found.append(other)
    return found


def prefixes_of(hashes: Collection[str]) -> NDArray[np.uint64]:
    """Return the first eight bytes of every hash as a number."""
    return np.array([int(sha[:16], 16) for sha in hashes], np.uint64)


def _prefixes(results: Results, part: Part) -> list[tuple[str, NDArray[np.uint64]]]:
    """Return the captions of chunks; none if their file cannot be read, which `verify` reports."""
    try:
        return [(chunk, prefixes_of(set(hashes))) for chunk, hashes in results.hashes(part)]
    except (ResultsError, KeyError):
        return []


def _row(row: dict[str, Any], caption: Caption) -> ScoreRow:
    """Return a stored row; columns that its file does not have yet are null."""
    extra = {n: v for n, v in row.items() if n not in SCORES.names and v is not None}
    own: dict[str, Any] = {name: row.get(name) for name in _OWN}
    steps = own.pop("increments")
    return ScoreRow(
        caption=caption, extra=extra, increments=None if steps is None else tuple(steps), **own
    )
