"""Commits that a run's record lists, compared with the commits that exist.

A commit record can be lost without a trace: by a copy that broke off, or by a rule of a bucket
that deletes old objects. So the run's record keeps which chunks of which shards were committed
when it was last written, and how many samples they had. Packed chunks count as committed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from scanner.results.commit_file import CommitFile, ShardRange

KEY = "committed"
"""Part of a run's record that keeps it: by identity of a shard, ``shard``, ``chunks`` (how many the
shard has), ``whole`` (numbers of chunks, as ``0-41,43``) and ``parts`` (samples of the others)."""

NOT_RECORDED = "which chunks were committed is not recorded: an earlier version wrote this run"


@dataclass(slots=True)
class ShardCommits:
    """The committed chunks of a shard.

    Attributes:
        shard: Its address.
        chunks: How many chunks it has.
        whole: Numbers of the chunks of which every sample is committed.
        parts: Samples committed of each further chunk, by its number.
    """

    shard: str
    chunks: int
    whole: set[int] = field(default_factory=set)
    parts: dict[int, int] = field(default_factory=dict)

    def add(self, number: int, samples: int, of: int) -> None:
        """Add samples of a chunk that has ``of``."""
        total = self.parts.pop(number, 0) + samples
        if number in self.whole or total >= of:
            self.whole.add(number)
        else:
            self.parts[number] = total

    def merge(self, other: "ShardCommits") -> None:
        """Add what was committed at another time."""
        self.whole |= other.whole
        if not (self.parts or other.parts):
            return
        for number, samples in other.parts.items():
            self.parts[number] = max(samples, self.parts.get(number, 0))
        self.parts = {n: samples for n, samples in self.parts.items() if n not in self.whole}

    def lacks(self, earlier: "ShardCommits") -> list[int]:
        """Return the numbers of the chunks of which more was committed earlier."""
        if not earlier.parts and earlier.whole <= self.whole:
            return []
        parts = {n for n, samples in earlier.parts.items() if self.parts.get(n, 0) < samples}
        return sorted((earlier.whole | parts) - self.whole)

    @property
    def open(self) -> list[int]:
        """The numbers of the chunks that are not committed whole."""
        return sorted(set(range(self.chunks)) - self.whole)


CommitsByShard = dict[str, ShardCommits]
"""By identity of the shard."""


def committed(records: Iterable[CommitFile]) -> CommitsByShard:
    """Return what commit records cover; those of early versions name no shard and are left out."""
    found: CommitsByShard = {}
    for record in records:
        if record.place is not None:
            add(found, record.place)
    return found


def add(found: CommitsByShard, place: ShardRange) -> None:
    """Add samples that were committed."""
    _, identity, number, of, start, stop, chunks, _ = place
    if (own := found.get(identity)) is None:
        own = found[identity] = ShardCommits(place.shard, chunks)
    own.chunks = chunks
    if start == 0 and stop >= of and not own.parts:  # as nearly all
        own.whole.add(number)
    else:
        own.add(number, stop - start, of)


def merge(found: CommitsByShard, other: CommitsByShard) -> None:
    """Add what was committed at another time; shards that are new are shared from then on."""
    for identity, then in other.items():
        if (own := found.get(identity)) is None:
            found[identity] = then
        else:
            own.merge(then)


def written(found: CommitsByShard) -> dict[str, dict[str, Any]]:
    """Return it as a run's record keeps it."""
    return {
        identity: {
            "shard": own.shard, "chunks": own.chunks, "whole": ranges(own.whole),
            **({"parts": {str(n): own.parts[n] for n in sorted(own.parts)}} if own.parts else {}),
        }
        for identity, own in sorted(found.items())
    }  # fmt: skip


