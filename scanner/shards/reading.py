"""WebDataset shards: which there are, what chunks they hold, and the captions of a chunk."""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from scanner.errors import ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.retry import with_retries
from scanner.shards.addresses import expand, file_name, scheme, store
from scanner.shards.byte_sources import ByteSource, FileSource, InflateSource
from scanner.shards.columns import is_parquet
from scanner.shards.samples import Fragment, fragments, item
from scanner.shards.shard import Chunk, Shard, ShardIndex, check_unchanged, opening, stat
from scanner.shards.tar import Tar

__all__ = [
    "Chunk", "Shard", "ShardIndex", "expand", "image", "images", "index", "pictures", "read",
    "stat",
]  # fmt: skip

SAMPLES_PER_SHARD = 1_000_000


def index(shard: Shard, chunk_size: int) -> ShardIndex:
    """Return a shard's chunks, from one pass over its headers.

    Payloads are passed by seeks where the file allows it. Damage never raises: it is the
    index's problem, and the samples before it are there. The last sample before the damage is
    taken for whole only if it has the same fields as the sample before it.

    Args:
        shard: As `stat` found it.
        chunk_size: Samples in a chunk; the last has what is left.

    Raises:
        ShardError: If the shard cannot be read or is no longer as it was found.
        ValueError: If the chunk size is less than 1.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if is_parquet(shard.url):
        from scanner.shards.table_shards import index_table  # takes pyarrow, which tars need not

        return index_table(shard, chunk_size)
    return _index_tar(shard, chunk_size)


def _index_tar(shard: Shard, chunk_size: int) -> ShardIndex:
    offsets: list[int] = []
    marked: list[list[tuple[int, RejectReason, str]]] = []
    seen: set[bytes] = set()
    samples, fields, problem = 0, None, None
    with _opened(shard) as source:
        tar = Tar(source)
        for fragment in fragments(tar, frozenset()):
            if samples == SAMPLES_PER_SHARD:
                problem = f"has more than {SAMPLES_PER_SHARD} samples: split it"
                break
            position = samples % chunk_size
            if position == 0:
                offsets.append(fragment.start)
                marked.append([])
            if mark := _mark(fragment, seen, fields):
                marked[-1].append((position, *mark))
            fields = fragment.allowed
            samples += 1
    if tar.problem:
        problem = f"{tar.problem} after {samples} samples" if samples else tar.problem
    elif not samples:
        problem = "is a tar without samples"
    chunks = tuple(
        Chunk(shard, n, offset, min(chunk_size, samples - n * chunk_size), tuple(marked[n]))
        for n, offset in enumerate(offsets)
    )
    return ShardIndex(shard, chunks, samples, problem)


def read(chunk: Chunk, *, images: bool, captions: bool = True) -> Iterator[Caption | Reject]:
    """Yield a chunk's samples in order: exactly ``chunk.samples`` of them.

    Args:
        chunk: One of `index`'s.
        images: Whether to load the training images.
        captions: Whether to load captions; if not, samples have none and need none.

    Raises:
        ShardError: If the shard cannot be read or is no longer as it was indexed.
    """
    url, marked = chunk.shard.url, {n: (reason, detail) for n, reason, detail in chunk.marked}
    load = frozenset(
        {"json"} | ({"image"} if images else set()) | ({"text"} if captions else set())
    )
    if is_parquet(url):
        from scanner.shards.table_shards import opened

        with opened(chunk.shard) as table:
            stop = chunk.offset + chunk.samples
            yield from table.read(chunk.offset, stop, marked, images=images, captions=captions)
        return
    samples = 0
    with _opened(chunk.shard) as source:
        source.skip(chunk.offset)
        for fragment in islice(fragments(Tar(source), load), chunk.samples):
            mark = marked.get(samples)
            samples += 1
            yield item(fragment, url, mark, captions=captions)
    if samples != chunk.samples:
        raise ShardError(
            f"{url} gave {samples} of the {chunk.samples} samples of chunk {chunk.number}: it "
            f"changed after it was indexed; scan it again when it is at rest"
        )


def pictures(chunk: Chunk, keys: Mapping[int, str]) -> Iterator[tuple[int, bytes]]:
    """Yield position and encoded training image of some of a chunk's samples, one at a time.

    Args:
        chunk: One of `index`'s.
        keys: The samples' keys, by position in the chunk.

    Raises:
        ShardError: If the shard cannot be read or is no longer as it was indexed.
    """
    if is_parquet(chunk.shard.url):
        from scanner.shards.table_shards import opened

        with opened(chunk.shard) as table:
            for row, content in table.pictures([chunk.offset + position for position in keys]):
                yield row - chunk.offset, content
        return
    with _opened(chunk.shard) as source:
        source.skip(chunk.offset)
        found = fragments(Tar(source), frozenset({"image"}), set(keys.values()))
        for position, fragment in enumerate(islice(found, max(keys, default=-1) + 1)):
            part = fragment.parts.get("image")
            if position in keys and part is not None and part.content is not None:
                yield position, part.content


def image(url: str, key: str) -> bytes | None:
    """Return the encoded training image of one sample, or null if it is not to be had.

    For a picture or two: it reads the shard up to that sample.
    """
    if is_parquet(url):
        return dict(images(url, [key])).get(key)
    try:
        with _opened(stat(url)) as source:
            for fragment in fragments(Tar(source), frozenset({"image"}), {key}):
                if fragment.key == key:
                    part = fragment.parts.get("image")
                    return None if part is None else part.content
    except ShardError:
        return None
    return None


def images(url: str, keys: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield key and encoded training image of the samples that are wanted, in shard order.

    One pass, which ends when nothing is wanted any more. A sample without an image, and every
    sample of a shard that cannot be read, is not there.
    """
    wanted = set(keys)
    try:
        if is_parquet(url):
            from scanner.shards.table_shards import images_of_table

            yield from images_of_table(url, wanted)
            return
        with _opened(stat(url)) as source:
            for fragment in fragments(Tar(source), frozenset({"image"}), wanted) if wanted else ():
                if fragment.key not in wanted:
                    continue
                wanted.discard(fragment.key)
                part = fragment.parts.get("image")
                if part is not None and part.content is not None:
                    yield fragment.key, part.content
                if not wanted:
                    return
    except ShardError:
        return


def _mark(
    fragment: Fragment, seen: set[bytes], fields_before: frozenset[str] | None
) -> tuple[RejectReason, str] | None:
    digest = hashlib.blake2b(fragment.key.encode(), digest_size=16).digest()
    is_repeated = digest in seen
    seen.add(digest)
    looks_whole = bool(fragment.allowed) and fragment.allowed == fields_before
    if fragment.is_half or (fragment.is_half is None and not looks_whole):
        return RejectReason.HALF_SAMPLE, "the shard ends inside this sample or right behind it"
    if is_repeated:
        return (
            RejectReason.DUPLICATE_KEY,
            "its key, the name up to the first dot, came before in this shard",
        )
    return None


@contextmanager
def _opened(shard: Shard) -> Iterator[ByteSource]:
    """Open a shard that still is as it was found."""
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
            return FileSource(Path(shard.url).open("rb"), shard.size, shard.url)
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
