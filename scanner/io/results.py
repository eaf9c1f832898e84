"""Results: Parquet files that a commit record makes visible, all at once or not at all.

A chunk's files are written under names that carry a digest of their content. Then the commit
record, created exclusively, lists them. Only files that a record lists exist for a reader. So
rival writers never touch each other's rows, a crash leaves nothing that could be mistaken for a
result, and a second attempt with the same rows lands on the very same files.
"""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scanner.errors import ResultsError
from scanner.io import stores
from scanner.io.patience import told
from scanner.io.tables import (
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
from scanner.records import ChunkResult

__all__ = ["MASKS", "REJECTS", "SCHEMA_VERSION", "SCORES", "TABLES", "Results", "scores_schema"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RESERVED = ("run", "chunk", "schema_version", "files", "counts")


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

    def exists(self) -> bool:
        """Whether something was ever written here."""
        return bool(self.store.entries("runs") or self.store.folders("commits"))

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
        self.store.put(f"runs/{_checked_name(run)}.json", _encoded(record))

    def read_run(self, run: str) -> dict[str, Any]:
        """Return a run's record.

        Raises:
            ResultsError: If there is none, or it is damaged.
        """
        name = f"runs/{_checked_name(run)}.json"
        content = self.store.read(name)
        if content is None:
            known = ", ".join(self.runs()) or "none"
            raise ResultsError(f"{self.root} has no run {run}; it has: {known}")
        advice = "restore it, or scan into a new folder"
        return _decoded(content, self.store.address(name), (), advice)

    def runs(self) -> list[str]:
        """Return the runs that have a record, the one started last at the end.

        Raises:
            ResultsError: If a record is damaged.
        """
        names = [_stem(entry.name) for entry in self.store.entries("runs")]
        found = {name: self.read_run(name) for name in names if _NAME.fullmatch(name)}
        return sorted(found, key=lambda run: (str(found[run].get("started", "")), run))

    def commits(self, run: str) -> dict[str, dict[str, Any]]:
        """Return a run's commit records by chunk name, in order of name.

        Raises:
            ResultsError: If a record is damaged.
        """
        names = [f"commits/{run}/{chunk}.json" for chunk in self.committed(run)]
        found = self.store.read_all(names)
        return {_stem(name): self._read_commit(name, content) for name, content in found}

    def committed(self, run: str) -> list[str]:
        """Return the names of a run's chunks that are committed, in order, without reading one."""
        entries = self.store.entries(f"commits/{_checked_name(run)}")
        names = [e.name for e in entries if e.name.endswith(".json")]
        return [_stem(name) for name in names if not name.rpartition("/")[2].startswith(".")]

    def read_commit(self, run: str, chunk: str) -> dict[str, Any] | None:
        """Return the commit record of one chunk, null if it is not committed.

        Raises:
            ResultsError: If the record is damaged.
        """
        name = f"commits/{_checked_name(run)}/{_checked_name(chunk)}.json"
        content = self.store.read(name)
        return None if content is None else self._read_commit(name, content)

    def files(
        self,
        table: str,
        runs: Sequence[str] | None = None,
        *,
        shards: Collection[str] | None = None,
    ) -> list[str]:
        """Return the data files of a table, as absolute paths or addresses, of committed chunks.

        Args:
            table: ``scores``, ``masks`` or ``rejects``.
            runs: Which runs; null for all.
            shards: Identities of the shards whose chunks count; null for all.

        Raises:
            ResultsError: If a commit record is damaged.
        """
        if table not in TABLES:
            raise ValueError(f"table must be one of {', '.join(TABLES)}, got {table!r}")
        if runs is None:
            runs = self.store.folders("commits")
        records = (record for run in runs for record in self.commits(run).values())
        return [
            self.store.address(record["files"][table]["path"])
            for record in records
            if table in record["files"] and (shards is None or record.get("shard_id") in shards)
        ]

    def write_retrieved(self, run: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write or replace what was retrieved for a run's pictures, as one file.

        Args:
            run: The run.
            rows: As `scanner.io.tables.RETRIEVED` names them, without ``run``.

        Raises:
            ResultsError: If the store cannot be written to.
        """
        own = [{"run": run, **row} for row in rows]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(own, RETRIEVED), sink, compression="zstd")
        self.store.put(_retrieved(run), sink.getvalue())

    def retrieved(self, runs: Sequence[str]) -> list[str]:
        """Return the files of what was retrieved for runs, of those that have one."""
        return [
            self.store.address(_retrieved(run))
            for run in runs
            if self.store.entry(_retrieved(run)) is not None
        ]

    def read(self, file: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of one of `files`.

        Args:
            file: As `files` gives it.
            columns: Which columns; null for all.

        Raises:
            ResultsError: If it cannot be read.
        """
        with self.store.open(file.removeprefix(self.root).lstrip("/")) as stream:
            try:
                return pq.ParquetFile(stream).read(columns=columns)
            except (OSError, pa.ArrowException) as error:
                raise ResultsError(f"{file} cannot be read: {told(error)}; verify it") from error

    def hashes(self, path: str) -> list[str]:
        """Return the caption hashes of a scores file, as a commit record names it.

        Raises:
            ResultsError: If it cannot be read.
        """
        return self.read(path, ["caption_sha256"])["caption_sha256"].to_pylist()

    def rows(self, path: str, hashes: Collection[str]) -> list[dict[str, Any]]:
        """Return the rows of some captions from a scores file, as a commit record names it.

        Raises:
            ResultsError: If it cannot be read.
        """
        wanted = pc.field("caption_sha256").isin(list(hashes))
        return self.read(path).filter(wanted).to_pylist()

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
        name = f"commits/{_checked_name(run)}/{_checked_name(chunk_name)}.json"
        if taken := set(facts) & set(_RESERVED):
            raise ValueError(f"facts must not hold {sorted(taken)}: the record has its own")
        accounts = counts(result, facts.get("samples"))
        content = tables(run, result, extra)
        if self.store.entry(name) is not None:
            return False
        files = {table: self._publish(run, chunk_name, t) for table, t in content.items()}
        record = {
            **facts,
            "schema_version": SCHEMA_VERSION,
            "run": run,
            "chunk": chunk_name,
            "files": files,
            "counts": accounts,
        }
        if self.store.create(name, _encoded(record)):
            return True
        if (winner := self.read_commit(run, chunk_name)) is not None:
            self._discard_but(winner, files)
        return False

    def _publish(self, run: str, chunk_name: str, table: pa.Table) -> dict[str, object]:
        kind = table.schema.metadata[b"table"].decode()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=max(1, len(table)))
        content = sink.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        name = f"{kind}/run={run}/{chunk_name}.{digest[:8]}.parquet"
        self.store.put(name, content)
        return {"path": name, "rows": len(table), "sha256": digest, "bytes": len(content)}

    def _discard_but(self, winner: dict[str, Any], files: dict[str, dict[str, object]]) -> None:
        """Remove what this attempt published and the winner's commit does not list."""
        kept = {file["path"] for file in winner["files"].values()}
        for file in files.values():
            if file["path"] not in kept:
                self.store.remove(str(file["path"]))

    def _read_commit(self, name: str, content: bytes) -> dict[str, Any]:
        advice = "quarantine it with verify --repair and scan again, and its chunk is done anew"
        address = self.store.address(name)
        required = ("schema_version", "run", "chunk", "files", "counts")
        record = _decoded(content, address, required, advice)
        _, run, _ = name.split("/")
        if (record["run"], record["chunk"]) != (run, _stem(name)) or not _lists(record):
            raise ResultsError(
                f"{address} is damaged (it is not the record of its chunk): {advice}"
            )
        return record


def _lists(record: dict[str, Any]) -> bool:
    """Whether a commit record lists files of its own run, and nothing elsewhere."""
    files, run = record["files"], re.escape(record["run"])
    return isinstance(files, dict) and all(
        isinstance(file, dict)
        and re.fullmatch(rf"{table}/run={run}/[^/\\]+\.parquet", str(file.get("path")))
        for table, file in files.items()
    )


def _retrieved(run: str) -> str:
    return f"retrieved/{_checked_name(run)}.parquet"


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"a name must be made of A-Z a-z 0-9 . _ -, got {name!r}")
    return name


def _encoded(record: dict[str, object]) -> bytes:
    return json.dumps(record, indent=2, allow_nan=False).encode()


def _decoded(content: bytes, address: str, required: Sequence[str], advice: str) -> dict[str, Any]:
    try:
        record = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise ResultsError(f"{address} is damaged ({error}): {advice}") from error
    if not isinstance(record, dict) or any(key not in record for key in required):
        raise ResultsError(f"{address} is damaged (must hold {', '.join(required)}): {advice}")
    return record
