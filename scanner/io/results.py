"""The results folder: Parquet files that a commit record makes visible, all at once or not at all.

A chunk's files are written under temporary names that do not end in ``.parquet``, flushed, read
back, and given names that carry a digest of their content. Then the commit record, created
exclusively, lists them. Only files that a record lists exist for a reader. So rival writers
never touch each other's rows, a crash leaves nothing that could be mistaken for a result, and a
second attempt with the same rows lands on the very same files.
"""

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scanner.errors import ConfigError, ResultsError
from scanner.io.tables import (
    MASKS,
    REJECTS,
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
_FULL = (errno.ENOSPC, errno.EDQUOT)
_RESERVED = ("run", "chunk", "schema_version", "files", "counts")


class Results:
    """A results folder; nothing is created before the first write.

    Args:
        root: A local or mounted folder that can hold hard links.

    Raises:
        ConfigError: If ``root`` is an address.
    """

    def __init__(self, root: str | Path) -> None:
        if "://" in str(root):
            raise ConfigError(f"results go to a local or mounted folder, got {root}")
        self.root = Path(root).expanduser().absolute()

    def exists(self) -> bool:
        """Whether something was ever written here."""
        return (self.root / "runs").is_dir() or (self.root / "commits").is_dir()

    def write_run(self, run: str, record: dict[str, object]) -> None:
        """Write or replace a run's record, atomically.

        Raises:
            ResultsError: If the folder cannot be written to.
        """
        path = self.root / "runs" / f"{_checked_name(run)}.json"
        content = json.dumps(record, indent=2, allow_nan=False).encode()
        with _writing(self.root), _temporary(path) as temporary:
            _write(temporary, content)
            temporary.replace(path)
            _flush_folder(path.parent)

    def read_run(self, run: str) -> dict[str, Any]:
        """Return a run's record.

        Raises:
            ResultsError: If there is none, or it is damaged.
        """
        path = self.root / "runs" / f"{_checked_name(run)}.json"
        if not path.exists():
            known = ", ".join(self.runs()) or "none"
            raise ResultsError(f"{self.root} has no run {run}; it has: {known}")
        return _read(path, (), "restore it, or scan into a new folder")

    def runs(self) -> list[str]:
        """Return the runs that have a record, the one started last at the end.

        Raises:
            ResultsError: If a record is damaged.
        """
        names = [p.stem for p in (self.root / "runs").glob("*.json") if _NAME.fullmatch(p.stem)]
        return sorted(names, key=lambda run: (str(self.read_run(run).get("started", "")), run))

    def commits(self, run: str) -> dict[str, dict[str, Any]]:
        """Return a run's commit records by chunk name, in order of name.

        Raises:
            ResultsError: If a record is damaged.
        """
        folder = self.root / "commits" / _checked_name(run)
        paths = sorted(p for p in folder.glob("*.json") if not p.name.startswith("."))
        return {path.stem: _read_commit(path) for path in paths}

    def read_commit(self, run: str, chunk: str) -> dict[str, Any] | None:
        """Return the commit record of one chunk, null if it is not committed.

        Raises:
            ResultsError: If the record is damaged.
        """
        path = self.root / "commits" / _checked_name(run) / f"{_checked_name(chunk)}.json"
        return _read_commit(path) if path.exists() else None

    def hashes(self, path: str) -> list[str]:
        """Return the caption hashes of a scores file, as a commit record names it.

        Raises:
            ResultsError: If it cannot be read.
        """
        table = self._scores(path, columns=["caption_sha256"])
        return table["caption_sha256"].to_pylist()

    def rows(self, path: str, hashes: Collection[str]) -> list[dict[str, Any]]:
        """Return the rows of some captions from a scores file, as a commit record names it.

        Raises:
            ResultsError: If it cannot be read.
        """
        table = self._scores(path)
        return table.filter(pc.field("caption_sha256").isin(list(hashes))).to_pylist()

    def _scores(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        try:
            with pq.ParquetFile(self.root / path) as file:
                return file.read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(f"{self.root / path} cannot be read ({error})") from error

    def files(
        self,
        table: str,
        runs: Sequence[str] | None = None,
        *,
        shards: Collection[str] | None = None,
    ) -> list[str]:
        """Return the data files of a table, as absolute paths, of committed chunks only.

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
            runs = sorted(p.name for p in (self.root / "commits").glob("*") if p.is_dir())
        records = (record for run in runs for record in self.commits(run).values())
        return [
            str(self.root / record["files"][table]["path"])
            for record in records
            if table in record["files"] and (shards is None or record.get("shard_id") in shards)
        ]

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
            ResultsError: If the folder cannot be written to.
            ValueError: If the rows do not account for the samples, or one cannot be stored.
        """
        path = self.root / "commits" / _checked_name(run) / f"{_checked_name(chunk_name)}.json"
        if taken := set(facts) & set(_RESERVED):
            raise ValueError(f"facts must not hold {sorted(taken)}: the record has its own")
        accounts = counts(result, facts.get("samples"))
        content = tables(run, result, extra)
        if path.exists():
            return False
        with _writing(self.root):
            files = {name: self._publish(run, chunk_name, t) for name, t in content.items()}
            record = {
                **facts,
                "schema_version": SCHEMA_VERSION,
                "run": run,
                "chunk": chunk_name,
                "files": files,
                "counts": accounts,
            }
            if _create(path, json.dumps(record, indent=2, allow_nan=False).encode()):
                return True
            self._discard_but(_read_commit(path), files)
            return False

    def _publish(self, run: str, chunk_name: str, table: pa.Table) -> dict[str, object]:
        name = table.schema.metadata[b"table"].decode()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=max(1, len(table)))
        content = sink.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        path = self.root / name / f"run={run}" / f"{chunk_name}.{digest[:8]}.parquet"
        with _temporary(path) as temporary:
            _write(temporary, content)
            rows = pq.read_metadata(temporary).num_rows
            if rows != len(table):
                raise ResultsError(f"{path} was written with {rows} of {len(table)} rows")
            temporary.replace(path)
            _flush_folder(path.parent)
        return {
            "path": path.relative_to(self.root).as_posix(),
            "rows": rows,
            "sha256": digest,
            "bytes": len(content),
        }

    def _discard_but(self, winner: dict[str, Any], files: dict[str, dict[str, object]]) -> None:
        """Remove what this attempt published and the winner's commit does not list."""
        kept = {file["path"] for file in winner["files"].values()}
        for file in files.values():
            if file["path"] not in kept:
                (self.root / str(file["path"])).unlink(missing_ok=True)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"a name must be made of A-Z a-z 0-9 . _ -, got {name!r}")
    return name


