"""Proof of a run's integrity: every committed chunk whole, once, and accounted for."""

import hashlib
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowException

from scanner.errors import ResultsError, ShardError
from scanner.io import shards
from scanner.io.results import Results
from scanner.io.tables import TABLES

SAFE_AGE_SECONDS = 24 * 3600.0
"""A file that no record lists may belong to a commit on its way; after a day it does not."""

Meter = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: ``record``, ``missing``, ``damaged``, ``rows``, ``duplicate``, ``range``, ``keys``
            or ``orphan``.
        chunk: The chunk, or ``""``.
        text: What was found.
    """

    kind: str
    chunk: str
    text: str


@dataclass(slots=True)
class Verification:
    """What was looked at in a run, and what is wrong.

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

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"sound": self.is_sound}


def verify(results: Results, run: str, meter: Meter, *, keys: bool = False) -> Verification:
    """Check a run: files against records, ranges against shards, no sample twice.

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
    names, by_shard = results.committed(run), defaultdict[str, list[Mapping[str, Any]]](list)
    listed = set[str]()
    for number, name in enumerate(names, 1):
        try:
            record = results.read_commit(run, name)
        except ResultsError as error:
            found.problems.append(Problem("record", name, str(error)))
            continue
        if record is None:
            continue
        listed |= {file["path"] for file in record["files"].values()}
        by_shard[record.get("shard_id", name)].append(record)
        found.chunks += 1
        found.samples += record["counts"]["samples"]
        found.problems += _chunk(results, record, seen)
        meter(number, len(names), f"{len(found.problems)} problems")
    for records in by_shard.values():
        found.problems += _ranges(records)
    found.shards = len(by_shard)
    if keys:
        for records in by_shard.values():
            found.problems += _keys(results, records, found)
    found.problems += [Problem("orphan", "", name) for name, _ in _orphans(results, run, listed)]
    return found


def repair(results: Results, found: Verification) -> None:
    """Set damaged chunks aside, so that the next scan does them anew; remove old orphans.

    The record of a damaged chunk is moved to ``quarantine/<run>/``; its files lose their record
    and go as orphans when they are a day old. What was done is added to ``found.notes``.

    Raises:
        ResultsError: If the store cannot be written to.
    """
    for chunk in sorted({p.chunk for p in found.problems if p.chunk and p.kind != "range"}):
        name = f"commits/{found.run}/{chunk}.json"
        content = results.store.read(name)
        if content is None:
            continue
        results.store.put(f"quarantine/{found.run}/{chunk}.json", content)
        results.store.remove(name)
        found.notes.append(f"{chunk}: set aside, the next scan does it anew")
    listed = {
        file["path"]
        for record in results.commits(found.run).values()
        for file in record["files"].values()
    }
    for name, age in _orphans(results, found.run, listed):
        if age > SAFE_AGE_SECONDS:
            results.store.remove(name)
            found.notes.append(f"{name}: removed, nothing lists it")


def _chunk(results: Results, record: Mapping[str, Any], seen: set[bytes]) -> Iterator[Problem]:
    chunk, rows = record["chunk"], dict[str, int]()
    for table, file in record["files"].items():
        content = results.store.read(file["path"])
        if content is None:
            yield Problem("missing", chunk, f"{file['path']} is gone")
            continue
        if hashlib.sha256(content).hexdigest() != file["sha256"]:
            size = f"{len(content)} of {file['bytes']} bytes"
            yield Problem("damaged", chunk, f"{file['path']} is not what was written ({size})")
            continue
        try:
            columns = ["shard", "key", *(["seed"] if table == "scores" else [])]
            found = pq.ParquetFile(io.BytesIO(content)).read(columns=columns)
        except (ArrowException, OSError, KeyError) as error:
            yield Problem("damaged", chunk, f"{file['path']} cannot be read: {error}")
            continue
        if len(found) != file["rows"]:
            yield Problem("rows", chunk, f"{file['path']}: {len(found)} rows, not {file['rows']}")
        pairs = list(zip(found["shard"].to_pylist(), found["key"].to_pylist(), strict=True))
        rows[table] = len(set(pairs)) if table == "scores" else len(pairs)
        if table == "scores":
            twice = _twice(pairs, found["seed"].to_pylist(), seen)
            if twice:
                yield Problem("duplicate", chunk, f"{len(twice)} rows stand twice: {twice[0]}")
    samples = record["counts"]["samples"]
    if "scores" in rows and (total := rows["scores"] + rows.get("rejects", 0)) != samples:
        yield Problem("rows", chunk, f"{total} samples have rows, the record says {samples}")


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


def _ranges(records: list[Mapping[str, Any]]) -> Iterator[Problem]:
    """Compare a shard's committed ranges; what is not committed yet at its end is no problem."""
    if any("number" not in record for record in records):
        return
    ordered = sorted(records, key=lambda record: (record["number"], record["start"]))
    for before, after in pairwise(ordered):
        if after["number"] == before["number"] and after["start"] < before["stop"]:
            text = f"samples {after['start']} to {before['stop']} are in {before['chunk']} too"
            yield Problem("range", after["chunk"], text)
    if len({record["shard_chunks"] for record in ordered}) > 1:
        yield Problem("range", ordered[0]["chunk"], f"{ordered[0]['shard']} was cut in two ways")


def _keys(
    results: Results, records: list[Mapping[str, Any]], found: Verification
) -> Iterator[Problem]:
    """Compare a shard's keys with the rows of its whole chunks."""
    url = records[0].get("shard", "")
    try:
        shard = shards.stat(url)
        if shard.id != records[0].get("shard_id"):
            return
        size = max(record["chunk_samples"] for record in records)
        chunks = {chunk.number: chunk for chunk in shards.index(shard, size).chunks}
        found.shards_read += 1
        for record in records:
            chunk = chunks.get(record["number"])
            if chunk is None or (record["start"], record["stop"]) != (0, chunk.samples):
                continue
            wanted = sorted(item.key for item in shards.read(chunk, images=False))
            kept = sorted(_stored(results, record))
            if wanted != kept:
                text = f"{len(set(wanted) - set(kept))} keys of the shard have no row"
                yield Problem("keys", record["chunk"], text)
    except ShardError as error:
        found.notes.append(f"{url} was not compared: {error}")


def _stored(results: Results, record: Mapping[str, Any]) -> Iterator[str]:
    for table in ("scores", "rejects"):
        if file := record["files"].get(table):
            keys = results.read(file["path"], ["key"])["key"].to_pylist()
            yield from set(keys) if table == "scores" else keys


def _orphans(results: Results, run: str, listed: set[str]) -> Iterator[tuple[str, float]]:
    """Yield the files of a run that no record lists, and how old they are, in seconds."""
    now = time.time()
    for table in TABLES:
        for entry in results.store.entries(f"{table}/run={run}"):
            if entry.name not in listed:
                yield entry.name, now - entry.modified
