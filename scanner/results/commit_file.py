"""The record of a committed chunk, ``commits/<run>/<chunk>.json``: one type, and one reader.

Early versions left out where in its shard a chunk lies; `CommitFile.place` is null then. Further
numbers of the chunk, such as its seconds, are in `CommitFile.content`.

A long run has hundreds of thousands of them. So they are named tuples, made in a third of the time
of frozen dataclasses, and `read_together` checks the records of a pack column by column.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, Self, cast

from scanner.results.run_file import LARGEST


class DataFile(NamedTuple):
    """A Parquet file of one table.

    Attributes:
        path: Name in the store.
        rows: How many rows it has.
        sha256: Digest of its content.
        bytes: Its size.
    """

    path: str
    rows: int
    sha256: str
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return it as a record keeps it."""
        return self._asdict()


class ShardRange(NamedTuple):
    """Samples of a shard that were committed together.

    Attributes:
        shard: Address of the shard.
        shard_id: Its identity: it changes with its content.
        number: Number of the chunk in the shard.
        chunk_samples: Samples of the whole chunk.
        start: First sample, counted in the chunk.
        stop: One past the last.
        shard_chunks: Chunks of the shard.
        problem: What is wrong with the shard, if anything.
    """

    shard: str
    shard_id: str
    number: int
    chunk_samples: int
    start: int
    stop: int
    shard_chunks: int
    problem: str | None = None

    @property
    def samples(self) -> int:
        """Number of samples that it covers."""
        return self.stop - self.start

    def as_json(self) -> dict[str, Any]:
        """Return it as a commit record keeps it."""
        return self._asdict()


class Counts(NamedTuple):
    """Account of the samples of a chunk.

    Attributes:
        samples: Samples of the chunk: scored plus rejected.
        scored: Samples with scores.
        rejected: Samples rejected.
        flagged: Samples flagged under any seed.
    """

    samples: int
    scored: int
    rejected: int
    flagged: int


_COUNTS = Counts._fields
_TEXTS = ("run", "chunk", "shard", "shard_id")
_PLACE_NUMBERS = ("number", "chunk_samples", "start", "stop", "shard_chunks")
_FILE = re.compile(r"[^/\\]+\.parquet")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _getter(*names: str) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    return cast("Any", itemgetter(*names))


_facts_of = _getter(*_TEXTS, *_PLACE_NUMBERS)
_counts_of = _getter(*_COUNTS)
_file_facts_of = _getter(*DataFile._fields)


