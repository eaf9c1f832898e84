"""The bytes of a shard that still is as it was found, here or on a store, inflated if need be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from scanner.errors import ShardError
from scanner.retry import with_retries
from scanner.shards.addresses import file_name, scheme, store
from scanner.shards.byte_sources import ByteSource, FileSource, InflateSource
from scanner.shards.columns import bare
from scanner.shards.shard import Shard, check_unchanged, opening


@contextmanager
def opened_bytes(shard: Shard) -> Iterator[ByteSource]:
    """Open a shard for reading forwards; gzip is inflated.

    Raises:
        ShardError: If it changed, or cannot be opened.
        ConfigError: If memscan opens no such address.
    """
    source = _file(shard)
    try:
        is_compressed = file_name(shard.url).lower().endswith((".gz", ".tgz"))
        yield InflateSource(source) if is_compressed else source
    finally:
        source.close()


def _file(shard: Shard) -> FileSource:
    if scheme(shard.url) is None:
        check_unchanged(shard)
        try:
            return FileSource(Path(bare(shard.url)).open("rb"), shard.size, shard.url)
        except OSError as error:
            raise ShardError(f"{shard.url} cannot be opened: {error}") from error
    files, path = store(shard.url)
    is_web = scheme(shard.url) in ("http", "https")

    def opens(seeks: bool) -> BinaryIO:
        check_unchanged(shard)
        options = {"block_size": 0} if is_web and not seeks else {}
        return cast(BinaryIO, files.open(path, "rb", **options))

    with opening(shard.url):
        file = with_retries(lambda: opens(True))
    return FileSource(file, shard.size, shard.url, opens)