def _read(path: Path, required: Sequence[str], advice: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} is damaged ({error}): {advice}") from error
    if not isinstance(content, dict) or any(key not in content for key in required):
        raise ResultsError(f"{path} is damaged (must hold {', '.join(required)}): {advice}")
    return content


def _read_commit(path: Path) -> dict[str, Any]:
    advice = "remove it and scan again, and its chunk is done anew"
    record = _read(path, ("schema_version", "run", "chunk", "files", "counts"), advice)
    files = record["files"]
    is_sound = isinstance(files, dict) and all(
        isinstance(file, dict) and isinstance(file.get("path"), str) for file in files.values()
    )
    if not is_sound or (record["run"], record["chunk"]) != (path.parent.name, path.stem):
        raise ResultsError(f"{path} is damaged (it is not the record of its chunk): {advice}")
    return record


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResultsError(
                f"the disk of {root} is full ({error.strerror}): make room and run again; what "
                f"was committed stays"
            ) from error
        raise ResultsError(f"{root} cannot be written to: {error}") from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Make the folder of ``path`` and give a name beside it that is gone afterwards."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path, content: bytes) -> bool:
    """Create a file with its whole content, durably; False if it exists."""
    with _temporary(path) as temporary:
        _write(temporary, content)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            # Over NFS a link that was made may be answered by "exists" when the reply is repeated.
            if temporary.stat().st_nlink < 2:
                return False
        _flush_folder(path.parent)
        return True


def _write(path: Path, content: "bytes | pa.Buffer") -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
