"""WebDataset shards: which there are, what chunks they hold, and the captions of a chunk."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice

from scanner.errors import ConfigError, ShardError
from scanner.records import Caption, Reject, RejectReason
from scanner.shards.addresses import file_name
from scanner.shards.columns import ColumnError, caption_problem, kind_of
from scanner.shards.expansion import expand
from scanner.shards.kinds import Kind
from scanner.shards.layout import counts
from scanner.shards.samples import Fragment, fragments, item
from scanner.shards.shard import Chunk, Shard, ShardIndex, stat
from scanner.shards.streams import opened_bytes
from scanner.shards.tar import Tar

__all__ = [
    "Chunk", "Shard", "ShardIndex", "described", "expand", "image", "images", "index", "pictures",
    "read", "rows_of", "stat",
]  # fmt: skip

SAMPLES_PER_SHARD = 1_000_000


def described(addresses: Sequence[str]) -> str:
    """Return a line for a person: how many shards of which kinds, and the columns of the first.

    Of each kind but tars the first shard is opened; one that cannot be read is left to the scan.

    Raises:
        ConfigError: If such a shard has not the columns, or none that is clearly the captions.
    """
    firsts = dict[Kind, str]()
    for address in addresses:
        firsts.setdefault(kind_of(address), address)
    firsts.pop(Kind.TAR, None)
    parts = [f"reading {counts(addresses)}"]
    for address in firsts.values():
        with suppress(ShardError):
            parts.append(f"{file_name(address)}: {_columns(address)}")
    return "; ".join(parts)


def _columns(address: str) -> str:
    from scanner.shards.table_shards import opened

    try:
        with opened(stat(address)) as table:
            if not table.found.caption:
                raise ConfigError(f"{address} {caption_problem(table.names, table.likely)}")
            return table.says()
    except ColumnError as error:
        raise ConfigError(str(error)) from error


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
    if kind_of(shard.url) is not Kind.TAR:
        from scanner.shards.table_shards import index_table  # takes pyarrow, which tars need not

        return index_table(shard, chunk_size)
    return _index_tar(shard, chunk_size)


def _index_tar(shard: Shard, chunk_size: int) -> ShardIndex:
    offsets: list[int] = []
    marked: list[list[tuple[int, RejectReason, str]]] = []
    seen: set[bytes] = set()
    samples, fields, problem = 0, None, None
    with opened_bytes(shard) as source:
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
    if kind_of(url) is not Kind.TAR:
        from scanner.shards.table_shards import opened

        with opened(chunk.shard) as table:
            yield from table.read(chunk, marked, images=images, captions=captions)
        return
    samples = 0
    with opened_bytes(chunk.shard) as source:
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
    if kind_of(chunk.shard.url) is not Kind.TAR:
        from scanner.shards.table_shards import opened

        with opened(chunk.shard) as table:
            for row, content in table.pictures([chunk.row + position for position in keys]):
                yield row - chunk.row, content
        return
    with opened_bytes(chunk.shard) as source:
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
    if kind_of(url) is not Kind.TAR:
        return dict(images(url, [key])).get(key)
    try:
        with opened_bytes(stat(url)) as source:
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
        if kind_of(url) is not Kind.TAR:
            from scanner.shards.table_shards import images_of_table

            yield from images_of_table(url, wanted)
            return
        with opened_bytes(stat(url)) as source:
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


def rows_of(url: str, keys: Collection[str]) -> dict[str, int]:
    """Return the rows of a table, counted from 0, in which the samples with these keys stand.

    Of tars and folders, of a table that cannot be read, and of keys that are not there: none.
    """
    if not keys or kind_of(url) in (Kind.TAR, Kind.FOLDER):
        return {}
    from scanner.shards.table_shards import opened

    try:
        with opened(stat(url)) as table:
            return {key: row for row, key in table.rows_of(keys).items()}
    except (ShardError, ConfigError):
        return {}


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
