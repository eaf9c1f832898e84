"""Manifest of a run: its commits, and the packs that hold the rows of several of them.

Packing is a history of numbered entries, each created exclusively, so that all readers and
writers agree on it. An entry packs chunks (their rows lie in its files from then on), retires
packs (the files that they replace may be removed), dissolves packs (these files count again), or
says how many samples a chunk has, where a scan found that out: the first that does holds.
Only a pack in effect has rows for a reader; every chunk is in one at most.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scanner.errors import ConfigError, ResultsError
from scanner.parsing import from_json
from scanner.results.commit_file import CommitFile, DataFile, listed_files, read_together
from scanner.results.run_file import LARGEST
from scanner.results.stores import Store
from scanner.results.tables import SCHEMA_VERSION

MEND = "memscan verify --repair sets it aside"
LONG = 2**20
"""Characters of a record from which on nobody reads it line by line."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMIT_KEYS = ("schema_version", "run", "chunk", "files", "counts")


class RowRange(NamedTuple):
    """A range of rows in a file of one table.

    Attributes:
        file: Their file.
        start: The first row, counted in the file.
        stop: One past the last.
    """

    file: DataFile
    start: int
    stop: int


def own_ranges(record: CommitFile) -> dict[str, RowRange]:
    """Return where the rows of a chunk lie that is in no pack."""
    return {table: RowRange(file, 0, file.rows) for table, file in record.files.items()}


@dataclass(frozen=True, slots=True)
class Pack:
    """Chunks whose rows lie together.

    Attributes:
        number: Of its entry in the history.
        commits: The commit records of its chunks by name, in the order of their rows.
        files: The file of each table that has rows.
        replaces: Numbers of smaller packs that it took the place of.
    """

    number: int
    commits: Mapping[str, CommitFile]
    files: Mapping[str, DataFile]
    replaces: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """Of its largest file."""
        return max(file.bytes for file in self.files.values())

    def row_ranges(self) -> Iterator[tuple[str, dict[str, RowRange]]]:
        """Yield each chunk with where its rows lie, by table."""
        at = dict.fromkeys(self.files, 0)
        for chunk, record in self.commits.items():
            found = dict[str, RowRange]()
            for table, file in record.files.items():
                found[table] = RowRange(self.files[table], at[table], at[table] + file.rows)
                at[table] += file.rows
            yield chunk, found


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a run's history.

    Attributes:
        pack: The pack that it adds, if any.
        ends: Numbers of the packs that are out of effect from here on.
        retires: Numbers of the packs whose replaced files may be removed.
        chunk_size: Samples per chunk that somebody proposes for the run, or null.
    """

    pack: Pack | None
    ends: tuple[int, ...]
    retires: tuple[int, ...]
    chunk_size: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The state of a run's packs.

    Attributes:
        length: Number of the entry to come.
        packs: Every pack there ever was, by number.
        in_effect: Those that have rows for a reader.
        retired: Packs whose replaced files may be gone.
        chunk_size: Samples per chunk that was proposed first, and so holds; null if none was.
    """

    length: int
    packs: Mapping[int, Pack]
    in_effect: tuple[int, ...]
    retired: frozenset[int]
    chunk_size: int | None = None

    def effective(self) -> list[Pack]:
        """Return the packs in effect."""
        return [self.packs[number] for number in self.in_effect]

    def commits(self) -> dict[str, CommitFile]:
        """Return the commit records of packed chunks."""
        return {name: record for pack in self.effective() for name, record in pack.commits.items()}

    def row_ranges(self) -> dict[str, dict[str, RowRange]]:
        """Return where the rows of packed chunks lie, by chunk and table."""
        return {chunk: places for pack in self.effective() for chunk, places in pack.row_ranges()}

    def replaced(self, pack: Pack) -> set[str]:
        """Return the names of the files whose rows a pack in effect has."""
        records = pack.commits.values()
        names = {file.path for record in records for file in record.files.values()}
        for earlier in (self.packs[number] for number in pack.replaces):
            names |= {file.path for file in earlier.files.values()} | self.replaced(earlier)
        return names

    def takes(self, pack: Pack) -> bool:
        """Return whether a pack may be the next entry: its chunks are nobody else's."""
        others, own = set(self.in_effect) - set(pack.replaces), pack.commits.keys()
        is_free = all(own.isdisjoint(self.packs[number].commits) for number in others)
        return is_free and set(pack.replaces) <= set(self.in_effect)


