"""From tables of captions, or a folder of images, to WebDataset shards. Fetches nothing."""

import csv
import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from scanner import files
from scanner.errors import ConfigError, ShardError
from scanner.parsing import object_from_json
from scanner.records import Reason, RejectReason
from scanner.shards.kinds import TABLES
from scanner.shards.samples import CAPTION_BYTES, IMAGE_BYTES

CAPTIONS = ("caption", "TEXT", "text", "prompt")
"""Columns that are taken for captions, the first that is there."""
URLS = ("url", "URL")
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
RECORD = "shards.json"
EXAMPLES = 20

csv.field_size_limit(1 << 24)


class LeftOut(Reason):
    """Why a row is in no shard, where it is none of `RejectReason`.

    A value stays: ``shards.json`` holds it.
    """

    CAPTION_IS_NO_TEXT = (
        "caption_is_no_text",
        "the caption's column holds a number, a list or the like",
    )
    BAD_CSV = "bad_csv", "the line of a CSV or TSV cannot be parsed"
    UNREADABLE_IMAGE = "unreadable_image", "the image's file cannot be read"
    IMAGE_TOO_LARGE = "image_too_large", "the image has more bytes than a member may have"


@dataclass(frozen=True, slots=True)
class Why:
    """Why a row is in no shard: a reason for grouping, and what was found."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        """Return it for a person."""
        return f"{self.reason} ({self.detail})" if self.detail else str(self.reason)


@dataclass(frozen=True, slots=True)
class InputRow:
    """One row of a source, as it stands there.

    Attributes:
        where: File and place, for a person.
        caption: What the caption column holds; null if there is nothing.
        url: Where the image is, if the source says so.
        image: A local image, if the source is a folder of them.
        bad: Why the row could not be read at all, or null.
    """

    where: str
    caption: Any = None
    url: Any = None
    image: Path | None = None
    bad: Why | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """The settings of a conversion.

    Attributes:
        inputs: Parquet, CSV, TSV, JSONL (all but Parquet also ``.gz``), or folders: of such
            tables, or of images.
        caption_column: Column of the captions; null looks for ``CAPTIONS``.
        url_column: Column of the addresses; null looks for ``URLS``.
        names_are_captions: An image without a caption is called by its file's name.
        samples: Rows a shard, at most.
        size: Bytes a shard, about at most.
    """

    inputs: tuple[str, ...]
    caption_column: str | None = None
    url_column: str | None = None
    names_are_captions: bool = False
    samples: int = 10_000
    size: int = 1 << 30


@dataclass(slots=True)
class ConversionResult:
    """Progress of a conversion; kept beside the shards, so that a second call resumes.

    Attributes:
        order: What it was made from.
        rows: Rows read of the source, good and bad.
        samples: Samples in every shard.
        bad: Rows that are in no shard, by reason.
        examples: Some of them: where, and why.
        complete: Whether the source was read to its end.
    """

    order: dict[str, Any]
    rows: int = 0
    samples: list[int] = field(default_factory=list)
    bad: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    complete: bool = False


def make(order: Conversion, folder: Path, progress: Callable[[int, int], None]) -> ConversionResult:
    """Write ``00000.tar`` and so on, each whole or not at all; go on where an earlier call ended.

    A sample's key is its row's number in the source, its members ``.txt``, ``.json`` with the
    url, and the image where there is one. Equal sources give equal bytes. Memory does not grow
    with the source.

    Args:
        order: What from, and how.
        folder: Made if missing.
        progress: Called with rows done and in all; 0 in all if that is not known.

    Raises:
        ConfigError: If the order cannot be served, or the folder holds shards of another one.
        ShardError: If a source breaks off; the shards before it stay.
        OutputError: If the folder cannot be written into.
    """
    sources = [file for given in order.inputs for file in _files(Path(given))]
    _refuse_names(order, sources)
    made = _begun(order, sources, folder)
    if made.complete:
        return made
    total = _total(sources)
    rows = islice((row for file in sources for row in _rows(file, order)), made.rows, None)
    while not made.complete:
        _shard(rows, order, folder, made, lambda: progress(made.rows, total))
        with files.text(folder / RECORD, errors="backslashreplace") as stream:
            stream.write(json.dumps(asdict(made), indent=1, ensure_ascii=False))
    progress(made.rows, made.rows)
    return made


def _refuse_names(order: Conversion, sources: Sequence[Path]) -> None:
    """Refuse file names as captions where there is no file to a caption."""
    tables = [file for file in sources if not file.is_dir()]
    if order.names_are_captions and tables:
        raise ConfigError(
            f"--names-are-captions is for folders of images, {tables[0]} is a table: leave it "
            f"out (--caption-column names the column), or make shards of the tables in another "
            f"folder"
        )


def _begun(order: Conversion, sources: Sequence[Path], folder: Path) -> ConversionResult:
    """Return what an earlier call left, or a beginning."""
    identity = asdict(order) | {
        "inputs": [[str(f.absolute()), f.stat().st_size if f.is_file() else 0] for f in sources]
    }
    record = folder / RECORD
    if not record.exists():
        if any(folder.glob("*.tar")):
            raise ConfigError(f"{folder} holds shards that are not of this making: name another")
        return ConversionResult(identity)
    try:
        made = ConversionResult(**object_from_json(record.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{record} cannot be read ({error}): name another folder") from error
    if made.order != identity:
        raise ConfigError(
            f"{folder} was made from other inputs or with other settings: name another folder"
        )
    return made


def _shard(
    rows: Iterator[InputRow],
    order: Conversion,
    folder: Path,
    made: ConversionResult,
    tick: Callable[[], None],
) -> None:
    """Write the next shard and count it; mark the end of the source."""
    from webdataset.writer import TarWriter  # imports torch

    samples = _samples(rows, order, made, tick)
    first = next(samples, None)
    if first is None:
        return
    written = 0
    with (
        files.binary(folder / f"{len(made.samples):05d}.tar") as stream,
        TarWriter(stream, mtime=0) as tar,
    ):
        for sample in chain([first], samples):
            tar.write(sample)
            written += 1
    made.samples.append(written)


def _samples(
    rows: Iterator[InputRow], order: Conversion, made: ConversionResult, tick: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Yield the samples of one shard; count all rows that were read, bad ones too."""
    written = size = 0
    while written < order.samples and size < order.size:
        row = next(rows, None)
        if row is None:
            made.complete = True
            return
        sample = _sample(row, made.rows)
        made.rows += 1
        if isinstance(sample, Why):
            _note(made, row, sample)
        else:
            written += 1
            size += sum(len(part) for part in sample.values() if isinstance(part, bytes))
            yield sample
        tick()


