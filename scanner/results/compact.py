"""Many small files of a run made into few large ones, and the small ones removed later.

A scan writes a file or three per chunk, so that a chunk can be committed alone; a query opens
all of them. Here the rows of many chunks are written together, chunk by chunk. The new files are
read back from the store and compared row by row with the old ones; only then an entry in the run's
history (`scanner.results.manifest`) makes readers turn to them, all at once. Killed before that
entry, it leaves files that nothing lists; after it, the next call goes on with the next pack.

Old files are removed by `remove_old` alone: of packs that are old enough for every query to have
ended that began with the old files, and after these packs were read once more.
"""

import hashlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scanner.errors import ConfigError, ResultsError
from scanner.results import manifest
from scanner.results.commit_file import CommitFile, DataFile
from scanner.results.folder import Committed, Results
from scanner.results.manifest import History, Pack
from scanner.results.tables import MASKS, REJECTS, SCORES, TABLES, scores_schema

TARGET_BYTES = 256 * 2**20
"""Size of a packed file; its making takes about four times as much memory."""
FULL_CHUNKS = 2000
"""Chunks of which a pack, however small its files, does not grow any more: its entry in the history
has the record of each, and one that grew again and again would be written, and read, as often."""
MOST_CHUNKS = 4 * FULL_CHUNKS
"""Chunks of a pack, at most: an entry of some megabytes."""
GROUP_ROWS = 8192
"""Rows of a row group: what a look-up of one caption reads."""
GROUP_BYTES = 32 * 2**20
"""Bytes of a row group before compression, for tables with maps."""
GRACE_SECONDS = 24 * 3600.0
"""Age of a pack before the files that it replaced are removed: no query runs for so long."""
AT_ONCE = 16
"""Files read or removed at a time: a store answers slowly, but many at once."""

Progress = Callable[[int, int, str], None]
Contents = Mapping[str, bytes]


@dataclass(slots=True)
class Compaction:
    """Counts of a compaction.

    Attributes:
        run: The run.
        chunks: Chunks packed now.
        packs: Packs made of them.
        rows: Rows that they have, of all tables.
        files_before: Files that queries opened before.
        files_after: Files that they open now.
        bytes_before: Size of the files packed now.
        bytes_after: Size of the packs made of them.
        removed: Old files removed now.
        old_files: Files that packs replaced and that are still there.
        old_bytes: Their size.
    """

    run: str
    chunks: int = 0
    packs: int = 0
    rows: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    removed: int = 0
    old_files: int = 0
    old_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Group:
    """A unit that is packed whole or not at all: a chunk, or a small pack that grows."""

    files: Mapping[str, DataFile]
    records: tuple[CommitFile, ...]
    pack: int | None = None

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def compact(
    results: Results, run: str, meter: Progress, *, target: int = TARGET_BYTES
) -> Compaction:
    """Pack a run's chunks that are in no pack yet, and packs that are small, into large files.

    Args:
        results: The results.
        run: The run; chunks that are committed meanwhile are left for the next time.
        meter: Shown how many chunks are packed.
        target: Size of a file, in bytes, at which a pack is full.

    Raises:
        ConfigError: If another process packs the same chunks.
        ResultsError: If a file is damaged, or the store cannot be read or written to.
    """
    known = results.read_committed(run)
    done, history, units = Compaction(run), known.history, _units_to_pack(known, target)
    done.files_before = _files_of_queries(results, run, known)
    total = sum(len(unit.records) for unit in units)
    left = _with_contents(results, units)
    while True:
        pack = _make_pack(results, run, left, target, history)
        if pack is None:
            break
        made, of, history = pack
        done.packs += 1
        done.chunks += len(made.commits)
        done.rows += sum(file.rows for file in made.files.values())
        done.bytes_before += sum(unit.bytes for unit in of)
        done.bytes_after += sum(file.bytes for file in made.files.values())
        meter(done.chunks, total, f"{done.packs} packs")
    known = results.read_committed(run, history)
    done.files_after = _files_of_queries(results, run, known)
    return done


def remove_old(results: Results, done: Compaction, *, grace: float = GRACE_SECONDS) -> None:
    """Remove the files that packs replaced, and note in ``done`` how many and what is left.

    Args:
        results: The results.
        done: Of the run.
        grace: Age in seconds that a pack must have.

    Raises:
        ResultsError: If a pack is damaged: nothing that it replaced is removed then.
    """
    run, store, now = done.run, results.store, time.time()
    born = {entry.name: entry.modified for entry in store.entries(f"packs/{run}")}
    there = {e.name for table in TABLES for e in store.entries(f"{table}/run={run}")}
    history = results.history(run)
    for pack in history.effective():
        old = sorted(history.replaced(pack) & there)
        if not old or now - born[manifest.entry_name(run, pack.number)] < grace:
            continue
        for file in pack.files.values():
            _content(results, file)
        if _retire_old_files(results, run, pack.number):
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(store.remove, old))
            done.removed += len(old)


