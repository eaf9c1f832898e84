"""Proof of a run's integrity: every committed chunk whole, once, and accounted for."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException

from scanner.errors import ResultsError, ShardError
from scanner.results import coverage, manifest
from scanner.results.commit_file import CommitFile, DataFile
from scanner.results.folder import Results
from scanner.results.manifest import History, RowRange
from scanner.results.stores import Entry
from scanner.results.tables import TABLES
from scanner.shards import reading

SAFE_AGE_SECONDS = 24 * 3600.0
"""A file that no record lists may belong to a commit on its way; after a day it does not."""

Progress = Callable[[int, int, str], None]
PackRanges = Mapping[str, Mapping[str, RowRange]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: ``record`` (a record is damaged or missing), ``commit`` (chunks were committed and
            have no record any more), ``missing`` (a file is), ``damaged``, ``rows``,
            ``duplicate``, ``range``, ``keys`` or ``orphan``.
        chunk: The chunk, or ``""``.
        text: What was found.
        pack: Number of the pack that it is in, or null.
    """

    kind: str
    chunk: str
    text: str
    pack: int | None = None


@dataclass(slots=True)
class Verification:
    """What `verify` read of a run, and the problems that it found.

    Attributes:
        run: The run.
        chunks: Commit records read.
        samples: Samples that they account for.
        shards: Shards that they come from.
        shards_read: Of these, shards whose keys were compared.
        problems: What is wrong; empty if the run is sound.
        notes: Shards that could not be compared, and what a repair did.
    """

    run: str
    chunks: int = 0
    samples: int = 0
    shards: int = 0
    shards_read: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong but files that nothing lists."""
        return all(problem.kind == "orphan" for problem in self.problems)

    def advice(self, *, repaired: bool) -> str:
        """Return what to do about the problems."""
        kinds = {problem.kind for problem in self.problems} - {"orphan"}
        if repaired or kinds <= {"commit"}:
            return "the same scan again does what is missing"
        return "memscan verify --repair sets damaged chunks aside; then scan again"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"sound": self.is_sound}


def verify(results: Results, run: str, meter: Progress, *, keys: bool = False) -> Verification:
    """Check a run: commits against its record, files against commits, no sample twice.

    Of the run: every chunk that its record knows as committed still has a commit record.
    Of every chunk: its files are there with their size, digest and number of rows; the rows
    account for its samples. Of every shard: its chunks neither overlap nor leave a gap before
    the last one. Over the run: no (shard, key, seed) twice. Memory grows by sixteen bytes a row.

    Args:
        results: The results.
        run: The run.
        meter: Shown how many chunks are checked.
        keys: Whether shards are read again, where they still are as they were, and their keys
            compared with the rows.

    Raises:
        ResultsError: If the store cannot be reached.
    """
    found, seen = Verification(run), set[bytes]()
    try:
        history, names = results.history(run), results.committed(run)
    except ResultsError as error:
        found.problems.append(Problem("record", "", str(error)))
        return found
    by_shard, listed = defaultdict[str, list[CommitFile]](list), set[str]()
    for files, records, pack in _units(results, history, names, found):
        listed |= {file.path for file in files.values()}
        for record in records:
            by_shard[record.place.shard_id if record.place else record.chunk].append(record)
        found.chunks += len(records)
        found.samples += sum(record.counts.samples for record in records)
        found.problems += _checked(results, files, records, seen, pack)
        meter(found.chunks, len(names), f"{len(found.problems)} problems")
    _check_committed(results, [r for records in by_shard.values() for r in records], found)
    for records in by_shard.values():
        found.problems += _ranges(records)
    found.shards = len(by_shard)
    if keys:
        packed = history.row_ranges()
        for records in by_shard.values():
            found.problems += _keys(results, records, found, packed)
    replaced = {name for pack in history.effective() for name in history.replaced(pack)}
    unlisted = [entry.name for entry in _entries(results, run) if entry.name not in listed]
    found.problems += [Problem("orphan", "", name) for name in unlisted if name not in replaced]
    if left := sum(name in replaced for name in unlisted):
        found.notes.append(f"{left} files are packed: memscan compact --remove-old removes them")
    return found


def _check_committed(results: Results, records: list[CommitFile], found: Verification) -> None:
    """Compare a run's record with the commit records that can be read."""
    try:
        record = results.run_file(found.run)
    except ResultsError as error:
        found.problems.append(Problem("record", "", f"{error}; the same scan writes it anew"))
        return
    commits = {own.chunk: own for own in records}
    found.problems += [
        Problem("commit", "", text) for text in coverage.missing(record.content, commits)
    ]
    if coverage.recorded(record.content) is None:
        found.notes.append(coverage.NOT_RECORDED)
    if record.status in ("running", "interrupted", "failed"):
        left = sum(len(own.open) for own in coverage.committed(records).values())
        found.notes.append(
            f"the run is not finished ({record.status}): at least {left} chunks are not committed; "
            f"the same scan goes on"
        )


