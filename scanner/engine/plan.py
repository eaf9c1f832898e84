"""Work that is left: shards minus the commits of earlier scans. Knows no Ray."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scanner.results.commit_file import CommitFile, ShardRange
from scanner.shards.reading import Chunk, ShardIndex


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Samples that are committed together: a chunk, or what a limit left of one.

    Attributes:
        chunk: The chunk.
        start: First sample, counted in the chunk.
        stop: One past the last.
        shard_chunks: Chunks of the whole shard.
        problem: What is wrong with the shard, if anything.
    """

    chunk: Chunk
    start: int
    stop: int
    shard_chunks: int
    problem: str | None = None

    @property
    def name(self) -> str:
        """Name of the commit: the chunk's own, unless this is a part of it."""
        if (self.start, self.stop) == (0, self.chunk.samples):
            return self.chunk.name
        return f"{self.chunk.name}.{self.start}-{self.stop}"

    @property
    def place(self) -> ShardRange:
        """The part of its commit that says so, without opening the shard again."""
        return ShardRange(
            shard=self.chunk.shard.url, shard_id=self.chunk.shard.id,
            number=self.chunk.number, chunk_samples=self.chunk.samples,
            start=self.start, stop=self.stop,
            shard_chunks=self.shard_chunks, problem=self.problem,
        )  # fmt: skip


Placed = tuple[ShardRange, CommitFile]
"""A commit, and where in its shard it lies."""


class CommitIndex:
    """The commits of a run, by shard and chunk."""

    def __init__(self, commits: Mapping[str, CommitFile]) -> None:
        self._by_shard = defaultdict[str, list[Placed]](list)
        self._by_chunk = dict[str, dict[int, list[Placed]]]()
        self._finished: dict[str, set[str]] | None = None
        for record in commits.values():
            if (place := record.place) is not None:
                self._by_shard[place.shard_id].append((place, record))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is committed."""
        return not self._by_shard

    def of_chunk(self, shard_id: str, number: int) -> list[Placed]:
        """Return what is committed of a chunk, in sample order."""
        if shard_id not in self._by_chunk:  # most shards of a long run are finished
            self._by_chunk[shard_id] = chunks = defaultdict[int, list[Placed]](list)
            for placed in self.of_shard(shard_id):
                chunks[placed[0].number].append(placed)
        found = self._by_chunk[shard_id].get(number, [])
        return sorted(found, key=lambda placed: placed[0].start)

    def of_shard(self, shard_id: str) -> list[Placed]:
        """Return what is committed of a shard."""
        return self._by_shard.get(shard_id, [])

    def first(self, shard_id: str) -> int | None:
        """Return how many samples of a shard are committed; null if one before them is not."""
        total, number, position, chunk_samples = 0, 0, 0, -1
        for place, _ in sorted(self.of_shard(shard_id), key=lambda p: (p[0].number, p[0].start)):
            if place.number == number + 1 and position == chunk_samples:
                number, position = place.number, 0
            if (place.number, place.start) != (number, position):
                return None
            total, position, chunk_samples = total + place.samples, place.stop, place.chunk_samples
        return total

    def finished(self) -> dict[str, set[str]]:
        """Return the identities of the shards that are committed whole, by address."""
        if self._finished is None:
            self._finished = self._whole()
        return self._finished

    def _whole(self) -> dict[str, set[str]]:
        whole = dict[str, set[str]]()
        for shard_id, commits in self._by_shard.items():
            samples = {place.number: place.chunk_samples for place, _ in commits}
            done, first = _samples(commits), commits[0][0]
            if len(samples) == first.shard_chunks and done == sum(samples.values()):
                whole.setdefault(first.shard, set()).add(shard_id)
        return whole


class Plan:
    """Turns indexed shards into units, in shard order, up to a limit and a budget.

    The limit is of all samples, the budget of those that are not committed yet.

    Attributes:
        skipped: What earlier commits hold of the shards seen so far.
        total: Samples of those shards within the limit, committed or not.
    """

    def __init__(
        self, commit_index: CommitIndex, limit: int | None, budget: int | None = None
    ) -> None:
        self.skipped: list[CommitFile] = []
        self.total = 0
        self._commit_index, self._left, self._budget = commit_index, limit, budget

    @property
    def is_full(self) -> bool:
        """Whether limit or budget leaves nothing for a further shard."""
        is_over = self._left is not None and self._left <= 0
        return is_over or (self._budget is not None and self._budget <= 0)

    def skip(self, shard_id: str) -> str | None:
        """Count a shard that is committed whole; return its problem, if it had one."""
        commits = self._commit_index.of_shard(shard_id)
        samples = _samples(commits)
        self.skipped += [record for _, record in commits]
        self.total += samples
        self._wanted(samples)
        return commits[0][0].problem

    def work_units(self, index: ShardIndex) -> Iterator[WorkUnit]:
        """Yield what is to be scanned of a shard."""
        for chunk in index.chunks:
            wanted = self._wanted(chunk.samples)
            if not wanted:
                return
            commits = self._commit_index.of_chunk(chunk.shard.id, chunk.number)
            self.skipped += [record for _, record in commits]
            self.total += _samples(commits)
            for start, end in _gaps(commits, wanted):
                stop = start + self._afforded(end - start)
                if start < stop:
                    self.total += stop - start
                    yield WorkUnit(chunk, start, stop, len(index.chunks), index.problem)

    def _afforded(self, samples: int) -> int:
        if self._budget is None:
            return samples
        afforded = min(samples, self._budget)
        self._budget -= afforded
        return afforded

    def _wanted(self, samples: int) -> int:
        if self._left is None:
            return samples
        wanted = min(samples, self._left)
        self._left -= wanted
        return wanted


def _samples(commits: list[Placed]) -> int:
    return sum(place.stop - place.start for place, _ in commits)


def _gaps(commits: list[Placed], end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ``0..end`` that no commit covers; commits come in order."""
    position = 0
    for place, _ in commits:
        if position < min(place.start, end):
            yield position, min(place.start, end)
        position = max(position, place.stop)
    if position < end:
        yield position, end