def recorded(record: Mapping[str, Any]) -> CommitsByShard | None:
    """Return what a run's record says was committed; null if it does not say so."""
    content = record.get(KEY)
    if not isinstance(content, dict):
        return None
    return {
        identity: ShardCommits(
            each["shard"], each["chunks"], set(_numbers(each["whole"])),
            {int(n): samples for n, samples in each["parts"].items()} if "parts" in each else {},
        )
        for identity, each in content.items()
    }  # fmt: skip


def missing(record: Mapping[str, Any], commits: Mapping[str, CommitFile]) -> Iterator[str]:
    """Yield what a run had committed and is not there any more, a line a shard.

    A shard that changed and was scanned whole as it is now takes the place of what it was.

    Args:
        record: The run's.
        commits: Its commit records by chunk name, of packed chunks too.
    """
    there = committed(commits.values())
    if isinstance(record.get(KEY), dict):
        named = list(_lost_chunks(record, there))
        yield from named or _fewer_samples(record, commits, there)
        return
    fewer = list(_fewer_samples(record, commits, there))
    if fewer or (record.get("status") == "complete" and "counts" not in record):
        yield from fewer
        yield from _gaps(record, there)


def _lost_chunks(record: Mapping[str, Any], there: CommitsByShard) -> Iterator[str]:
    if all(
        identity in there and _numbers(then["whole"]) <= there[identity].whole
        for identity, then in record[KEY].items()
    ) and not any("parts" in then for then in record[KEY].values()):
        return  # as of nearly all runs
    known = recorded(record) or {}
    gone = known.keys() - there.keys()
    renewed = {own.shard for own in there.values() if not own.open} if gone else set[str]()
    for identity, then in known.items():
        now = there.get(identity)
        if now is None and then.shard in renewed:
            continue
        if lost := (now or ShardCommits(then.shard, then.chunks)).lacks(then):
            yield _loss_text(then, lost)


def status(record: Mapping[str, Any], commits: Mapping[str, CommitFile]) -> str:
    """Return a run's status: its record's, unless that says complete and commits are missing."""
    said = str(record.get("status", ""))
    if said == "complete" and next(missing(record, commits), None) is not None:
        return "incomplete"
    return said


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges.

    Example:
        >>> ranges({0, 1, 2, 5})
        '0-2,5'
    """
    in_order, found = sorted(set(numbers)), list[list[int]]()
    if len(in_order) == 1:  # as of most shards
        return str(in_order[0])
    for number in in_order:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in found)


@lru_cache(1024)
def _numbers(text: str) -> frozenset[int]:
    found = set[int]()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return frozenset(found)


def _loss_text(then: ShardCommits, lost: list[int]) -> str:
    word = "chunk" if len(lost) == 1 else "chunks"
    return f"{then.shard}: no commit record of {word} {ranges(lost)} of {then.chunks}"


def _fewer_samples(
    record: Mapping[str, Any], commits: Mapping[str, CommitFile], there: CommitsByShard
) -> Iterator[str]:
    """Compare the counts of the last scan with the commits of its shards.

    Commits may be more than it counted: of shards as they were before, or of a longer scan.
    """
    counts, config = record.get("counts") or {}, record.get("config") or {}
    samples, shards = counts.get("samples"), config.get("shards")
    if not samples or not shards or len(there) == 0 < len(commits):
        return
    scanned = set(shards)
    have = sum(
        own.counts.samples
        for own in commits.values()
        if own.place is not None and own.place.shard in scanned
    )
    if have < samples:
        yield f"the last scan counted {samples} samples, and commit records have {have} of them"


def _gaps(record: Mapping[str, Any], there: CommitsByShard) -> Iterator[str]:
    """Yield what no commit covers of the shards of a run that was scanned whole."""
    by_address = defaultdict[str, list[ShardCommits]](list)
    for own in there.values():
        by_address[own.shard].append(own)
        if own.open:
            yield _loss_text(own, own.open)
    for address in (record.get("config") or {}).get("shards", ()):
        if address not in by_address:
            yield f"{address}: no commit record"