def strays(results: Results) -> list[Problem]:
    """Return the runs that have commits and no record, which nothing lists.

    Raises:
        ResultsError: If the store cannot be read.
    """
    known = set(results.runs())
    return [
        Problem("record", "", f"run {run} has commits and no record runs/{run}.json: the same "
                f"scan writes it anew")
        for run in results.store.folders("commits") if run not in known
    ]  # fmt: skip


def repair(results: Results, found: Verification) -> None:
    """Set damaged chunks aside, so that the next scan does them anew; remove old orphans.

    The record of a damaged chunk is moved to ``quarantine/<run>/``; its files lose their record
    and go as orphans when they are a day old. A damaged pack is dissolved: the files that it
    replaced count again, and chunks whose files are gone are set aside. What was done is added to
    ``found.notes``.

    Raises:
        ResultsError: If the store cannot be written to.
    """
    run = found.run
    if mended := manifest.repair_partial_entry(results.store, run):
        found.notes += [f"{name}: set aside" for name in mended]
        found.problems += verify(results, run, lambda *_: None).problems
    bad = {p.chunk for p in found.problems if p.chunk and p.kind != "range"}
    for number in sorted({p.pack for p in found.problems if p.pack is not None}):
        for record in _dissolved(results, run, number, found):
            bad |= {p.chunk for p in _checked(results, record.files, [record], set(), None)}
            # The pack's copy of a record is the last one, where the chunk's own was lost.
            name = f"commits/{run}/{record.chunk}.json"
            if record.chunk not in bad and results.store.entry(name) is None:
                results.store.create(name, manifest.encoded(record.content))
    for chunk in sorted(bad):
        name = f"commits/{run}/{chunk}.json"
        content = results.store.read(name)
        if content is None:
            continue
        results.store.put(f"quarantine/{run}/{chunk}.json", content)
        results.store.remove(name)
        found.notes.append(f"{chunk}: set aside, the next scan does it anew")
    _remove_orphans(results, found)


def _dissolved(
    results: Results, run: str, number: int, found: Verification
) -> Iterator[CommitFile]:
    """Dissolve a pack and yield the records of its chunks; nothing if it is out of effect."""
    while number in (history := results.history(run)).in_effect:
        if manifest.append(results.store, run, history.length, {"dissolves": [number]}):
            found.notes.append(f"pack {number}: dissolved, the files that it replaced count again")
            yield from history.packs[number].commits.values()
            return


def _remove_orphans(results: Results, found: Verification) -> None:
    history, now = results.history(found.run), time.time()
    known = {
        file.path
        for record in results.commits(found.run).values()
        for file in record.files.values()
    }
    for pack in history.effective():
        known |= history.replaced(pack) | {file.path for file in pack.files.values()}
    for entry in _entries(results, found.run):
        if entry.name not in known and now - entry.modified > SAFE_AGE_SECONDS:
            results.store.remove(entry.name)
            found.notes.append(f"{entry.name}: removed, nothing lists it")


def _units(
    results: Results, history: History, names: list[str], found: Verification
) -> Iterator[tuple[Mapping[str, DataFile], list[CommitFile], int | None]]:
    """Yield files by table with the chunks whose rows they hold: packs, then single chunks."""
    for pack in history.effective():
        yield pack.files, list(pack.commits.values()), pack.number
    packed = history.commits()
    for name in names:
        try:
            record = None if name in packed else results.read_commit(found.run, name)
        except ResultsError as error:
            found.problems.append(Problem("record", name, str(error)))
            continue
        if record is not None:
            yield record.files, [record], None


