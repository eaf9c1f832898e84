"""Results: Parquet files that a commit record makes visible, all at once or not at all.

A chunk's files are written under names that carry a digest of their content. Then the commit
record, created exclusively, lists them. Only files that a record lists exist for a reader. So
rival writers never touch each other's rows, a crash leaves nothing that could be mistaken for a
result, and a second attempt with the same rows lands on the very same files.

Chunks that were packed since (`scanner.results.compact`) have their rows in larger files, which an
entry in the run's history lists; `parts` and `chunk_rows` know where.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scanner.collection import without_collection
from scanner.errors import ConfigError, ResultsError
from scanner.records import ChunkResult
from scanner.results import coverage, manifest, stores
from scanner.results.commit_file import CommitFile, DataFile
from scanner.results.manifest import (
    History,
    RowRange,
    checked_name,
    encoded,
    stem,
)
from scanner.results.run_file import RunFile
from scanner.results.tables import (
    CONFIRMED,
    MASKS,
    REJECTS,
    RETRIEVED,
    SCHEMA_VERSION,
    SCORES,
    TABLES,
    counts,
    scores_schema,
    tables,
)
from scanner.retry import explain

__all__ = [
    "MASKS", "REJECTS", "SCHEMA_VERSION", "SCORES", "TABLES", "Committed", "Part", "Results",
    "scores_schema",
]  # fmt: skip

_RESERVED = ("run", "chunk", "schema_version", "files", "counts")


@dataclass(frozen=True, slots=True)
class Part:
    """A file of one table and the rows of it that count.

    Attributes:
        path: Name in the store.
        rows: How many rows it has.
        spans: Chunk, first row and one past the last, of each chunk that counts.
    """

    path: str
    rows: int
    spans: tuple[tuple[str, int, int], ...]

    @property
    def is_whole(self) -> bool:
        """Whether all its rows count."""
        return sum(stop - start for _, start, stop in self.spans) == self.rows


@dataclass(frozen=True, slots=True)
class Committed:
    """The commits of a run, read once and shared.

    Attributes:
        history: What was packed.
        records: The commit records by chunk name, in order of name.
    """

    history: History
    records: dict[str, CommitFile]


class Results:
    """The results in a folder or a bucket; nothing is created before the first write.

    Attributes:
        store: The files underneath.
        root: Where they are, as a person would type it.

    Args:
        root: A local or mounted folder, or an address such as ``s3://bucket/prefix``.

    Raises:
        ConfigError: If ``root`` is an address of no store that can hold results.
    """

    def __init__(self, root: str | Path) -> None:
        self.store = stores.opened(root)
        self.root = self.store.root
        self._packed = dict[str, dict[str, dict[str, RowRange]]]()
        self._run_files = dict[str, tuple[bytes, RunFile]]()
        self._entries = manifest.KnownEntries()

    def exists(self) -> bool:
        """Whether something was ever written here."""
        return bool(self.store.names("runs") or self.store.folders("commits"))

    def check(self) -> None:
        """Prove that this place can hold results, before anything is computed for it.

        Raises:
            ConfigError: If a name can be created twice there.
            ResultsError: If it cannot be written to.
        """
        stores.check(self.store)

    def write_run(self, run: str, record: dict[str, object]) -> None:
        """Write or replace a run's record, atomically.

        Raises:
            ResultsError: If the store cannot be written to.
        """
        self.store.put(f"runs/{checked_name(run)}.json", encoded(record))

    def read_run(self, run: str) -> dict[str, Any]:
        """Return the JSON of a run's record, for who shows or rewrites it.

        Raises:
            ResultsError: If there is none, or it is damaged.
        """
        return dict(self.run_file(run).content)

    def run_file(self, run: str) -> RunFile:
        """Return a run's record.

        Raises:
            ResultsError: If there is none, or it is damaged.
        """
        name = f"runs/{checked_name(run)}.json"
        content = self.store.read(name)
        if content is None:
            known = ", ".join(self.runs()) or "none"
            raise ResultsError(f"{self.root} has no run {run}; it has: {known}")
        if (kept := self._run_files.get(run)) is not None and kept[0] == content:
            return kept[1]  # of a run of many shards, megabytes that a command reads several times
        advice = "restore it, or scan into a new folder"
        record = manifest.decoded(content, self.store.address(name), (), advice)
        try:
            found = RunFile.of(record)
        except ValueError as error:
            raise ResultsError(
                f"{self.store.address(name)} is damaged ({error}): {advice}"
            ) from error
        if len(content) > manifest.LONG:
            self._run_files[run] = content, found
        return found

    def verified_run(self, run: str, commits: Mapping[str, CommitFile]) -> RunFile:
        """Return a run's record, its status held against the commits: see `coverage.status`.

        Args:
            run: The run.
            commits: Its commit records by chunk name.

        Raises:
            ResultsError: If there is none, or it is damaged.
        """
        record = self.run_file(run)
        if record.status != "complete":
            return record
        status = coverage.status(record.content, commits)
        return replace(record, status=status, content={**record.content, "status": status})

    def has_run(self, run: str) -> bool:
        """Return whether a run has a record.

        Raises:
            ResultsError: If the store cannot be read.
        """
        return self.store.entry(f"runs/{checked_name(run)}.json") is not None

    def runs(self) -> list[str]:
        """Return the runs that have a record, the one started last at the end.

        Raises:
            ResultsError: If a record is damaged.
        """
        names = [stem(name) for name in self.store.names("runs")]
        found = {name: self.run_file(name) for name in names if manifest.is_name(name)}
        return sorted(found, key=lambda run: (found[run].started, run))

    def default_run(self) -> str:
        """Return the run that is read where none is named.

        It is the complete run that was started last; where none is complete, the one started last.

        Raises:
            ConfigError: If there is no run.
            ResultsError: If a record is damaged.
        """
        known = self.runs()
        if not known:
            raise ConfigError(f"no run in {self.root}: scan into it first")
        complete = [run for run in known if self.run_file(run).status == "complete"]
        return (complete or known)[-1]

    def history(self, run: str, known: History | None = None) -> History:
        """Return what was packed of a run.

        Args:
            run: The run.
            known: What it was a while ago; only what was added since is read.

        Raises:
            ResultsError: If an entry of it is damaged.
        """
        return manifest.history(self.store, run, known, self._entries)

    def agreed_chunk_size(self, run: str, size: int) -> int:
        """Return the samples per chunk that all scans of a run keep to; propose one if none is set.

        Of several processes that propose at once, all return what one of them proposed.

        Raises:
            ResultsError: If the store cannot be read or written to, or an entry is damaged.
        """
        history = self.history(run)
        while history.chunk_size is None:
            manifest.append(self.store, run, history.length, {"chunk_size": size})
            history = self.history(run, history)
        return history.chunk_size

    def commits(self, run: str) -> dict[str, CommitFile]:
        """Return a run's commit records by chunk name, in order of name.

        Raises:
            ResultsError: If a record is damaged.
        """
        return self.read_committed(run).records

    def read_committed(self, run: str, known: History | None = None) -> Committed:
        """Return a run's commit records, and how they were packed.

        Args:
            run: The run.
            known: How they were packed a while ago; only what was added since is read.

        Raises:
            ResultsError: If a record is damaged.
        """
        with without_collection():
            history = self.history(run, known)
            return Committed(history, self._commits(run, history))

    def committed(self, run: str, known: History | None = None) -> list[str]:
        """Return the names of a run's chunks that are committed, in order.

        Args:
            run: The run.
            known: How they were packed a while ago; only what was added since is read.

        Raises:
            ResultsError: If the history of its packs is damaged.
        """
        return sorted({*self._listed(run), *self.history(run, known).commits()})

    def read_commit(self, run: str, chunk: str) -> CommitFile | None:
        """Return the commit record of one chunk as it was created, null if there is none.

        Raises:
            ResultsError: If the record is damaged.
        """
        name = f"commits/{checked_name(run)}/{checked_name(chunk)}.json"
        content = self.store.read(name)
        return None if content is None else manifest.read_commit(self.store, name, content)

    def parts(
        self, runs: Sequence[str] | None = None, *, shards: Collection[str] | None = None,
        known: Mapping[str, Committed] | None = None,
    ) -> dict[str, list[Part]]:  # fmt: skip
        """Return the files that hold the rows of committed chunks, by table.

        Args:
            runs: Which runs; null for all.
            shards: Identities of the shards whose chunks count; null for all.
            known: By run, what was read of it already.

        Raises:
            ResultsError: If a record is damaged.
        """
        found: dict[str, list[Part]] = {table: [] for table in TABLES}
        for run in self.store.folders("commits") if runs is None else runs:
            own = (known or {}).get(run) or self.read_committed(run)
            packed = own.history.commits()
            written = [(pack.files, pack.commits) for pack in own.history.effective()]
            written += [(r.files, {c: r}) for c, r in own.records.items() if c not in packed]
            parts = [
                (table, Part(files[table].path, files[table].rows, tuple(spans)))
                for files, records in written
                for table, spans in _chunk_spans(records, shards).items()
            ]
            for table, part in sorted(parts, key=lambda each: min(each[1].spans)):
                found[table].append(part)
        return found

    def files(self, table: str, runs: Sequence[str] | None = None) -> list[str]:
        """Return the data files of a table, as absolute paths or addresses, of committed chunks.

        Args:
            table: ``scores``, ``masks`` or ``rejects``.
            runs: Which runs; null for all.

        Raises:
            ResultsError: If a record is damaged.
            ValueError: If there is no such table.
        """
        if table not in TABLES:
            raise ValueError(f"table must be one of {', '.join(TABLES)}, got {table!r}")
        return [self.store.address(part.path) for part in self.parts(runs)[table]]

    def write_retrieved(self, run: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write or replace what was retrieved for a run's pictures, as one file.

        Args:
            run: The run.
            rows: As `scanner.results.tables.RETRIEVED` names them, without ``run``.

        Raises:
            ResultsError: If the store cannot be written to.
        """
        self._write_derived(run, rows, RETRIEVED)

    def write_confirmed(self, run: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write or replace what came of drawing a run's findings again, as one file.

        Args:
            run: The run.
            rows: As `scanner.results.tables.CONFIRMED` names them, without ``run``.

        Raises:
            ResultsError: If the store cannot be written to.
        """
        self._write_derived(run, rows, CONFIRMED)

    def retrieved(self, runs: Sequence[str]) -> list[str]:
        """Return the files of what was retrieved for runs, of those that have one."""
        return self._derived(runs, "retrieved")

    def confirmed(self, runs: Sequence[str]) -> list[str]:
        """Return the files of what was drawn again for runs, of those that have one."""
        return self._derived(runs, "confirmed")

    def read(self, file: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of one of `files`.

        Args:
            file: As `files` gives it.
            columns: Which columns; null for all.

        Raises:
            ResultsError: If it cannot be read.
        """
        return self.read_rows(file.removeprefix(self.root).lstrip("/"), columns=columns)

    def read_rows(
        self, path: str, start: int = 0, stop: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:  # fmt: skip
        """Return consecutive rows of a file; only the row groups that hold them are read.

        Args:
            path: Name in the store.
            start: The first row.
            stop: One past the last; null for all.
            columns: Which columns; null for all.

        Raises:
            ResultsError: If it cannot be read.
        """
        with self.store.open(path) as stream:
            try:
                file = pq.ParquetFile(stream, pre_buffer=True)
                if stop is None:
                    return file.read(columns=columns)
                groups, first = _groups(file.metadata, start, stop)
                rows = file.read_row_groups(groups, columns=columns)
                return rows.slice(start - first, stop - start)
            except (OSError, pa.ArrowException) as error:
                address = self.store.address(path)
                raise ResultsError(
                    f"{address} cannot be read: {explain(error)}; verify it"
                ) from error

    def hashes(self, part: Part) -> Iterator[tuple[str, list[str]]]:
        """Yield each chunk of a part of the scores with the caption hashes of its rows.

        Raises:
            ResultsError: If the file cannot be read.
        """
        column = self.read_rows(part.path, columns=["caption_sha256"])["caption_sha256"]
        for chunk, start, stop in part.spans:
            yield chunk, column.slice(start, stop - start).to_pylist()

    def chunk_rows(self, run: str, chunk: str, hashes: Collection[str]) -> list[dict[str, Any]]:
        """Return the score rows of some captions of a chunk; none if it is not committed.

        They are read from the chunk's own file while that is there: the history of the packs of
        a long run is more than an actor should have in memory for a row. After that, where the
        chunk's rows lie is remembered, and looked up anew if they are not there.

        Raises:
            ResultsError: If they cannot be read.
        """
        wanted = pc.field("caption_sha256").isin(list(hashes))
        try:
            found = self._own_score_rows(run, chunk)
        except ResultsError:
            found = self._packed_score_rows(run, chunk)
        return [] if found is None else found.filter(wanted).to_pylist()

    def commit(
        self,
        run: str,
        chunk_name: str,
        result: ChunkResult,
        *,
        extra: Sequence[str],
        facts: dict[str, object],
    ) -> bool:
        """Make a chunk's rows visible, all of them or none.

        Args:
            run: The run.
            chunk_name: The chunk.
            result: Its rows.
            extra: Names of the further detectors, whether or not a row has their score.
            facts: Further content of the commit record; ``samples`` is how many samples the chunk
                has and must be the number scored and rejected.

        Returns:
            Whether this call committed the chunk; False if it was committed already, and then
            the rows that were first stay.

        Raises:
            ResultsError: If the store cannot be written to.
            ValueError: If the rows do not account for the samples, or one cannot be stored.
        """
        name = f"commits/{checked_name(run)}/{checked_name(chunk_name)}.json"
        if taken := set(facts) & set(_RESERVED):
            raise ValueError(f"facts must not hold {sorted(taken)}: the record has its own")
        accounts = counts(result, facts.get("samples"))
        content = tables(run, result, extra)
        if self.store.entry(name) is not None:
            return False
        files = {table: self._publish(run, chunk_name, t) for table, t in content.items()}
        if self.commit_files(run, chunk_name, files, counts=accounts, facts=facts):
            return True
        if (winner := self.read_commit(run, chunk_name)) is not None:
            self._discard_but(winner, files)
        return False

    def commit_files(
        self, run: str, chunk_name: str, files: Mapping[str, DataFile], *,
        counts: Mapping[str, int], facts: Mapping[str, object],
    ) -> bool:  # fmt: skip
        """Create the record that makes a chunk's files count; False if the chunk has one.

        Args:
            run: The run.
            chunk_name: The chunk.
            files: The files that hold its rows, by table; they are there.
            counts: How its samples are accounted for.
            facts: Further content of the record.

        Raises:
            ResultsError: If the store cannot be written to.
        """
        record = {
            **facts,
            "schema_version": SCHEMA_VERSION,
            "run": run,
            "chunk": chunk_name,
            "files": {table: file.as_json() for table, file in files.items()},
            "counts": dict(counts),
        }
        name = f"commits/{checked_name(run)}/{checked_name(chunk_name)}.json"
        return self.store.create(name, encoded(record))

    def _write_derived(self, run: str, rows: Sequence[dict[str, Any]], table: pa.Schema) -> None:
        own = [{"run": run, **row} for row in rows]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(own, table), sink, compression="zstd")
        self.store.put(derived(run, table.metadata[b"table"].decode()), sink.getvalue())

    def _derived(self, runs: Sequence[str], table: str) -> list[str]:
        names = [derived(run, table) for run in runs]
        return [self.store.address(n) for n in names if self.store.entry(n) is not None]

    def _publish(self, run: str, chunk_name: str, table: pa.Table) -> DataFile:
        kind = table.schema.metadata[b"table"].decode()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=max(1, len(table)))
        content = sink.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        name = f"{kind}/run={run}/{chunk_name}.{digest[:8]}.parquet"
        self.store.put(name, content)
        return DataFile(name, len(table), digest, len(content))

    def _discard_but(self, winner: CommitFile, files: Mapping[str, DataFile]) -> None:
        """Remove what this attempt published and the winner's commit does not list."""
        kept = {file.path for file in winner.files.values()}
        for file in files.values():
            if file.path not in kept:
                self.store.remove(file.path)

    def _commits(self, run: str, history: History) -> dict[str, CommitFile]:
        packed = history.commits()
        loose = [c for c in self._listed(run) if c not in packed]
        found = self.store.read_all([f"commits/{run}/{chunk}.json" for chunk in loose])
        read = {stem(name): manifest.read_commit(self.store, name, text) for name, text in found}
        return dict(sorted((packed | read).items()))

    def _listed(self, run: str) -> list[str]:
        names = self.store.names(f"commits/{checked_name(run)}")
        ends = [name.rpartition("/")[2] for name in names if name.endswith(".json")]
        return [name[: -len(".json")] for name in ends if name[0] != "."]

    def _own_score_rows(self, run: str, chunk: str) -> pa.Table | None:
        """Return the score rows of a chunk from the file that was committed.

        Raises:
            ResultsError: If it is not there any more, or the chunk has no commit record.
        """
        if (record := self.read_commit(run, chunk)) is None:
            raise ResultsError(f"{chunk} has no commit record")
        file = record.files.get("scores")
        return None if file is None else self.read_rows(file.path)

    def _packed_score_rows(self, run: str, chunk: str) -> pa.Table | None:
        try:
            return self._score_rows_in_pack(run, chunk)
        except ResultsError:
            self._packed.pop(run, None)
            return self._score_rows_in_pack(run, chunk)

    def _score_rows_in_pack(self, run: str, chunk: str) -> pa.Table | None:
        if run not in self._packed:
            self._packed[run] = self.history(run).row_ranges()
        if (place := self._packed[run].get(chunk, {}).get("scores")) is None:
            return None
        return self.read_rows(place.file.path, place.start, place.stop)