def note_old(results: Results, done: Compaction) -> None:
    """Note in ``done`` how many replaced files of its run are still there, and their size.

    Raises:
        ResultsError: If the store cannot be read.
    """
    history = results.history(done.run)
    replaced = {name for pack in history.effective() for name in history.replaced(pack)}
    for table in TABLES if replaced else ():
        for entry in results.store.entries(f"{table}/run={done.run}"):
            if entry.name in replaced:
                done.old_files += 1
                done.old_bytes += entry.size


def _units_to_pack(known: Committed, target: int) -> list[_Group]:
    """Return what is to be packed, in order of chunks: single chunks, and packs half as large."""
    packed = known.history.commits()
    units = [
        _Group(record.files, (record,))
        for chunk, record in known.records.items()
        if chunk not in packed
    ]
    units += [
        _Group(pack.files, tuple(pack.commits.values()), pack.number)
        for pack in known.history.effective()
        if pack.bytes < target / 2 and len(pack.commits) < FULL_CHUNKS
    ]
    return sorted(units, key=lambda unit: unit.records[0].chunk)


def _files_of_queries(results: Results, run: str, known: Committed) -> int:
    return sum(map(len, results.parts([run], known={run: known}).values()))


def _with_contents(results: Results, units: Iterable[_Group]) -> Iterator[tuple[_Group, Contents]]:
    """Yield units with the content of their files, some chunks read ahead."""

    def contents(unit: _Group) -> Contents:
        return {table: _content(results, file) for table, file in unit.files.items()}

    ahead = deque[tuple[_Group, Future[Contents]]]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for unit in units:
            ahead.append((unit, pool.submit(contents, unit)))
            while len(ahead) >= (AT_ONCE if unit.pack is None else 1):
                first, future = ahead.popleft()
                yield first, future.result()
        for unit, future in ahead:
            yield unit, future.result()


def _content(results: Results, file: DataFile) -> bytes:
    """Return a file that is what was written.

    Raises:
        ResultsError: If it is not.
    """
    content = results.store.read(file.path)
    if content is None or hashlib.sha256(content).hexdigest() != file.sha256:
        what = "is missing" if content is None else "is not what was written"
        raise ResultsError(
            f"{results.store.address(file.path)} {what}: memscan verify --repair sets it aside; "
            f"then scan again, and compact"
        )
    return content


def _make_pack(
    results: Results, run: str, left: Iterator[tuple[_Group, Contents]], target: int,
    history: History,
) -> tuple[Pack, list[_Group], History] | None:  # fmt: skip
    """Make one pack of what is left; null if that is nothing, or a single unit.

    Returns it with what it is made of, and the history that it is a part of.

    Raises:
        ConfigError: If another process packed the same chunks.
    """
    writers, units, chunks = dict[str, _Writer](), list[_Group](), 0
    for unit, contents in left:
        units.append(unit)
        chunks += len(unit.records)
        for table, rows in (pair for chunk in _tables(unit, contents) for pair in chunk.items()):
            if table not in writers:
                writers[table] = _Writer(_schema(table, rows))
            writers[table].add(rows)
        if chunks >= MOST_CHUNKS or max(w.bytes for w in writers.values()) >= target:
            break
    if len(units) < 2:
        return None
    files = _written(results, run, writers)
    commits = {record.chunk: record for unit in units for record in unit.records}
    replaces = tuple(unit.pack for unit in units if unit.pack is not None)
    pack = Pack(-1, commits, files, replaces)
    try:
        _compare(results, pack, units)
        entered, history = _add_to_history(results, run, pack, history)
        return entered, units, history
    except ConfigError:
        for file in files.values():
            results.store.remove(file.path)
        raise


def _written(results: Results, run: str, writers: Mapping[str, "_Writer"]) -> dict[str, DataFile]:
    """Write a pack's files under a name of their own; return them by table."""
    token, files = uuid.uuid4().hex[:16], dict[str, DataFile]()
    for table, writer in writers.items():
        content = writer.close()
        path = f"{table}/run={run}/pack-{token}.parquet"
        digest = hashlib.sha256(content).hexdigest()
        files[table] = DataFile(path, writer.rows, digest, len(content))
        results.store.put(path, content)
    return files


