"""The removal list of what a filter shows, as an audit writes it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scanner.errors import ConfigError
from scanner.nightly.removal import write_removal
from scanner.serve.filters import Filter, Known, condition
from scanner.serve.listing import CAPTION_HASH, Listing
from scanner.serve.rows import Order
from scanner.serve.source import Source

MOST = 50_000
FORMATS = ("removal.csv", "removal-spreadsheet.csv", "removal.parquet")
COLUMNS = {
    "finding": "id", "sha": CAPTION_HASH, "image": "image_sha256", "severity": "severity",
    "state": "state", "match": "match", "p_value": "p_value", "delta_s": "delta_s",
    "copies": "copies",
}  # fmt: skip


def removal(source: Source, found: Listing, asked: Filter, known: Known, name: str) -> bytes:
    """Return the samples that carry a caption or picture of a filter, in one of `FORMATS`.

    Args:
        source: What is shown.
        found: The run's captions.
        asked: The filter.
        known: What people said.
        name: The format.

    Raises:
        ConfigError: If there is no such format, or the filter shows nothing or too much.
        ResultsError: If the results cannot be read.
    """
    if name not in FORMATS:
        raise ConfigError(f"a removal list must be one of {', '.join(FORMATS)}, got {name[:40]!r}")
    where, values = condition(asked, known)
    columns = ", ".join(f"{column} AS {name}" for name, column in COLUMNS.items())
    with found.cursor() as con, TemporaryDirectory() as folder:
        rows = con.execute(
            f"SELECT {columns} FROM listed WHERE {where} "  # noqa: S608 - names of ours
            f"ORDER BY {Order(asked, found).by()} LIMIT {MOST + 1}",
            values,
        ).fetchall()
        if not 0 < len(rows) <= MOST:
            shown = f"over {MOST:,}" if rows else "none"
            raise ConfigError(f"a removal list must be of 1 to {MOST:,} rows, got {shown}: filter")
        listed = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        mutes = source.mutes()
        for row in listed:
            row["muted"] = _muted(mutes, row)
        remarks = source.remarks(found.run)
        groups = {
            row["finding"]: images for row in listed
            if (own := remarks.get(row["finding"])) and (images := own.images) is not None
        }  # fmt: skip
        write_removal(con, listed, Path(folder), redact=False, groups=groups)
        return (Path(folder) / name).read_bytes()


def _muted(mutes: dict[str, dict[str, str]], row: dict[str, Any]) -> str | None:
    entry = mutes.get(row["finding"]) or mutes.get(row["sha"])
    return None if entry is None else entry["reason"]
