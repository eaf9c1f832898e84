"""Tables and folders as shards: opened unchanged, indexed into chunks, and searched for images."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from scanner.errors import ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.retry import with_retries
from scanner.shards.addresses import scheme, store
from scanner.shards.columns import bare, columns_of, kind_of
from scanner.shards.kinds import Kind
from scanner.shards.rows import Found, TableIndex
from scanner.shards.shard import Chunk, Shard, ShardIndex, check_unchanged, opening, stat
from scanner.shards.streams import opened_bytes


class OpenTable(Protocol):
    """What is read in the place of a tar: a table, or a folder of images.

    Attributes:
        names: Of all columns.
        likely: Those that may be the captions.
        found: The columns that are read.
    """

    names: tuple[str, ...]
    likely: list[str]
    found: Found

    def says(self) -> str:
        """Return for a person what is read as captions and keys."""
        ...

    def index(self, chunk_size: int) -> TableIndex:
        """Return how many samples there are, and which of them only the whole shows unfit."""
        ...

    def read(
        self, chunk: Chunk, marked: Mapping[int, tuple[RejectReason, str]], *,
        images: bool, captions: bool,
    ) -> Iterator[Caption | Reject]:  # fmt: skip
        """Yield the samples of a chunk."""
        ...

    def pictures(self, rows: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield row and encoded image of some rows."""
        ...

    def rows_of(self, keys: Collection[str]) -> dict[int, str]:
        """Return the rows that samples with these keys stand in: the first of each key."""
        ...

    def images(self, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield key and encoded image of the samples that are wanted."""
        ...


@contextmanager
def opened(shard: Shard) -> Iterator[OpenTable]:
    """Open a table that still is as it was found.

    Raises:
        ShardError: If it is not, or cannot be read.
        ConfigError: If memscan opens no such address.
    """
    kind, columns = kind_of(shard.url), columns_of(shard.url)
    if kind is Kind.FOLDER:
        from scanner.shards.folders import Folder

        yield Folder(shard, columns)
    elif kind is Kind.PARQUET:
        from scanner.shards.tables import Table  # takes pyarrow, which text need not

        check_unchanged(shard)
        with _file(shard) as file:
            yield Table(file, shard.url, columns)
    else:
        from scanner.shards.text_tables import TextTable

        with opened_bytes(shard) as source:
            yield TextTable(source, shard.url, columns)


def index_table(shard: Shard, chunk_size: int) -> ShardIndex:
    """Return a table's chunks; damage is the index's problem.

    Raises:
        ShardError: If it is no longer as it was found.
    """
    check_unchanged(shard)
    try:
        with opened(shard) as table:
            found = table.index(chunk_size)
    except ShardError as error:
        return ShardIndex(shard, (), 0, str(error).removeprefix(shard.url).lstrip(": "))
    rows = range(0, found.rows, chunk_size)
    offsets = rows if found.offsets is None else found.offsets
    chunks = tuple(
        Chunk(shard, n, offset, min(chunk_size, found.rows - row), marked, row)
        for n, (row, offset, marked) in enumerate(zip(rows, offsets, found.marked, strict=True))
    )
    return ShardIndex(shard, chunks, found.rows, found.problem)


def images_of_table(url: str, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield key and encoded image of the samples that are wanted.

    Raises:
        ShardError: If the table cannot be read.
    """
    with opened(stat(url)) as table:
        yield from table.images(keys)


def _file(shard: Shard) -> BinaryIO:
    with opening(shard.url):
        if scheme(shard.url) is None:
            return Path(bare(shard.url)).open("rb")
        files, path = store(shard.url)
        return cast(BinaryIO, with_retries(lambda: files.open(path, "rb")))
