"""Parquet tables in the place of shards: chunks of rows, read where they lie.

A row is a sample. Nothing is copied, and only the columns that are needed are read, the images a
few rows at a time.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from scanner.errors import ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.retry import explain
from scanner.shards.columns import (
    IMAGES,
    KEYS,
    URLS,
    ColumnError,
    Columns,
    caption_problem,
    captions_among,
)  # fmt: skip
from scanner.shards.rows import (
    MOST_ROWS,
    Found,
    Keys,
    TableIndex,
    encoded,
    marks,
    repeats,
    row_key,
    sample,
)  # fmt: skip
from scanner.shards.samples import IMAGE_BYTES
from scanner.shards.shard import Chunk

_ROWS, _ROWS_WITH_IMAGES = 8192, 16
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, NotImplementedError)
"""What pyarrow raises over a file that is no sound Parquet."""

_BYTES = (pa.binary(), pa.large_binary())


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
        self.names = tuple(self.schema.names)
        self.likely = (
            [columns.caption] if columns.caption else captions_among(self.names, in_order=True)
        )
        caption = self.likely[0] if len(self.likely) == 1 else ""
        self.found = Found(
            self._named(caption, (), "caption"),
            self._named(columns.key, KEYS, "key"),
            self._named(columns.image, [n for n in IMAGES if self._holds_images(n)], "image"),
            self._named("", URLS, "url"),
        )
        if columns.image and not self._holds_images(columns.image):
            kind = self.schema.field(columns.image).type
            raise ColumnError(
                f"{url}: the column {columns.image} is {kind}, not encoded images: bytes, or a "
                f"struct with a field bytes"
            )

    def says(self) -> str:
        """Return for a person what is read as captions, keys and images."""
        return self.found.says()

    def index(self, chunk_size: int) -> TableIndex:
        """Return how many rows there are, and which keys came before."""
        if self.rows > MOST_ROWS:
            return TableIndex(0, [], f"has {self.rows} rows, more than {MOST_ROWS}: split it")
        if not self.rows:
            return TableIndex(0, [], "is a table without rows")
        if not self.found.caption:
            return TableIndex(0, [], caption_problem(self.names, self.likely))
        keys = Keys()
        for row, (value,) in self._values([self.found.key], 0, self.rows) if self.found.key else ():
            keys.add(row_key(value, row))
        found = repeats(keys) if self.found.key else []
        return TableIndex(self.rows, marks(self.rows, chunk_size, found), None)

    def read(
        self, chunk: Chunk, marked: Mapping[int, tuple[RejectReason, str]], *,
        images: bool, captions: bool,
    ) -> Iterator[Caption | Reject]:  # fmt: skip
        """Yield the samples of a chunk.

        Args:
            chunk: Of `index`.
            marked: Reason and detail of rejects, by position in the chunk.
            images: Whether to load images.
            captions: Whether samples have captions, and need one.
        """
        found = self.found
        names = [found.caption if captions else "", found.key, found.url]
        names.append(found.image if images else "")
        start, stop = chunk.offset, chunk.offset + chunk.samples
        for row, (text, key, address, image) in self._values(names, start, stop):
            yield sample(
                self.url, row_key(key, row), text if captions else "", address, encoded(image),
                marked.get(row - start), captions=captions,
            )  # fmt: skip

    def pictures(self, rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield row and encoded image of some rows, in their order."""
        if not self.found.image or not rows:
            return
        for row, (image,) in self._values([self.found.image], min(rows), max(rows) + 1):
            content = encoded(image) if row in rows else None
            if content is not None and len(content) <= IMAGE_BYTES:
                yield row, content

    def images(self, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and encoded image of the samples that are wanted."""
        rows = self.rows_of(keys)
        for row, content in self.pictures(rows):
            yield rows[row], content

    def rows_of(self, keys: Collection[str]) -> dict[int, str]:
        """Return the rows that samples with these keys stand in: the first of each key."""
        left, rows = set(keys), dict[int, str]()
        if not self.found.key:
            numbers = {int(key): key for key in left if key.isdecimal()}
            return {row: key for row, key in numbers.items() if row < self.rows}
        for row, (value,) in self._values([self.found.key], 0, self.rows):
            if (key := row_key(value, row)) in left:
                left.discard(key)
                rows[row] = key
            if not left:
                break
        return rows

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
            raise ColumnError(
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
        except Exception as error:  # every store has errors of its own
            raise ShardError(f"{self.url} cannot be read: {explain(error)}") from error


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
