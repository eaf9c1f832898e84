"""Index of the samples of a shard: key, caption hash, and a sketch of the image.

One pass over a shard, kept by the shard's identity: a shard that did not change is not read
again. With it, questions about a whole corpus (which captions come how often, which images are
like this one) cost a pass over small files. Entries in a bucket are fetched once per run into a
temporary folder, because the questions take many passes.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scanner import files, pictures
from scanner.errors import ShardError
from scanner.records import Caption, Reject
from scanner.results.stores import LocalStore, ObjectStore
from scanner.shards import reading
from scanner.shards.reading import SAMPLES_PER_SHARD, Shard

VERSION = "1"
AT_ONCE = 8
_SKETCH_BYTES = pictures.SKETCH**2 * 3
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("caption_sha256", pa.string()),
        pa.field("url", pa.string()),
        pa.field("sketch", pa.binary(_SKETCH_BYTES)),
    ]
)


@dataclass(frozen=True, slots=True)
class IndexedImages:
    """The samples of a shard, in its order, rejected ones included.

    Attributes:
        shard: Where they are.
        keys: Their keys.
        hashes: Their captions' hashes; null where there is no caption.
        urls: Where their images came from, if the shard says so.
        sketched: Positions of the samples whose image has a sketch, ``(S,)``.
        sketches: Those sketches, ``(S, SKETCH * SKETCH * 3)``.
    """

    shard: Shard
    keys: list[str]
    hashes: list[str | None]
    urls: list[str | None]
    sketched: NDArray[np.int64]
    sketches: NDArray[np.uint8]

    @property
    def prefixes(self) -> NDArray[np.uint64]:
        """The first eight bytes of every caption's hash, zero where there is no caption."""
        return np.array([int(sha[:16], 16) if sha else 0 for sha in self.hashes], np.uint64)


class ImageIndex:
    """A folder of entries, a file for each identity of a shard.

    Args:
        folder: A path or a store; made when something is kept.
    """

    def __init__(self, folder: Path | LocalStore | ObjectStore) -> None:
        self._bucket = folder if isinstance(folder, ObjectStore) else None
        self._given = folder.root if isinstance(folder, LocalStore) else folder

    @cached_property
    def _folder(self) -> Path:
        """Where entries are read: the folder itself, or what holds those of a bucket meanwhile."""
        if self._bucket is None:
            return Path(str(self._given))
        folder = tempfile.mkdtemp(prefix="memscan-catalogue-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def fill(
        self, wanted: Sequence[Shard], *, images: bool,
        progress: Callable[[int, int, str], None] = lambda done, total, word: None,
    ) -> dict[str, str]:  # fmt: skip
        """Read the shards that are not here yet, some at a time.

        Args:
            wanted: The shards.
            images: Whether sketches are wanted too.
            progress: Told how many of how many shards are read.

        Returns:
            Why not, by address, of the shards that cannot be read.

        Raises:
            OutputError: If the folder cannot be written to.
            ResultsError: If the bucket cannot be read or written to.
        """
        files.make_folder(self._folder)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            have = list(pool.map(lambda shard: self._has(shard, images=images), wanted))
        todo = [shard for shard, is_here in zip(wanted, have, strict=True) if not is_here]
        problems: dict[str, str] = {}

        def read(shard: Shard) -> tuple[Shard, str]:
            try:
                self._keep(shard, _read(shard, images=images), images=images)
            except ShardError as error:
                return shard, str(error)
            return shard, ""

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done, (shard, problem) in enumerate(pool.map(read, todo), 1):
                if problem:
                    problems[shard.url] = problem
                progress(done, len(todo), f"read {shard.url}")
        return problems

    def entries(self, wanted: Iterable[Shard]) -> Iterator[IndexedImages]:
        """Yield the entries of the shards that are here, one shard at a time."""
        for shard in wanted:
            self._fetch(shard)
            with suppress(FileNotFoundError), pq.ParquetFile(self._path(shard)) as source:
                yield _entries(shard, source.read())

    def has_sketches(self, wanted: Iterable[Shard]) -> bool:
        """Whether any of the shards has an image."""
        return any(len(entries.sketches) for entries in self.entries(wanted))

    def forget(self, but: Collection[str]) -> None:
        """Remove the entries of every identity but these."""
        for path in self._folder.glob("*.parquet"):
            if path.stem not in but:
                path.unlink(missing_ok=True)
        for entry in self._bucket.entries("") if self._bucket else ():
            if self._bucket and entry.name.removesuffix(".parquet") not in but:
                self._bucket.remove(entry.name)

    def _path(self, shard: Shard) -> Path:
        return self._folder / f"{shard.id}.parquet"

    def _fetch(self, shard: Shard) -> None:
        """Bring an entry of the bucket here, unless it is here or nowhere."""
        if self._bucket is None or self._path(shard).exists():
            return
        if (content := self._bucket.read(f"{shard.id}.parquet")) is not None:
            files.write(self._path(shard), content)

    def _has(self, shard: Shard, *, images: bool) -> bool:
        self._fetch(shard)
        try:
            facts = pq.read_schema(self._path(shard)).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return False
        is_current = facts.get(b"version") == VERSION.encode()
        return is_current and (not images or facts.get(b"images") == b"yes")

    def _keep(self, shard: Shard, rows: list[dict[str, object]], *, images: bool) -> None:
        facts = {"version": VERSION, "images": "yes" if images else "no", "shard": shard.url}
        table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata(facts))
        with files.binary(self._path(shard)) as stream:
            pq.write_table(table, stream, compression="zstd")
        if self._bucket is not None:
            self._bucket.put(f"{shard.id}.parquet", self._path(shard).read_bytes())


def _read(shard: Shard, *, images: bool) -> list[dict[str, object]]:
    chunks = reading.index(shard, SAMPLES_PER_SHARD).chunks
    return [_row(item) for chunk in chunks for item in reading.read(chunk, images=images)]


def _row(item: Caption | Reject) -> dict[str, object]:
    if isinstance(item, Reject):
        return {"key": item.key}
    small = None
    if item.image is not None:
        with suppress(ValueError):
            small = pictures.sketch(item.image).tobytes()
    return {"key": item.key, "caption_sha256": item.sha256, "url": item.url, "sketch": small}


def _entries(shard: Shard, table: pa.Table) -> IndexedImages:
    column = table["sketch"].combine_chunks()
    sketched = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    content = b"".join(column.drop_null().to_pylist())
    return IndexedImages(
        shard, table["key"].to_pylist(), table["caption_sha256"].to_pylist(),
        table["url"].to_pylist(), sketched,
        np.frombuffer(content, np.uint8).reshape(-1, _SKETCH_BYTES),
    )  # fmt: skip
