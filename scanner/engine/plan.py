"""Work that is left: shards minus the commits of earlier scans. Knows no Ray."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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

    def facts(self) -> dict[str, Any]:
        """Return what a commit records, so that the shard need not be opened again."""
        return {
            "shard": self.chunk.shard.url, "shard_id": self.chunk.shard.id,
            "number": self.chunk.number, "chunk_samples": self.chunk.samples,
            "start": self.start, "stop": self.stop,
            "shard_chunks": self.shard_chunks, "problem": self.problem,
        }  # fmt: skip


class CommitIndex:
    """The commits of a run, by shard and chunk."""

    def __init__(self, commits: Mapping[str, Mapping[str, Any]]) -> None:
        self._by_chunk: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
        self._by_shard: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for facts in commits.values():
            if "shard_id" in facts:
                self._by_chunk[facts["shard_id"], facts["number"]].append(facts)
                self._by_shard[facts["shard_id"]].append(facts)

    def of_chunk(self, shard_id: str, number: int) -> list[Mapping[str, Any]]:
        """Return what is committed of a chunk, in sample order."""
        return sorted(self._by_chunk.get((shard_id, number), []), key=lambda facts: facts["start"])

    def of_shard(self, shard_id: str) -> list[Mapping[str, Any]]:
        """Return what is committed of a shard."""
        return self._by_shard.get(shard_id, [])

    def finished(self) -> dict[str, set[str]]:
        """Return the identities of the shards that are committed whole, by address."""
        whole: dict[str, set[str]] = defaultdict(set)
        for shard_id, commits in self._by_shard.items():
            samples = {facts["number"]: facts["chunk_samples"] for facts in commits}
            done = sum(facts["stop"] - facts["start"] for facts in commits)
            if len(samples) == commits[0]["shard_chunks"] and done == sum(samples.values()):
                whole[commits[0]["shard"]].add(shard_id)
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
        self.skipped: list[Mapping[str, Any]] = []
        self.total = 0
        self._commit_index, self._left, self._budget = commit_index, limit, budget

    @property
    def is_full(self) -> bool:
        """Whether limit or budget leaves nothing for a further shard."""
        return any(left is not None and left <= 0 for left in (self._left, self._budget))

    def skip(self, shard_id: str) -> str | None:
        """Count a shard that is committed whole; return its problem, if it had one."""
        commits = self._commit_index.of_shard(shard_id)
        samples = sum(facts["stop"] - facts["start"] for facts in commits)
        self.skipped += commits
        self.total += samples
        self._wanted(samples)
        return commits[0]["problem"]

    def work_units(self, index: ShardIndex) -> Iterator[WorkUnit]:
        """Yield what is to be scanned of a shard."""
        for chunk in index.chunks:
            wanted = self._wanted(chunk.samples)
            if not wanted:
                return
            commits = self._commit_index.of_chunk(chunk.shard.id, chunk.number)
            self.skipped += commits
            self.total += sum(facts["stop"] - facts["start"] for facts in commits)
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


def _gaps(commits: list[Mapping[str, Any]], end: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ``0..end`` that no commit covers; commits come in order."""
    position = 0
    for facts in commits:
        if position < min(facts["start"], end):
            yield position, min(facts["start"], end)
        position = max(position, facts["stop"])
    if position < end:
        yield position, end