class KnownEntries:
    """Entries that were read before, found again while their bytes are the same."""

    def __init__(self) -> None:
        self._entries = dict[str, tuple[bytes, Entry]]()

    def read(self, store: Store, run: str, name: str, content: bytes) -> Entry:
        """Return `read_entry` of these bytes.

        Raises:
            ResultsError: If they are damaged.
        """
        digest = hashlib.sha256(content).digest()
        before, entry = self._entries.get(name, (b"", None))
        if entry is None or before != digest:
            entry = read_entry(store, run, name, content)
            self._entries[name] = digest, entry
        return entry


def history(
    store: Store, run: str, known: History | None = None, before: KnownEntries | None = None
) -> History:
    """Return the history of a run's packs.

    Args:
        store: Where the run is.
        run: The run.
        known: The history as it was a while ago; only what was added since is read.
        before: Entries that were read before, which are not decoded again.

    Raises:
        ResultsError: If an entry is damaged.
    """
    known, entries = known or History(0, {}, (), frozenset()), before or KnownEntries()
    packs, effective = dict(known.packs), dict.fromkeys(known.in_effect)
    retired, names = set(known.retired), entry_names(store, run)
    chunk_size = known.chunk_size
    for number, (name, content) in enumerate(store.read_all(names[known.length :]), known.length):
        entry = entries.read(store, run, name, content)
        if name != entry_name(run, number):
            raise ResultsError(f"{store.address(entry_name(run, number))} is missing: {MEND}")
        for gone in entry.ends:
            effective.pop(gone, None)
        retired |= set(entry.retires)
        chunk_size = chunk_size or entry.chunk_size
        if entry.pack is not None:
            packs[number] = entry.pack
            effective[number] = None
    retired &= set(effective)
    return History(len(names), packs, tuple(effective), frozenset(retired), chunk_size)


def entry_names(store: Store, run: str) -> list[str]:
    """Return the names of the entries of a run's history, in order."""
    names = store.names(f"packs/{checked_name(run)}")
    return [name for name in names if re.fullmatch(r"\d{6}\.json", name.rpartition("/")[2])]


def read_entry(store: Store, run: str, name: str, content: bytes) -> Entry:
    """Return an entry of a run's history.

    Raises:
        ResultsError: If it is damaged.
    """
    address = store.address(name)
    found = decoded(content, address, ("schema_version", "run"), MEND)
    try:
        return _entry(found, run, int(stem(name)))
    except (TypeError, ValueError) as error:
        raise ResultsError(
            f"{address} is damaged (it is no entry of this run's packs: {error}): {MEND}"
        ) from error


def _entry(found: Mapping[str, Any], run: str, number: int) -> Entry:
    if found["run"] != run:
        raise ValueError("run is another one")
    replaces, dissolves, retires = (
        tuple(map(int, found.get(name, ()))) for name in ("replaces", "dissolves", "retires")
    )
    if "files" not in found:
        size = found.get("chunk_size")
        if size is not None and not (type(size) is int and 0 < size < LARGEST):
            raise ValueError("chunk_size is out of its range")
        return Entry(None, dissolves, retires, size)
    if "replaces" not in found or not isinstance(found.get("commits"), dict):
        raise ValueError("commits or replaces is missing")
    records = read_together(list(found["commits"].values()), run)
    commits = dict(zip(found["commits"], records, strict=True))
    if any(own.chunk != name for name, own in commits.items()):
        raise ValueError("commits are of another chunk")
    pack = Pack(number, commits, listed_files(found, run), replaces)
    return Entry(pack, (*replaces, *dissolves), retires)


