"""Shards as they were found, their chunks, and what becomes of both when a file changes."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from stat import S_ISREG

from scanner.errors import ConfigError, ShardError
from scanner.records import RejectReason
from scanner.retry import explain, with_retries
from scanner.shards.addresses import file_name, scheme, store
from scanner.shards.columns import bare, kind_of
from scanner.shards.kinds import Kind
from scanner.signed import named

_STEM_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as it was found.

    Attributes:
        url: Absolute path or address, without the signature if it is signed.
        size: In bytes; -1 where a server does not tell.
        etag: What changes when the content does: the store's tag or generation, the modification
            time of a local file in nanoseconds, or ``""``.
    """

    url: str
    size: int
    etag: str

    @property
    def id(self) -> str:
        """Twelve hex digits of address, size and tag."""
        return hashlib.sha256(f"{self.url}|{self.size}|{self.etag}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive samples of a shard, enough to read them without the rest.

    Attributes:
        shard: Where they are.
        number: Counts the shard's chunks from 0.
        offset: Byte at which the first sample begins, after decompression; of a Parquet table or
            a folder, its row.
        samples: How many there are.
        marked: Samples that only the whole shard shows to be unfit: position in the chunk,
            reason and detail.
        row: Of a table or folder, the first sample's number in the shard; 0 of a tar.
    """

    shard: Shard
    number: int
    offset: int
    samples: int
    marked: tuple[tuple[int, RejectReason, str], ...] = ()
    row: int = 0

    @property
    def name(self) -> str:
        """A file name of its own, the same whenever the shard is."""
        base = re.sub(r"\.(tar|tar\.gz|tgz)$", "", file_name(self.shard.url))
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", base)[:_STEM_CHARACTERS].strip("._-") or "shard"
        return f"{stem}-{self.shard.id}-{self.number:05d}"


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The chunks of a shard.

    Attributes:
        shard: What was read.
        chunks: In order; they hold every sample before the problem, if there is one.
        samples: In all chunks.
        problem: Why the shard is incomplete, on one line; null if it is whole.
    """

    shard: Shard
    chunks: tuple[Chunk, ...]
    samples: int
    problem: str | None


def stat(url: str) -> Shard:
    """Return what a shard is at present.

    Raises:
        ShardError: If it is missing or cannot be read.
        ConfigError: If memscan opens no such address.
    """
    url = named(url)
    try:
        if kind_of(url) is Kind.FOLDER:
            from scanner.shards.listing import listed

            return listed(url).shard_of(url)
        if scheme(url) is None:
            return _local_shard(url, os.stat(bare(url)))  # noqa: PTH116 - half the time
        files, path = store(url)
        facts = with_retries(lambda: files.info(path))
    except (ShardError, ConfigError):
        raise
    except Exception as error:  # every store has errors of its own
        raise ShardError(f"{url} cannot be read: {explain(error)}") from error
    size = facts.get("size")
    tags = (
        facts.get(k)
        for k in ("ETag", "etag", "generation", "Content-MD5", "Last-Modified", "blob_id")
    )
    return Shard(url, -1 if size is None else int(size), str(next(filter(None, tags), "")))


def _local_shard(url: str, status: os.stat_result) -> Shard:
    if not S_ISREG(status.st_mode):
        raise ShardError(f"{url} is not a regular file")
    return Shard(url, status.st_size, str(status.st_mtime_ns))


def check_unchanged(shard: Shard) -> None:
    """Refuse a shard that is no longer as it was found.

    Raises:
        ShardError: If so, or it cannot be read.
        ConfigError: If memscan opens no such address.
    """
    if (now := stat(shard.url)) != shard:
        raise ShardError(
            f"{shard.url} changed since it was listed: {now.size} bytes, tag {now.etag}, before "
            f"{shard.size} bytes, tag {shard.etag}; scan it again when it is at rest"
        )


@contextmanager
def opening(url: str) -> Iterator[None]:
    """Name the shard in whatever goes wrong while it is opened.

    Raises:
        ShardError: If it cannot be opened.
        ConfigError: If memscan opens no such address.
    """
    try:
        yield
    except (ShardError, ConfigError):
        raise
    except Exception as error:  # every store has errors of its own
        raise ShardError(f"{url} cannot be opened: {explain(error)}") from error