def derived(run: str, table: str) -> str:
    """Return the name of the file of a table that is derived of a run, beside its commits.

    Args:
        run: The run.
        table: ``retrieved`` or ``confirmed``.
    """
    return f"{table}/{checked_name(run)}.parquet"


def _chunk_spans(
    records: Mapping[str, CommitFile], shards: Collection[str] | None
) -> dict[str, list[tuple[str, int, int]]]:
    """Return where the rows of chunks lie that are written one after the other, by table.

    Only those of the shards are returned, all of them for null.
    """
    found, ends = defaultdict[str, list[tuple[str, int, int]]](list), defaultdict[str, int](int)
    for chunk, record in records.items():
        place = record.place
        counts = shards is None or (place is not None and place.shard_id in shards)
        for table, file in record.files.items():
            start = ends[table]
            ends[table] = stop = start + file.rows
            if counts:
                found[table].append((chunk, start, stop))
    return found


def _groups(metadata: pq.FileMetaData, start: int, stop: int) -> tuple[list[int], int]:
    """Return the row groups that hold rows ``start`` to ``stop``, and the first row of these."""
    groups, first, at = list[int](), 0, 0
    for group in range(metadata.num_row_groups):
        end = at + metadata.row_group(group).num_rows
        if at < stop and end > start:
            first = first if groups else at
            groups.append(group)
        at = end
    return groups, first
