"""Data files checked against the commit records that list them."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException

from scanner.results.commit_file import CommitFile, DataFile
from scanner.results.folder import Results
from scanner.results.problems import Problem
from scanner.results.stores import Entry
from scanner.results.tables import TABLES


def check_files(
    results: Results, files: Mapping[str, DataFile], records: list[CommitFile], seen: set[bytes],
    pack: int | None,
) -> Iterator[Problem]:  # fmt: skip
    """Check the files that hold the rows of some chunks, and what they hold of each."""
    own = records[0].chunk if pack is None else ""
    rows = defaultdict[str, dict[str, int]](dict)
    for table, file in files.items():
        found = _checked_columns(results, table, file)
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
            if table == "scores" and (twice := _duplicates(pairs, part["seed"].to_pylist(), seen)):
                text = f"{len(twice)} rows stand twice: {twice[0]}"
                yield Problem("duplicate", chunk, text, pack)
    yield from _check_counts(records, rows, pack)


def _check_counts(
    records: list[CommitFile], rows: Mapping[str, Mapping[str, int]], pack: int | None
) -> Iterator[Problem]:
    """Compare the samples of each chunk with those that have rows, by chunk and table."""
    for record in records:
        samples, have = record.counts.samples, rows.get(record.chunk, {})
        if "scores" not in record.files:
            text = "its record lists no scores, which every chunk has"
            yield Problem("rows", record.chunk, text, pack)
        if "scores" in have and (total := have["scores"] + have.get("rejects", 0)) != samples:
            text = f"{total} samples have rows, the record says {samples}"
            yield Problem("rows", record.chunk, text, pack)


def _checked_columns(results: Results, table: str, file: DataFile) -> pa.Table | tuple[str, str]:
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


def _duplicates(
    pairs: list[tuple[str, str]], seeds: list[int], seen: set[bytes]
) -> list[tuple[str, str, int]]:
    again = []
    for (shard, key), seed in zip(pairs, seeds, strict=True):
        digest = hashlib.blake2b(f"{shard}\0{key}\0{seed}".encode(), digest_size=16).digest()
        if digest in seen:
            again.append((shard, key, seed))
        seen.add(digest)
    return again


def stored_files(results: Results, run: str) -> Iterator[Entry]:
    """Yield the data files of a run."""
    for table in TABLES:
        yield from results.store.entries(f"{table}/run={run}")
