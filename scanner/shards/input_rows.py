"""Rows of tables of captions and of folders of images, as they stand there."""

import csv
import gzip
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from scanner.errors import ConfigError, ShardError
from scanner.parsing import object_from_json
from scanner.records import RejectReason
from scanner.shards.columns import CAPTIONS, URLS
from scanner.shards.conversion import Conversion, Why
from scanner.shards.kinds import TABLES

IMAGES = (".jpg", ".jpeg", ".png", ".webp")

csv.field_size_limit(1 << 24)


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


def tables_of(given: Path) -> list[Path]:
    """Return the tables that an input names; a folder without any is taken as one of images.

    Raises:
        ConfigError: If it does not exist, or is no table.
    """
    if given.is_dir():
        tables = [p for p in given.iterdir() if _ending(p) and not p.name.startswith("metadata.")]
        return sorted(tables) or [given]
    if not given.exists():
        raise ConfigError(f"{given} does not exist: tables and folders must be on this machine")
    if not _ending(given):
        raise ConfigError(f"{given} is no table: expected {', '.join(TABLES)} or a folder")
    return [given]


def _ending(path: Path) -> str:
    """Return what a table is by its name, ``""`` if it is none."""
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in TABLES if name.endswith(ending)), "")


def total_rows(sources: Iterable[Path]) -> int:
    """Return how many rows there are, 0 if that takes reading them.

    Raises:
        ConfigError: If a Parquet file is none.
    """
    import pyarrow.parquet as pq

    if any(_ending(file) != ".parquet" for file in sources):
        return 0
    try:
        return sum(pq.read_metadata(file).num_rows for file in sources)
    except (OSError, ValueError) as error:
        raise ConfigError(f"a table is no Parquet: {error}") from error


def rows_of(file: Path, order: Conversion) -> Iterator[InputRow]:
    """Yield the rows of one file or folder of images, the bad ones too.

    Raises:
        ConfigError: If it has no such column.
        ShardError: If it cannot be read, or not to its end.
    """
    if file.is_dir():
        yield from _image_rows(file, order)
        return
    kinds = {".parquet": _parquet_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    try:
        yield from kinds.get(_ending(file), _csv_rows)(file, order)
    except (OSError, EOFError, ValueError) as error:  # what pyarrow and gzip raise, too
        raise ShardError(f"{file} cannot be read to its end: {error}") from error


def _column_name(file: Path, there: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str:
    """Return a column's name, ``""`` if none was asked for and none of the usual ones is there.

    Raises:
        ConfigError: If the column that was asked for is missing.
    """
    if wanted is not None and wanted not in there:
        raise ConfigError(f"{file} has no column {wanted!r}, only {', '.join(there)}")
    return wanted or next((name for name in usual if name in there), "")


def _column_names(file: Path, there: Sequence[str], order: Conversion) -> tuple[str, str]:
    caption = _column_name(file, there, order.caption_column, CAPTIONS)
    if not caption:
        raise ConfigError(
            f"{file} has no column {', '.join(CAPTIONS)}: name one of {', '.join(there)} with "
            f"--caption-column"
        )
    return caption, _column_name(file, there, order.url_column, URLS)


def _parquet_rows(file: Path, order: Conversion) -> Iterator[InputRow]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        caption, url = _column_names(file, table.schema_arrow.names, order)
        number = 0
        for batch in table.iter_batches(batch_size=8192, columns=[n for n in (caption, url) if n]):
            captions = batch.column(caption).to_pylist()
            urls = batch.column(url).to_pylist() if url else [None] * len(captions)
            for text, address in zip(captions, urls, strict=True):
                yield InputRow(f"{file}:{number}", text, address)
                number += 1


def _open_text(file: Path) -> IO[str]:
    opener = gzip.open if file.name.lower().endswith(".gz") else open
    return opener(file, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[return-value]


def _csv_rows(file: Path, order: Conversion) -> Iterator[InputRow]:
    with _open_text(file) as stream:
        reader = csv.DictReader(stream, delimiter="\t" if _ending(file) == ".tsv" else ",")
        caption, url = _column_names(file, reader.fieldnames or [], order)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield InputRow(
                    f"{file}:{reader.line_num}", bad=Why(RejectReason.BAD_CSV, str(error))
                )
                continue
            if row is None:
                return
            yield InputRow(f"{file}:{reader.line_num}", row[caption], row.get(url))


def _json_rows(file: Path, order: Conversion) -> Iterator[InputRow]:
    captions = (order.caption_column,) if order.caption_column else CAPTIONS
    urls = (order.url_column,) if order.url_column else URLS
    with _open_text(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                content = None
            where = f"{file}:{number}"
            if isinstance(content, dict):
                yield InputRow(where, _first_value(content, captions), _first_value(content, urls))
            else:
                yield InputRow(where, bad=Why(RejectReason.BAD_JSON))


def _image_rows(folder: Path, order: Conversion) -> Iterator[InputRow]:
    """Yield images with the caption of the folder's metadata, a ``.txt`` beside, or their name.

    Raises:
        ConfigError: If the folder has no image.
    """
    known = _captions_of_metadata(folder, order)
    found = False
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in IMAGES and not name.startswith("."):
                found = True
                place = path.relative_to(folder).as_posix()
                caption = known.get(place) or _caption_beside(path)
                if caption is None and order.names_are_captions:
                    caption = re.sub(r"[-_\s]+", " ", path.stem).strip()
                yield InputRow(str(path), caption, None, path)
    if not found:
        raise ConfigError(
            f"{folder} holds neither tables ({', '.join(TABLES)}) nor images ({', '.join(IMAGES)})"
        )


def _first_value(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _captions_of_metadata(folder: Path, order: Conversion) -> dict[str, Any]:
    """Return captions by file name, as the imagefolder convention has them.

    Raises:
        ConfigError: If the folder's metadata cannot be read.
    """
    captions = (order.caption_column,) if order.caption_column else CAPTIONS
    file = next((f for n in ("jsonl", "csv") if (f := folder / f"metadata.{n}").exists()), None)
    if file is None:
        return {}
    try:
        with _open_text(file) as stream:
            rows = (
                csv.DictReader(stream) if file.suffix == ".csv" else map(object_from_json, stream)
            )
            return {str(row["file_name"]): _first_value(row, captions) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigError(
            f"{file} cannot be read ({error!r}): every row needs a file_name and a caption"
        ) from error


def _caption_beside(image: Path) -> str | None:
    try:
        return image.with_suffix(".txt").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