class CommitFile(NamedTuple):
    """A commit record.

    Attributes:
        run: The run.
        chunk: The chunk, which is also the record's name.
        files: The files that hold its rows, by table.
        counts: How its samples are accounted for.
        place: Where in its shard it lies; null in records of early versions.
        content: The whole record.
    """

    run: str
    chunk: str
    files: Mapping[str, DataFile]
    counts: Counts
    place: ShardRange | None = None
    content: Mapping[str, Any] = _NOTHING

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return a record that was read from JSON.

        Raises:
            ValueError: If a part of it is of another kind, naming the part.
        """
        run, chunk = _value(content, "run", str), _value(content, "chunk", str)
        counts = _value(content, "counts", dict)
        return cls(
            run=run,
            chunk=chunk,
            files=listed_files(content, run),
            counts=Counts(*_numbers(counts, _COUNTS)),
            place=_place(content),
            content=content,
        )


def read_together(contents: Sequence[Mapping[str, Any]], run: str) -> list[CommitFile]:
    """Return records of one run that were read from JSON, in a fifth of the time of each alone.

    Raises:
        ValueError: If a part of one is of another kind, naming the part, or it is of another run.
    """
    try:
        return _by_columns(contents, run)
    except (KeyError, TypeError, ValueError):  # of an early version, or damaged
        found = [CommitFile.of(content) for content in contents]
    if any(record.run != run for record in found):
        raise ValueError("commits are of another run")
    return found


def _by_columns(contents: Sequence[Mapping[str, Any]], run: str) -> list[CommitFile]:
    """Return records of which all say where in their shards they lie.

    Raises:
        ValueError: If a part of one is of another kind.
        KeyError: If one lacks a part.
        TypeError: If one is no object.
    """
    if not contents:
        return []
    columns = [*zip(*map(_facts_of, contents), strict=True)]
    texts, numbers = columns[: len(_TEXTS)], columns[len(_TEXTS) :]
    counts = [*zip(*(_counts_of(content["counts"]) for content in contents), strict=True)]
    if not (_are_texts(*texts) and _are_numbers(*numbers, *counts) and set(texts[0]) == {run}):
        raise ValueError("one is of another kind, or of another run")
    problems = [None if (p := content.get("problem")) is None else str(p) for content in contents]
    files = _files_by_columns([content["files"] for content in contents], run)
    places = map(ShardRange, *texts[2:], *numbers, problems)
    return [*map(CommitFile, *texts[:2], files, map(Counts, *counts), places, contents)]


def _files_by_columns(listed: Sequence[Mapping[str, Any]], run: str) -> list[dict[str, DataFile]]:
    """Return the files that records list, by table.

    Raises:
        ValueError: If one is not of this run, or lies elsewhere, or is of another kind.
        KeyError: If one lacks a part.
        TypeError: If one is no object.
    """
    if set(map(type, listed)) != {dict}:
        raise ValueError("files is of another kind")
    found = [dict[str, DataFile]() for _ in listed]
    for table in dict.fromkeys(table for files in listed for table in files):
        with_files = [own for own, files in zip(found, listed, strict=True) if table in files]
        described = [_file_facts_of(files[table]) for files in listed if table in files]
        paths, rows, digests, sizes = zip(*described, strict=True)
        folder = f"{table}/run={run}/"
        are_files = all(map(re.compile(re.escape(folder) + _FILE.pattern).fullmatch, paths))
        if not (are_files and _are_texts(digests) and _are_numbers(rows, sizes)):
            raise ValueError(f"files.{table} is of another kind")
        for own, file in zip(with_files, map(DataFile, paths, rows, digests, sizes), strict=True):
            own[table] = file
    return found


def _are_texts(*columns: Sequence[Any]) -> bool:
    return all(set(map(type, column)) == {str} for column in columns)


def _are_numbers(*columns: Sequence[Any]) -> bool:
    """Return whether all are whole numbers of their range."""
    return all(
        set(map(type, column)) == {int} and min(column) >= 0 and max(column) < LARGEST
        for column in columns
    )


def listed_files(content: Mapping[str, Any], run: str) -> dict[str, DataFile]:
    """Return the files that a record lists, by table.

    Raises:
        ValueError: If one is not of this run, or lies elsewhere, or is not described.
    """
    found = dict[str, DataFile]()
    listed: dict[str, Any] = _value(content, "files", dict)
    for table in listed:
        try:
            file: dict[str, Any] = _value(listed, table, dict)
        except ValueError as error:
            raise ValueError(f"files.{error}") from error
        path = _value(file, "path", str)
        folder = f"{table}/run={run}/"
        if not path.startswith(folder) or not _FILE.fullmatch(path, len(folder)):
            raise ValueError(f"files.{table} is no file of its run's table")
        rows, size = _numbers(file, ("rows", "bytes"))
        found[table] = DataFile(path, rows, _value(file, "sha256", str), size)
    return found


def _place(content: Mapping[str, Any]) -> ShardRange | None:
    if "shard_id" not in content:
        return None
    shard, shard_id = _value(content, "shard", str), _value(content, "shard_id", str)
    numbers = _numbers(content, _PLACE_NUMBERS)
    problem = content.get("problem")
    problem = None if problem is None else str(problem)
    number, chunk_samples, start, stop, chunks = numbers
    return ShardRange(shard, shard_id, number, chunk_samples, start, stop, chunks, problem)


def _numbers(content: Mapping[str, Any], names: tuple[str, ...]) -> list[int]:
    """Return some numbers, checked as `_value` does, in a third of its time."""
    found = [content.get(name) for name in names]
    for name, value in zip(names, found, strict=True):
        if type(value) is not int or not 0 <= value < LARGEST:
            _value(content, name, int)
    return cast("list[int]", found)


def _value(content: Mapping[str, Any], name: str, kind: type) -> Any:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} is missing or of another kind")
    if isinstance(value, int) and not 0 <= value < LARGEST:
        raise ValueError(f"{name} is out of its range")
    return value
