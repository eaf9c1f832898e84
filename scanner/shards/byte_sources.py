"""Bytes of a shard read forwards: of an open file, which may break, or of a gzip stream."""

import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Protocol

from scanner.errors import ShardError
from scanner.retry import explain, is_transient, slow, with_retries

INFLATION = 100
INFLATION_FREE_BYTES = 1 << 30

SLOW_ANSWERS = 3
"""Answers of a web server that are too slow before the shard is given up."""
_SLOW_BYTES = 1 << 20
_READ_BYTES = 1 << 16
SKIP_BYTES = 1 << 20


class ByteSource(Protocol):
    """Bytes that are read forwards.

    Attributes:
        at: Bytes read or skipped so far.
        problem: Why there are no more bytes, if that is not the regular end.
    """

    at: int
    problem: str | None

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer only at the end."""
        ...

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes and return how many there were."""
        ...


class FileSource:
    """An open file, local or remote.

    Args:
        file: Read from where it stands.
        size: Size in bytes that the file was listed with, -1 if it is not known.
        url: For messages.
        opens: Opens the file once more from its beginning, for reading with seeks or, where a
            server refuses byte ranges, without; null where it cannot break.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        url: str,
        opens: Callable[[bool], BinaryIO] | None = None,
    ) -> None:
        self.at = 0
        self.problem: str | None = None
        self._file, self._size, self._url = file, size, url
        self._opens, self._is_broken = opens, False
        self._slow_at, self._slow_times = 0, 0
        self._seeks = size >= 0

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer only at the end.

        Raises:
            ShardError: If the file cannot be read, or ends before the size it was listed with.
        """
        if self._size >= 0:
            count = min(count, self._size - self.at)
        pieces: list[bytes] = []
        while count > 0 and (piece := self._piece(count)):
            pieces.append(piece)
            count -= len(piece)
            self.at += len(piece)
        if count > 0 and self._size >= 0:
            raise ShardError(
                f"{self._url} ends at byte {self.at}, listed with {self._size}: it changed "
                f"while it was read; scan it again when it is at rest"
            )
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes, by a seek where the file can, and return how many there were.

        Raises:
            ShardError: If the file cannot be read.
        """
        if self._seeks:
            step = min(count, self._size - self.at)
            try:
                self._file.seek(self.at + step)
            except (OSError, ValueError):  # a server without byte ranges
                self._seeks = False
            else:
                self.at += step
                return step
        return _read_over(self, count)

    def _piece(self, count: int) -> bytes:
        """Read on; what passes is waited for, and goes on at the same byte.

        Raises:
            ShardError: If the shard cannot be read on.
        """
        try:
            return with_retries(lambda: self._attempt(count))
        except ShardError:
            raise
        except Exception as error:  # every store has errors of its own
            raise ShardError(
                f"{self._url} cannot be read at byte {self.at}: {explain(error)}"
            ) from error

    def _attempt(self, count: int) -> bytes:
        if self._is_broken:
            self._reopen()
        try:
            return self._file.read(count)
        except Exception as error:  # every store has errors of its own
            self._is_broken = True
            if slow(error) is not None and self._is_slow_again():
                raise ShardError(
                    f"{self._url} cannot be read at byte {self.at}: {explain(error)}"
                ) from error
            if is_transient(error) or not self._seeks or self._opens is None:
                raise
            self._seeks = False  # a server without byte ranges
            return self._attempt(count)

    def _is_slow_again(self) -> bool:
        """Count a slow answer; return whether there were too many since the last bytes in bulk.

        Every byte that arrives makes `with_retries` wait anew, so a few bytes an answer would do.
        """
        if self.at - self._slow_at >= _SLOW_BYTES:
            self._slow_at, self._slow_times = self.at, 0
        self._slow_times += 1
        return self._slow_times >= SLOW_ANSWERS

    def _reopen(self) -> None:
        """Open the file anew and go to where reading broke off.

        Raises:
            ShardError: If the file changed meanwhile, or cannot be opened.
        """
        if self._opens is not None:
            with suppress(Exception):
                self._file.close()
            self._file = self._opens(self._seeks)
        if self._seeks:
            self._file.seek(self.at)
        left = 0 if self._seeks or self._opens is None else self.at
        while left > 0 and (piece := self._file.read(min(left, SKIP_BYTES))):
            left -= len(piece)
        if left:
            raise ShardError(f"{self._url} changed while it was read; scan it again")
        self._is_broken = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class InflateSource:
    """The content of a gzip stream, as far as it can be trusted.

    How much comes out before a break does not depend on how it is asked for: two readers of one
    damaged file see the same bytes.
    """

    def __init__(self, base: ByteSource) -> None:
        self.at = 0
        self.problem: str | None = None
        self._base = base
        self._input = b""
        self._output = bytearray()
        self._produced = 0
        self._inflater = zlib.decompressobj(wbits=31)

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer only at the end."""
        while len(self._output) < count and self._fill():
            pass
        taken = bytes(self._output[:count])
        del self._output[:count]
        self.at += len(taken)
        return taken

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes and return how many there were."""
        return _read_over(self, count)

    def _fill(self) -> bool:
        if self.problem:
            return False
        source = self._input or self._base.read(_READ_BYTES)
        if self._inflater.eof:
            if not source.strip(b"\0"):
                return False
            self._inflater = zlib.decompressobj(wbits=31)
        try:
            block = self._inflater.decompress(source, SKIP_BYTES)
        except zlib.error as error:
            self.problem = f"its gzip stream breaks: {error}"
            return False
        self._input = self._inflater.unconsumed_tail or self._inflater.unused_data
        self._produced += len(block)
        self._output += block
        if not (source or block or self._inflater.eof):
            self.problem = "its gzip stream ends early"
        elif self._produced > max(INFLATION_FREE_BYTES, INFLATION * self._base.at):
            self.problem = f"its gzip stream inflates more than {INFLATION}-fold"
        return not self.problem


def _read_over(source: ByteSource, count: int) -> int:
    done = 0
    while done < count and (piece := source.read(min(SKIP_BYTES, count - done))):
        done += len(piece)
    return done
