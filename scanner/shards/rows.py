"""From the cells of a table's row to a sample or its reject."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scanner.records import Caption, Reject, RejectReason
from scanner.shards.samples import IMAGE_BYTES, RejectError, checked

MOST_ROWS = 100_000_000
"""Rows that a table may have."""

Mark = tuple[int, RejectReason, str]
"""Row or position in a chunk, reason and detail of what only the whole table shows unfit."""


@dataclass(frozen=True, slots=True)
class Found:
    """Columns as a table has them; ``""`` for what it lacks."""

    caption: str
    key: str = ""
    image: str = ""
    url: str = ""

    def says(self) -> str:
        """Return for a person what is read as captions, keys and images."""
        keys = f"column {self.key}" if self.key else "row numbers"
        images = f", images from column {self.image}" if self.image else ""
        return f"captions from column {self.caption}, keys are {keys}{images}"


@dataclass(frozen=True, slots=True)
class TableIndex:
    """Rows of a table, and the marked of each of its chunks.

    Attributes:
        rows: How many samples there are.
        marked: One tuple a chunk.
        problem: Why the table is incomplete, on one line; null if it is whole.
        offsets: Byte at which each chunk begins; null where rows are found by their number.
    """

    rows: int
    marked: list[tuple[Mark, ...]]
    problem: str | None
    offsets: list[int] | None = None


class Keys:
    """The keys of a table's rows, 16 bytes each, to find those that came before."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def add(self, key: str) -> None:
        """Take in the key of the next row."""
        import hashlib

        self._digests += hashlib.blake2b(key.encode(), digest_size=16).digest()

    def repeated(self) -> Iterator[int]:
        """Yield the rows, in order, whose key is one of an earlier row."""
        import numpy as np

        pairs = np.frombuffer(self._digests, np.uint64).reshape(-1, 2)
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))  # keeps the order of equal ones
        is_same = np.ones(max(0, len(order) - 1), bool)
        for half in (0, 1):
            digests = pairs[order, half]
            is_same &= digests[1:] == digests[:-1]
        yield from np.sort(order[1:][is_same]).tolist()


def marks(rows: int, chunk_size: int, found: list[Mark]) -> list[tuple[Mark, ...]]:
    """Return the marked of each chunk.

    Args:
        rows: How many there are.
        chunk_size: Rows in a chunk.
        found: Row, reason and detail.
    """
    marked: list[list[Mark]] = [[] for _ in range(-(-rows // chunk_size))]
    for row, reason, detail in sorted(found, key=lambda each: each[0]):
        marked[row // chunk_size].append((row % chunk_size, reason, detail))
    return [tuple(each) for each in marked]


def repeats(keys: Keys) -> list[Mark]:
    """Return row, reason and detail of the rows whose key came before."""
    detail = "its key came before in this table"
    return [(row, RejectReason.DUPLICATE_KEY, detail) for row in keys.repeated()]


def sample(
    url: str, key: str, text: Any, address: Any, image: bytes | None,
    mark: tuple[RejectReason, str] | None, *, captions: bool,
) -> Caption | Reject:  # fmt: skip
    """Return what a row stands for.

    Args:
        url: Address of the table.
        key: Of the sample.
        text: What the caption column holds; bytes for what is no UTF-8.
        address: What the column of addresses holds.
        image: The encoded image.
        mark: Reason and detail of a reject that only the whole table shows, if any.
        captions: Whether the sample must have a caption; if not, it has none.
    """
    try:
        said = _text(text) if captions else ""
    except RejectError as refused:
        return Reject(url, key, *(mark or (refused.reason, refused.detail)))
    if image is not None and len(image) > IMAGE_BYTES:
        detail = f"its image has {len(image)} bytes, more than {IMAGE_BYTES}"
        return Reject(url, key, *(mark or (RejectReason.MEMBER_TOO_LARGE, detail)))
    caption = Caption(url, key, said, _url(address), image)
    if mark:
        return Reject(url, key, *mark, caption_sha256=caption.sha256)
    return caption


def row_key(value: Any, row: int) -> str:
    """Return what a sample is called: what its key column holds, or the number of its row."""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if value is None or value == "":
        return f"{row:09d}"
    return str(value).encode(errors="backslashreplace").decode()


def encoded(value: Any) -> bytes | None:
    """Return the encoded image in a cell: bytes, or a struct with a field ``bytes``."""
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) and found else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise RejectError(RejectReason.NOT_UTF8, "its caption is no valid UTF-8")
    if not isinstance(value, str):
        what = "nothing" if value is None else f"a {type(value).__name__}"
        raise RejectError(RejectReason.NO_CAPTION, f"its caption column holds {what}, no text")
    return checked(value)


def _url(value: Any) -> str | None:
    try:
        return checked(value) if isinstance(value, str) and value else None
    except RejectError:
        return None
