"""Kinds of shards, told by name; and tables that are named as tars, told by their first bytes."""

import zlib
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path

from scanner.errors import ConfigError

TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
TARS = (".tar", ".tar.gz", ".tgz")
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files in which Hugging Face's imagefolder has captions."""
MOST_LOOKED_INTO = 1000
"""Files named as tars whose first bytes are looked at; each costs a read."""

MOST_LISTED = 20
"""Files that a refusal names."""

_BLOCK = 512
_GZIP = b"\x1f\x8b"
_TEXT_CONTROLS = b"\t\n\r"


class Kind(StrEnum):
    """What a shard is; the text names it for a person."""

    TAR = "tar"
    PARQUET = "Parquet"
    CSV = "CSV"
    JSONL = "JSONL"
    FOLDER = "folder"


_ENDINGS = {
    ".parquet": Kind.PARQUET, ".csv": Kind.CSV, ".tsv": Kind.CSV, ".jsonl": Kind.JSONL,
    ".ndjson": Kind.JSONL,
}  # fmt: skip


def kind_named(address: str) -> Kind:
    """Return the kind of an address without columns; what is none of the others is a tar.

    A folder's address ends with ``/``. Text tables may be compressed by gzip, Parquet is not.

    Example:
        >>> [str(kind_named(a)) for a in ("a.csv.gz", "https://h/a.jsonl?x=1", "/pictures/", "a")]
        ['CSV', 'JSONL', 'folder', 'tar']
    """
    if "://" in address:
        address = address.partition("?")[0]
    elif address.endswith("/"):
        return Kind.FOLDER
    name = address.rpartition("/")[2].lower()
    plain = name.removesuffix(".gz")
    _, dot, end = plain.rpartition(".")
    found = _ENDINGS.get(dot + end, Kind.TAR)
    return Kind.TAR if found is Kind.PARQUET and plain != name else found


def is_table(name: str) -> bool:
    """Whether a file is a table of captions by its name."""
    return kind_named(name) is not Kind.TAR


def table_in(head: bytes) -> str | None:
    r"""Return what table a file is by its first bytes, null if it may be a tar.

    A tar has zeros in its first block, a damaged one hardly ever only text with line ends.

    Args:
        head: The first 512 bytes or more, or the whole file.

    Example:
        >>> table_in(b"PAR1..."), table_in(b"caption,url\na red rug,\n"), table_in(bytes(512))
        ('Parquet', 'text, such as CSV or JSON lines', None)
    """
    if head.startswith(b"PAR1"):
        return "Parquet"
    head = head[:_BLOCK]
    is_text = all(byte >= 32 or byte in _TEXT_CONTROLS for byte in head) and _is_utf8(head)
    if is_text and (b"\n" in head or head[:1] in (b"{", b"[")):
        return "text, such as CSV or JSON lines"
    return None


def refuse_unnamed_tables(addresses: Sequence[str], names: Sequence[str]) -> None:
    """Refuse local files that would be read as tars and hold tables or text.

    Of those that are named as tars, the first `MOST_LOOKED_INTO` are looked into.

    Args:
        addresses: Absolute paths and remote addresses, of what is read as tars.
        names: The last part of each.

    Raises:
        ConfigError: If any is; the text names each, and what to do.
    """
    local = [(a, n) for a, n in zip(addresses, names, strict=True) if "://" not in a]
    odd = (a for a, name in local if not name.lower().endswith(TARS))
    tars = (a for a, name in local if name.lower().endswith(TARS))
    looked_into = ((a, table_in(_head(a))) for a in (*odd, *islice(tars, MOST_LOOKED_INTO)))
    found = [(address, kind) for address, kind in looked_into if kind is not None]
    if found:
        are = "is no tar, it holds" if len(found) == 1 else "are no tars, they hold"
        kinds = " or ".join(dict.fromkeys(kind for _, kind in found))
        raise ConfigError(
            f"{listed([address for address, _ in found])} {are} {kinds}: leave out what holds no "
            f"captions; a table of captions is read as it lies if its name ends in one of "
            f"{', '.join(TABLES)}"
        )


def listed(addresses: Sequence[str]) -> str:
    """Return addresses for a person, the first of many."""
    more = len(addresses) - MOST_LISTED
    return ", ".join(addresses[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and len(head) >= _BLOCK  # cut inside a character
    return True


def _head(path: str) -> bytes:
    """Return a file's first block, inflated where it is gzip; nothing where it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(4 * _BLOCK)
        return zlib.decompressobj(wbits=31).decompress(head, _BLOCK) if head[:2] == _GZIP else head
    except (OSError, zlib.error):
        return b""