def _checked(
    results: Results, files: Mapping[str, DataFile], records: list[CommitFile], seen: set[bytes],
    pack: int | None,
) -> Iterator[Problem]:  # fmt: skip
    """Check the files that hold the rows of some chunks, and what they hold of each."""
    own = records[0].chunk if pack is None else ""
    rows = defaultdict[str, dict[str, int]](dict)
    for table, file in files.items():
        found = _content(results, table, file)
        if isinstance(found, tuple):
            yield Problem(found[0], own, f"{file.path} {found[1]}", pack)
            continue
        counted = [(r.chunk, r.files[table].rows) for r in records if table in r.files]
        if len(found) != (total := sum(count for _, count in counted)):
            text = f"{file.path}: {len(found)} rows, not {total}"
            yield Problem("rows", own, text, pack)
        at = 0
        for chunk, count in counted:
            part = found.slice(at, count if pack is not None else None)
            at += count
            pairs = list(zip(part["shard"].to_pylist(), part["key"].to_pylist(), strict=True))
            rows[chunk][table] = len(set(pairs)) if table == "scores" else len(pairs)
            if table == "scores" and (twice := _twice(pairs, part["seed"].to_pylist(), seen)):
                text = f"{len(twice)} rows stand twice: {twice[0]}"
                yield Problem("duplicate", chunk, text, pack)
    for record in records:
        samples, have = record.counts.samples, rows[record.chunk]
        if "scores" not in record.files:
            text = "its record lists no scores, which every chunk has"
            yield Problem("rows", record.chunk, text, pack)
        if "scores" in have and (total := have["scores"] + have.get("rejects", 0)) != samples:
            text = f"{total} samples have rows, the record says {samples}"
            yield Problem("rows", record.chunk, text, pack)


def _content(results: Results, table: str, file: DataFile) -> pa.Table | tuple[str, str]:
    """Return the columns of a file that are checked, or kind and text of what is wrong with it."""
    content = results.store.read(file.path)
    if content is None:
        return "missing", "is gone"
    if hashlib.sha256(content).hexdigest() != file.sha256:
        size = f"{len(content)} of {file.bytes} bytes"
        return "damaged", f"is not what was written ({size})"
    columns = ["shard", "key", *(["seed"] if table == "scores" else [])]
    # One of Arrow's threads may drop the last reference to the bytes while Python exits: abort.
    try:
        source = pq.ParquetFile(pa.BufferReader(content))
        return source.read(columns=columns, use_threads=False)
    except (ArrowException, OSError, KeyError) as error:
        return "damaged", f"cannot be read: {error}"


def _twice(
    pairs: list[tuple[str, str]], seeds: list[int], seen: set[bytes]
) -> list[tuple[str, str, int]]:
    again = []
    for (shard, key), seed in zip(pairs, seeds, strict=True):
        digest = hashlib.blake2b(f"{shard}\0{key}\0{seed}".encode(), digest_size=16).digest()
        if digest in seen:
            again.append((shard, key, seed))
        seen.add(digest)
    return again


def _ranges(records: list[CommitFile]) -> Iterator[Problem]:
    """Compare a shard's committed ranges; what is not committed yet at its end is no problem."""
    placed = [(record.place, record.chunk) for record in records if record.place is not None]
    placed.sort(key=lambda pair: (pair[0].number, pair[0].start))
    for (before, earlier), (after, chunk) in pairwise(placed):
        if after.number == before.number and after.start < before.stop:
            text = f"samples {after.start} to {before.stop} are in {earlier} too"
            yield Problem("range", chunk, text)
    if len({place.shard_chunks for place, _ in placed}) > 1:
        yield Problem("range", placed[0][1], f"{placed[0][0].shard} was cut in two ways")


def _keys(
    results: Results, records: list[CommitFile], found: Verification, packed: PackRanges
) -> Iterator[Problem]:
    """Compare a shard's keys with the rows of its whole chunks."""
    placed = [(record, record.place) for record in records if record.place is not None]
    if not placed:
        return
    url = placed[0][1].shard
    try:
        shard = reading.stat(url)
        if shard.id != placed[0][1].shard_id:
            return
        size = max(place.chunk_samples for _, place in placed)
        chunks = {chunk.number: chunk for chunk in reading.index(shard, size).chunks}
        found.shards_read += 1
        for record, place in placed:
            chunk = chunks.get(place.number)
            if chunk is None or (place.start, place.stop) != (0, chunk.samples):
                continue
            wanted = sorted(item.key for item in reading.read(chunk, images=False))
            places = packed.get(record.chunk, manifest.own_ranges(record))
            kept = sorted(_stored(results, places))
            if wanted != kept:
                text = f"{len(set(wanted) - set(kept))} keys of the shard have no row"
                yield Problem("keys", record.chunk, text)
    except ShardError as error:
        found.notes.append(f"{url} was not compared: {error}")


def _stored(results: Results, places: Mapping[str, RowRange]) -> Iterator[str]:
    for table in ("scores", "rejects"):
        if place := places.get(table):
            at = (place.file.path, place.start, place.stop)
            keys = results.read_rows(*at, columns=["key"])["key"].to_pylist()
            yield from set(keys) if table == "scores" else keys


def _entries(results: Results, run: str) -> Iterator[Entry]:
    """Yield the data files of a run."""
    for table in TABLES:
        yield from results.store.entries(f"{table}/run={run}")