def _compare(results: Results, pack: Pack, units: list[_Group]) -> None:
    """Read a pack back and compare it with what it was made of.

    Raises:
        ResultsError: If a row differs.
    """
    new = {table: _Rows(_content(results, file)) for table, file in pack.files.items()}
    for unit, contents in _with_contents(results, units):
        for tables in _tables(unit, contents):
            for table, rows in tables.items():
                read = new[table].take(len(rows))
                if not read.equals(_conformed(rows, read.schema)):
                    raise ResultsError(
                        f"{pack.files[table].path} did not keep the rows of "
                        f"{unit.files[table].path}: the pack is not used; report this"
                    )


def _add_to_history(results: Results, run: str, pack: Pack, known: History) -> tuple[Pack, History]:
    """Add a pack to the run's history, of which an earlier state is known.

    Raises:
        ConfigError: If its chunks were packed by another process.
    """
    entry = {
        "commits": {name: record.content for name, record in pack.commits.items()},
        "files": {table: file.as_json() for table, file in pack.files.items()},
        "replaces": list(pack.replaces),
    }
    while (known := results.history(run, known)).takes(pack):
        if manifest.append(results.store, run, known.length, entry):
            break
    known = results.history(run, known)
    for entered in known.effective():
        if entered.files == pack.files:
            return entered, known
    raise ConfigError(
        f"another process packed chunks of run {run} at the same time: nothing is lost; run "
        f"compact again when it is done"
    )


def _retire_old_files(results: Results, run: str, number: int) -> bool:
    """Say in the history that old files may be gone; False if the pack is out of effect."""
    while number in (history := results.history(run)).in_effect:
        if number in history.retired:
            return True
        manifest.append(results.store, run, history.length, {"retires": [number]})
    return False


class _Writer:
    """A Parquet file in the making."""

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema, self._sink = schema, pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")
        self._waiting, self._waiting_rows, self._waiting_bytes = list[pa.Table](), 0, 0

    @property
    def bytes(self) -> int:
        """Bytes written so far plus uncompressed bytes that wait."""
        return self._sink.tell() + self._waiting_bytes

    def add(self, rows: pa.Table) -> None:
        """Add rows, the next to those that were added before."""
        self._waiting.append(_conformed(rows, self._schema))
        self.rows += len(rows)
        self._waiting_rows += len(rows)
        self._waiting_bytes += rows.nbytes
        if self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
            self._write()

    def close(self) -> pa.Buffer:
        """Return the file."""
        self._write()
        self._writer.close()
        return self._sink.getvalue()

    def _write(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(self._waiting)
            size = len(rows) if len(rows) < 2 * GROUP_ROWS else GROUP_ROWS
            self._writer.write_table(rows, row_group_size=max(1, size))
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


class _Rows:
    """The rows of a Parquet file, taken from its beginning to its end."""

    def __init__(self, content: bytes) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(content))
        self._groups = iter(range(self._file.num_row_groups))
        self._left = self._file.schema_arrow.empty_table()

    def take(self, count: int) -> pa.Table:
        """Return the next rows, fewer only at the end."""
        while len(self._left) < count and (group := next(self._groups, None)) is not None:
            # One of Arrow's threads may drop the last reference to the bytes while Python exits.
            rows = self._file.read_row_group(group, use_threads=False)
            self._left = pa.concat_tables([self._left, rows])
        taken, self._left = self._left.slice(0, count), self._left.slice(count)
        return taken


def _tables(unit: _Group, contents: Contents) -> Iterator[dict[str, pa.Table]]:
    """Yield the rows of each chunk of a unit, by table.

    Raises:
        ResultsError: If a file has fewer rows than its records say.
    """
    rows = {table: _Rows(content) for table, content in contents.items()}
    for record in unit.records:
        files = record.files.items()
        found = {table: rows[table].take(file.rows) for table, file in files}
        if any(len(found[table]) != file.rows for table, file in files):
            raise ResultsError(
                f"the files of {record.chunk} have fewer rows than its record says: memscan "
                f"verify --repair sets it aside"
            )
        yield found


def _schema(table: str, rows: pa.Table) -> pa.Schema:
    """Return a table's present columns, with the further detectors of these rows."""
    if table == "scores":
        return scores_schema([name for name in rows.column_names if name not in SCORES.names])
    return MASKS if table == "masks" else REJECTS


def _conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with these columns; one that rows of an earlier version lack is null.

    Raises:
        ResultsError: If the rows have others.
    """
    if unknown := set(rows.column_names) - set(schema.names):
        raise ResultsError(
            f"rows have columns that others of this run do not have ({', '.join(sorted(unknown))}):"
            f" compact with the memscan that wrote them"
        )
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(len(rows), f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
