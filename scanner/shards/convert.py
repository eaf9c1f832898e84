"""From tables of captions, or a folder of images, to WebDataset shards. Fetches nothing."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from scanner import files
from scanner.errors import ConfigError
from scanner.parsing import object_from_json
from scanner.records import RejectReason
from scanner.shards.conversion import Conversion, ConversionResult, LeftOut, Why
from scanner.shards.input_rows import InputRow, rows_of, tables_of, total_rows
from scanner.shards.samples import CAPTION_BYTES, IMAGE_BYTES

RECORD = "shards.json"
EXAMPLES = 20


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
    sources = [file for given in order.inputs for file in tables_of(Path(given))]
    _refuse_names(order, sources)
    made = _earlier_result(order, sources, folder)
    if made.complete:
        return made
    total = total_rows(sources)
    rows = islice((row for file in sources for row in rows_of(file, order)), made.rows, None)
    while not made.complete:
        _write_shard(rows, order, folder, made, lambda: progress(made.rows, total))
        with files.text(folder / RECORD, errors="backslashreplace") as stream:
            stream.write(json.dumps(asdict(made), indent=1, ensure_ascii=False))
    progress(made.rows, made.rows)
    return made


def _refuse_names(order: Conversion, sources: Sequence[Path]) -> None:
    """Refuse file names as captions where there is no file to a caption.

    Raises:
        ConfigError: If there is a table among the inputs.
    """
    tables = [file for file in sources if not file.is_dir()]
    if order.names_are_captions and tables:
        raise ConfigError(
            f"--names-are-captions is for folders of images, {tables[0]} is a table: leave it "
            f"out (--caption-column names the column), or make shards of the tables in another "
            f"folder"
        )


def _earlier_result(order: Conversion, sources: Sequence[Path], folder: Path) -> ConversionResult:
    """Return what an earlier call left, or a beginning.

    Raises:
        ConfigError: If the folder holds something else, or shards of other settings.
    """
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


def _write_shard(
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
            _count_left_out(made, row, sample)
        else:
            written += 1
            size += sum(len(part) for part in sample.values() if isinstance(part, bytes))
            yield sample
        tick()


def _sample(row: InputRow, number: int) -> dict[str, Any] | Why:
    """Return the members of a sample, or why there is none."""
    if why := row.bad or _why_no_caption(row.caption):
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


def _why_no_caption(caption: Any) -> Why | None:
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


def _count_left_out(made: ConversionResult, row: InputRow, why: Why) -> None:
    made.bad = dict(Counter(made.bad) + Counter({str(why.reason): 1}))
    if len(made.examples) < EXAMPLES:
        made.examples.append(f"{row.where}: {why}")
