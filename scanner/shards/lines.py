"""Lines of a text with the bytes at which they begin; nothing longer than a limit is held."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from scanner.shards.byte_sources import ByteSource

LINE_BYTES = 16 << 20
"""Bytes that a line may have."""
_BLOCK = 256 << 10
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of a text.

    Attributes:
        start: The byte at which it begins, after decompression.
        content: With its line feed, which the last line may lack; null if it is too long.
        size: In bytes.
    """

    start: int
    content: bytes | None
    size: int

    @property
    def is_cut(self) -> bool:
        """Whether the text ends within it, or right behind it."""
        return self.content is not None and not self.content.endswith(b"\n")


class Lines:
    """The lines of a text from its beginning, in order.

    Attributes:
        at: The byte at which the next line begins.
    """

    def __init__(self, source: ByteSource) -> None:
        self.at = 0
        self._source = source
        self._ready = deque[Line]()
        self._rest, self._read = b"", 0

    @property
    def problem(self) -> str | None:
        """Why there are no more lines, if that is not the regular end."""
        return self._source.problem

    def next(self) -> Line | None:
        """Return the next line, null at the end.

        Raises:
            ShardError: If the text cannot be read on.
        """
        while not self._ready:
            if not self._fill():
                return None
        line = self._ready.popleft()
        self.at = line.start + line.size
        return line

    def push_back(self, lines: Iterable[Line]) -> None:
        """Give back the lines that were taken last, in their order."""
        for line in reversed(list(lines)):
            self._ready.appendleft(line)
            self.at = line.start

    def go_to(self, offset: int) -> None:
        """Go on to the line that begins at a byte, which lies ahead.

        Raises:
            ShardError: If the text cannot be read on.
        """
        while self._ready and self._ready[0].start < offset:
            self._ready.popleft()
        if not self._ready and offset > self._read:
            self._source.skip(offset - self._read)
            self._rest, self._read = b"", offset
        elif not self._ready:
            behind = offset - (self._read - len(self._rest))
            self._rest = self._rest[max(0, behind) :]
        self.at = offset

    def _fill(self) -> bool:
        """Read on to the end of a line or more; False at the end of the text."""
        start, pieces, size = self._read - len(self._rest), [self._rest], len(self._rest)
        self._rest = b""
        is_over = False
        while not is_over:
            block = self._source.read(_BLOCK)
            is_over = not block
            self._read += len(block)
            size += len(block)
            if size - len(block) <= LINE_BYTES:
                pieces.append(block)
            elif b"\n" in block:  # the line's own bytes were let go
                self._end_long(start, block, size)
                return True
            if b"\n" in block:
                self._split(start, b"".join(pieces))
                return True
        if size:
            content = b"".join(pieces)
            self._ready.append(Line(start, _first(start, content, size), size))
        return size > 0

    def _end_long(self, start: int, block: bytes, size: int) -> None:
        """Take the end of a line that is too long, and the lines behind it."""
        end = block.index(b"\n") + 1
        length = size - len(block) + end
        self._ready.append(Line(start, None, length))
        if block[end:]:
            self._split(start + length, block[end:])

    def _split(self, start: int, content: bytes) -> None:
        *whole, self._rest = content.split(b"\n")
        for each in whole:
            size = len(each) + 1
            self._ready.append(Line(start, _first(start, each + b"\n", size), size))
            start += size


def _first(start: int, content: bytes, size: int) -> bytes | None:
    """Return a line's content as it counts: without a byte order mark, nothing if too long."""
    if size > LINE_BYTES:
        return None
    return content.removeprefix(_BOM) if start == 0 else content