def _sample(row: InputRow, number: int) -> dict[str, Any] | Why:
    """Return the members of a sample, or why there is none."""
    if why := row.bad or _refusal(row.caption):
        return why
    sample: dict[str, Any] = {"__key__": f"{number:09d}", "txt": row.caption.encode()}
    if isinstance(row.url, str) and row.url:
        sample["json"] = json.dumps({"url": row.url}).encode()
    if row.image is not None:
        try:
            content = row.image.read_bytes() if row.image.stat().st_size <= IMAGE_BYTES else None
        except OSError as error:
            return Why(LeftOut.UNREADABLE_IMAGE, error.strerror or "")
        if content is None:
            return Why(LeftOut.IMAGE_TOO_LARGE)
        sample[row.image.suffix.lower().removeprefix(".")] = content
    return sample


def _refusal(caption: Any) -> Why | None:
    if caption is None:
        return Why(RejectReason.NO_CAPTION)
    if not isinstance(caption, str):
        return Why(LeftOut.CAPTION_IS_NO_TEXT)
    if not caption.strip():
        return Why(RejectReason.EMPTY_CAPTION)
    try:
        too_long = len(caption.encode()) > CAPTION_BYTES
    except UnicodeEncodeError:
        return Why(RejectReason.NOT_UTF8)
    return Why(RejectReason.CAPTION_TOO_LONG) if too_long else None


def _note(made: ConversionResult, row: InputRow, why: Why) -> None:
    made.bad = dict(Counter(made.bad) + Counter({str(why.reason): 1}))
    if len(made.examples) < EXAMPLES:
        made.examples.append(f"{row.where}: {why}")


def _files(given: Path) -> list[Path]:
    """Return the tables that an input names; a folder without any is taken as one of images."""
    if given.is_dir():
        tables = [p for p in given.iterdir() if _kind(p) and not p.name.startswith("metadata.")]
        return sorted(tables) or [given]
    if not given.exists():
        raise ConfigError(f"{given} does not exist: tables and folders must be on this machine")
    if not _kind(given):
        raise ConfigError(f"{given} is no table: expected {', '.join(TABLES)} or a folder")
    return [given]


def _kind(path: Path) -> str:
    """Return what a table is by its name, ``""`` if it is none."""
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in TABLES if name.endswith(ending)), "")


def _total(sources: Iterable[Path]) -> int:
    """Return how many rows there are, 0 if that takes reading them."""
    import pyarrow.parquet as pq

    if any(_kind(file) != ".parquet" for file in sources):
        return 0
    try:
        return sum(pq.read_metadata(file).num_rows for file in sources)
    except (OSError, ValueError) as error:
        raise ConfigError(f"a table is no Parquet: {error}") from error


