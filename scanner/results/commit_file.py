"""The record of a committed chunk, ``commits/<run>/<chunk>.json``: one type, and one reader.

Early versions left out where in its shard a chunk lies; `CommitFile.place` is null then. Further
numbers of the chunk, such as its seconds, are in `CommitFile.content`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, cast

from scanner.results.run_file import LARGEST


@dataclass(frozen=True, slots=True)
class DataFile:
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
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ShardRange:
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
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Counts:
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


_COUNTS = tuple(each.name for each in fields(Counts))
_PLACE_NUMBERS = ("number", "chunk_samples", "start", "stop", "shard_chunks")
_FILE = re.compile(r"[^/\\]+\.parquet")


@dataclass(frozen=True, slots=True)
class CommitFile:
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
    content: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

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