def repair_partial_entry(store: Store, run: str) -> list[str]:
    """Set damaged entries of a run's history aside, so that it can be read; return their names.

    In their place stands an entry that says nothing: the files that a pack replaced count again.

    Raises:
        ResultsError: If the store cannot be read or written to.
    """
    names = entry_names(store, run)
    mended = list[str]()
    for number in range(int(stem(names[-1])) + 1 if names else 0):
        content = store.read(name := entry_name(run, number))
        try:
            if content is not None:
                read_entry(store, run, name, content)
                continue
            content = b""
        except ResultsError:
            store.put(f"quarantine/{run}/pack-{stem(name)}.json", content or b"")
        store.put(name, json.dumps({"schema_version": 1, "run": run}).encode())
        mended.append(name)
    return mended


def append(store: Store, run: str, number: int, entry: dict[str, object]) -> bool:
    """Add an entry to a run's history; False if another process added this number before.

    Raises:
        ResultsError: If the store cannot be written to.
    """
    content = json.dumps({"schema_version": 1, "run": run, **entry}, separators=(",", ":"))
    return store.create(entry_name(run, number), content.encode())


def read_commit(store: Store, name: str, content: bytes) -> CommitFile:
    """Return a commit record.

    Raises:
        ResultsError: If it is damaged.
    """
    advice = "quarantine it with verify --repair and scan again, and its chunk is done anew"
    address = store.address(name)
    record = decoded(content, address, _COMMIT_KEYS, advice)
    _, run, _ = name.split("/")
    try:
        found = CommitFile.of(record)
    except ValueError as error:
        raise ResultsError(f"{address} is damaged ({error}): {advice}") from error
    if (found.run, found.chunk) != (run, stem(name)):
        raise ResultsError(f"{address} is damaged (it is not the record of its chunk): {advice}")
    return found


def stem(name: str) -> str:
    """Return what a record is called, from the name of its file."""
    return name.rpartition("/")[2].removesuffix(".json")


def is_name(name: str) -> bool:
    """Return whether a run or a chunk may be called so."""
    return _NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return a name that is safe as a part of a path.

    Raises:
        ValueError: If it is not.
    """
    if not is_name(name):
        raise ValueError(f"a name must be made of A-Z a-z 0-9 . _ -, got {name!r}")
    return name


def encoded(record: Mapping[str, object]) -> bytes:
    """Return a record as JSON that a person can read, or a program where it is long."""
    short = json.dumps(record, separators=(",", ":"), allow_nan=False)
    if len(short) > LONG:  # indented, it would take ten times as long to write
        return short.encode()
    return json.dumps(record, indent=2, allow_nan=False).encode()


def decoded(content: bytes, address: str, required: Sequence[str], advice: str) -> dict[str, Any]:
    """Return a record that has what it must have.

    Raises:
        ResultsError: If it has not.
        ConfigError: If a later memscan wrote it. It is not damaged: nothing may set it aside.
    """
    try:
        record = from_json(content)
    except ValueError as error:
        raise ResultsError(f"{address} is damaged ({error}): {advice}") from error
    if not isinstance(record, dict) or any(key not in record for key in required):
        raise ResultsError(f"{address} is damaged (must hold {', '.join(required)}): {advice}")
    if isinstance(schema := record.get("schema_version"), int) and schema > SCHEMA_VERSION:
        raise ConfigError(
            f"{address} is of schema {schema}, and this memscan reads up to {SCHEMA_VERSION}: "
            f"upgrade memscan"
        )
    return record


def entry_name(run: str, number: int) -> str:
    """Return the name of an entry of a run's history."""
    return f"packs/{checked_name(run)}/{number:06d}.json"