def _rows(file: Path, order: Conversion) -> Iterator[InputRow]:
    """Yield the rows of one file or folder of images, the bad ones too.

    Raises:
        ConfigError: If it has no such column.
        ShardError: If it cannot be read, or not to its end.
    """
    if file.is_dir():
        yield from _pictures(file, order)
        return
    kinds = {".parquet": _parquet, ".jsonl": _json_lines, ".ndjson": _json_lines}
    try:
        yield from kinds.get(_kind(file), _csv)(file, order)
    except (OSError, EOFError, ValueError) as error:  # what pyarrow and gzip raise, too
        raise ShardError(f"{file} cannot be read to its end: {error}") from error


def _column(file: Path, there: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str:
    """Return a column's name, ``""`` if none was asked for and none of the usual ones is there."""
    if wanted is not None and wanted not in there:
        raise ConfigError(f"{file} has no column {wanted!r}, only {', '.join(there)}")
    return wanted or next((name for name in usual if name in there), "")


def _columns(file: Path, there: Sequence[str], order: Conversion) -> tuple[str, str]:
    caption = _column(file, there, order.caption_column, CAPTIONS)
    if not caption:
        raise ConfigError(
            f"{file} has no column {', '.join(CAPTIONS)}: name one of {', '.join(there)} with "
            f"--caption-column"
        )
    return caption, _column(file, there, order.url_column, URLS)


def _parquet(file: Path, order: Conversion) -> Iterator[InputRow]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        caption, url = _columns(file, table.schema_arrow.names, order)
        number = 0
        for batch in table.iter_batches(batch_size=8192, columns=[n for n in (caption, url) if n]):
            captions = batch.column(caption).to_pylist()
            urls = batch.column(url).to_pylist() if url else [None] * len(captions)
            for text, address in zip(captions, urls, strict=True):
                yield InputRow(f"{file}:{number}", text, address)
                number += 1


def _opened(file: Path) -> IO[str]:
    opener = gzip.open if file.name.lower().endswith(".gz") else open
    return opener(file, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[return-value]


def _csv(file: Path, order: Conversion) -> Iterator[InputRow]:
    with _opened(file) as stream:
        reader = csv.DictReader(stream, delimiter="\t" if _kind(file) == ".tsv" else ",")
        caption, url = _columns(file, reader.fieldnames or [], order)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield InputRow(f"{file}:{reader.line_num}", bad=Why(LeftOut.BAD_CSV, str(error)))
                continue
            if row is None:
                return
            yield InputRow(f"{file}:{reader.line_num}", row[caption], row.get(url))


def _json_lines(file: Path, order: Conversion) -> Iterator[InputRow]:
    captions = (order.caption_column,) if order.caption_column else CAPTIONS
    urls = (order.url_column,) if order.url_column else URLS
    with _opened(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                content = None
            where = f"{file}:{number}"
            if isinstance(content, dict):
                yield InputRow(where, _first(content, captions), _first(content, urls))
            else:
                yield InputRow(where, bad=Why(RejectReason.BAD_JSON))


def _pictures(folder: Path, order: Conversion) -> Iterator[InputRow]:
    """Yield images with the caption of the folder's metadata, a ``.txt`` beside, or their name."""
    known = _metadata(folder, order)
    found = False
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in IMAGES and not name.startswith("."):
                found = True
                place = path.relative_to(folder).as_posix()
                caption = known.get(place) or _beside(path)
                if caption is None and order.names_are_captions:
                    caption = re.sub(r"[-_\s]+", " ", path.stem).strip()
                yield InputRow(str(path), caption, None, path)
    if not found:
        raise ConfigError(
            f"{folder} holds neither tables ({', '.join(TABLES)}) nor images ({', '.join(IMAGES)})"
        )


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _metadata(folder: Path, order: Conversion) -> dict[str, Any]:
    """Return captions by file name, as the imagefolder convention has them."""
    captions = (order.caption_column,) if order.caption_column else CAPTIONS
    file = next((f for n in ("jsonl", "csv") if (f := folder / f"metadata.{n}").exists()), None)
    if file is None:
        return {}
    try:
        with _opened(file) as stream:
            rows = (
                csv.DictReader(stream) if file.suffix == ".csv" else map(object_from_json, stream)
            )
            return {str(row["file_name"]): _first(row, captions) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{file} cannot be read ({error!r}): every row needs a file_name and a caption"
        ) from error


def _beside(image: Path) -> str | None:
    try:
        return image.with_suffix(".txt").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
