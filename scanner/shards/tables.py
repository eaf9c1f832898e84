"""Parquet tables in the place of shards: chunks of rows, read where they lie.

A row is a sample. Nothing is copied, and only the columns that are needed are read, the images a
few rows at a time.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from scanner.errors import ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.shards.columns import CAPTIONS, IMAGES, KEYS, URLS, Columns
from scanner.shards.samples import IMAGE_BYTES, RejectError, checked

MOST_ROWS = 100_000_000
_ROWS, _ROWS_WITH_IMAGES = 8192, 16
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, NotImplementedError)
"""What pyarrow raises over a file that is no sound Parquet."""

_BYTES = (pa.binary(), pa.large_binary())

Mark = tuple[int, RejectReason, str]
"""Position in a chunk, reason and detail of a sample that only the whole table shows unfit."""


@dataclass(frozen=True, slots=True)
class Found:
    """Columns as a table has them; ``""`` for what it lacks."""

    caption: str
    key: str
    image: str
    url: str


@dataclass(frozen=True, slots=True)
class TableIndex:
    """Rows of a table, and the marked of each of its chunks."""

    rows: int
    marked: list[tuple[Mark, ...]]
    problem: str | None


class Table:
    """An open table.

    Args:
        file: Seekable.
        url: Its address, for messages and samples.
        columns: As the address names them.

    Raises:
        ShardError: If it is no Parquet, or has not the columns.
    """

    def __init__(self, file: BinaryIO, url: str, columns: Columns) -> None:
        self.url = url
        with self._reading():
            self.parquet = pq.ParquetFile(file)
            self.schema = self.parquet.schema_arrow
            self.rows = self.parquet.metadata.num_rows
            self.groups = [
                self.parquet.metadata.row_group(n).num_rows
                for n in range(self.parquet.metadata.num_row_groups)
            ]
        self.found = Found(
            self._named(columns.caption, CAPTIONS, "caption"),
            self._named(columns.key, KEYS, "key"),
            self._named(columns.image, [n for n in IMAGES if self._holds_images(n)], "image"),
            self._named("", URLS, "url"),
        )
        if columns.image and not self._holds_images(columns.image):
            kind = self.schema.field(columns.image).type
            raise ShardError(
                f"{url}: the column {columns.image} is {kind}, not encoded images: bytes, or a "
                f"struct with a field bytes"
            )

    def index(self, chunk_size: int) -> TableIndex:
        """Return how many rows there are, and which keys came before."""
        if self.rows > MOST_ROWS:
            return TableIndex(0, [], f"has {self.rows} rows, more than {MOST_ROWS}: split it")
        if not self.rows:
            return TableIndex(0, [], "is a table without rows")
        if not self.found.caption:
            columns = ", ".join(self.schema.names[:20])
            problem = (
                f"has no column {', '.join(CAPTIONS)}: name one of {columns} with --caption-column"
            )
            return TableIndex(0, [], problem)
        marked: list[list[Mark]] = [[] for _ in range(-(-self.rows // chunk_size))]
        seen = set[bytes]()
        for row, (value,) in self._values([self.found.key], 0, self.rows) if self.found.key else ():
            digest = hashlib.blake2b(_key(value, row).encode(), digest_size=16).digest()
            if digest in seen:
                mark = (
                    row % chunk_size,
                    RejectReason.DUPLICATE_KEY,
                    "its key came before in this table",
                )
                marked[row // chunk_size].append(mark)
            seen.add(digest)
        return TableIndex(self.rows, [tuple(each) for each in marked], None)

    def read(
        self, start: int, stop: int, marked: Mapping[int, tuple[RejectReason, str]], *,
        images: bool, captions: bool,
    ) -> Iterator[Caption | Reject]:  # fmt: skip
        """Yield the samples of rows ``start`` to ``stop``.

        Args:
            start: The first row.
            stop: The row behind the last.
            marked: Reason and detail of rejects, by position from ``start``.
            images: Whether to load images.
            captions: Whether samples have captions, and need one.
        """
        found = self.found
        names = [found.caption if captions else "", found.key, found.url]
        names.append(found.image if images else "")
        for row, (text, key, url, image) in self._values(names, start, stop):
            yield self._sample(
                _key(key, row), text if captions else "", url, _content(image),
                marked.get(row - start), captions=captions,
            )  # fmt: skip

    def pictures(self, rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield row and encoded image of some rows, in their order."""
        if not self.found.image or not rows:
            return
        for row, (image,) in self._values([self.found.image], min(rows), max(rows) + 1):
            content = _content(image) if row in rows else None
            if content is not None and len(content) <= IMAGE_BYTES:
                yield row, content

    def rows_of(self, keys: Collection[str]) -> dict[int, str]:
        """Return the rows that samples with these keys stand in: the first of each key."""
        left, rows = set(keys), dict[int, str]()
        if not self.found.key:
            numbers = {int(key): key for key in left if key.isdecimal()}
            return {row: key for row, key in numbers.items() if row < self.rows}
        for row, (value,) in self._values([self.found.key], 0, self.rows):
            if (key := _key(value, row)) in left:
                left.discard(key)
                rows[row] = key
            if not left:
                break
        return rows

    def _sample(
        self, key: str, text: Any, url: Any, image: bytes | None,
        mark: tuple[RejectReason, str] | None, *, captions: bool,
    ) -> Caption | Reject:  # fmt: skip
        try:
            said = _text(text) if captions else ""
            if image is not None and len(image) > IMAGE_BYTES:
                raise RejectError(
                    RejectReason.MEMBER_TOO_LARGE,
                    f"its image has {len(image)} bytes, more than {IMAGE_BYTES}",
                )
        except RejectError as refused:
            return Reject(self.url, key, *(mark or (refused.reason, refused.detail)))
        caption = Caption(self.url, key, said, _url(url), image)
        if mark:
            return Reject(self.url, key, *mark, caption_sha256=caption.sha256)
        return caption

    def _values(
        self, names: Sequence[str], start: int, stop: int
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Yield row number and values of columns, null where a name is empty."""
        columns = list(dict.fromkeys(name for name in names if name))
        size = _ROWS_WITH_IMAGES if self.found.image in columns else _ROWS
        first = 0
        for group, rows in enumerate(self.groups):
            begins, ends = max(start, first), min(stop, first + rows)
            if begins < ends and not columns:
                yield from ((row, (None,) * len(names)) for row in range(begins, ends))
            elif begins < ends:
                yield from self._of_group(group, first, (begins, ends), names, columns, size)
            first += rows

    def _of_group(
        self, group: int, first: int, rows: tuple[int, int], names: Sequence[str],
        columns: list[str], size: int,
    ) -> Iterator[tuple[int, tuple[Any, ...]]]:  # fmt: skip
        begins, ends = rows
        with self._reading():
            for batch in self.parquet.iter_batches(size, row_groups=[group], columns=columns):
                skip, length = max(0, begins - first), min(len(batch), ends - first)
                own = batch.slice(skip, max(0, length - skip))
                found = {name: _listed(own.column(name)) for name in columns}
                for place in range(len(own)):
                    values = tuple(found[name][place] if name else None for name in names)
                    yield first + skip + place, values
                first += len(batch)
                if first >= ends:
                    return

    def _holds_images(self, name: str) -> bool:
        if name not in self.schema.names:
            return False
        kind = self.schema.field(name).type
        if pa.types.is_struct(kind):
            kind = next((f.type for f in kind if f.name == "bytes"), pa.null())
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    def _named(self, wanted: str, usual: Sequence[str], what: str) -> str:
        if wanted and wanted not in self.schema.names:
            raise ShardError(
                f"{self.url} has no column {wanted!r} of {what}s, only "
                f"{', '.join(self.schema.names[:20])}"
            )
        return wanted or next((name for name in usual if name in self.schema.names), "")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            line = str(error).partition("\n")[0]
            raise ShardError(f"{self.url} is no Parquet that can be read: {line}") from error


def _listed(column: pa.Array) -> list[Any]:
    """Return a column's values; a text that is no UTF-8 stays bytes, and harms no other row."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        wide = pa.types.is_large_string(column.type)
        return [_decoded(value) for value in column.view(_BYTES[wide]).to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _key(value: Any, row: int) -> str:
    """Return what a sample is called: what its key column holds, or the number of its row."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return f"{row:09d}" if value is None or value == "" else str(value)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise RejectError(RejectReason.NOT_UTF8, "its caption is no valid UTF-8")
    if not isinstance(value, str):
        what = "nothing" if value is None else f"a {type(value).__name__}"
        raise RejectError(RejectReason.NO_CAPTION, f"its caption column holds {what}, no text")
    return checked(value)


def _url(value: Any) -> str | None:
    try:
        return checked(value) if isinstance(value, str) and value else None
    except RejectError:
        return None


def _content(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) and found else None
