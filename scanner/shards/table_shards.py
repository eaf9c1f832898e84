"""Parquet tables as shards: opened unchanged, indexed into chunks, and searched for images."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from scanner.errors import ShardError
from scanner.retry import with_retries
from scanner.shards.addresses import scheme, store
from scanner.shards.columns import bare, columns_of
from scanner.shards.shard import Chunk, Shard, ShardIndex, check_unchanged, opening, stat
from scanner.shards.tables import Table


@contextmanager
def opened(shard: Shard) -> Iterator[Table]:
    """Open a table that still is as it was found.

    Raises:
        ShardError: If it is not, or cannot be read.
        ConfigError: If memscan opens no such address.
    """
    check_unchanged(shard)
    with _file(shard) as file:
        yield Table(file, shard.url, columns_of(shard.url))


def index_table(shard: Shard, chunk_size: int) -> ShardIndex:
    """Return a table's chunks; damage is the index's problem.

    Raises:
        ShardError: If it is no longer as it was found.
    """
    check_unchanged(shard)
    try:
        with _file(shard) as file:
            table = Table(file, shard.url, columns_of(shard.url))
            found = table.index(chunk_size)
    except ShardError as error:
        return ShardIndex(shard, (), 0, str(error).removeprefix(shard.url).lstrip(": "))
    chunks = tuple(
        Chunk(shard, n, n * chunk_size, min(chunk_size, found.rows - n * chunk_size), marked)
        for n, marked in enumerate(found.marked)
    )
    return ShardIndex(shard, chunks, found.rows, found.problem)


def images_of_table(url: str, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield key and encoded image of the samples that are wanted.

    Raises:
        ShardError: If the table cannot be read.
    """
    with opened(stat(url)) as table:
        rows = table.rows_of(keys)
        for row, content in table.pictures(rows):
            yield rows[row], content


def _file(shard: Shard) -> BinaryIO:
    with opening(shard.url):
        if scheme(shard.url) is None:
            return Path(bare(shard.url)).open("rb")
        files, path = store(shard.url)
        return cast(BinaryIO, with_retries(lambda: files.open(path, "rb")))
