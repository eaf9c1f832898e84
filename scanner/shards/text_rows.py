"""Rows of CSV, TSV and JSONL texts, the damaged ones too: none takes another one with it.

A row over several lines that cannot be right (a quote that nothing closes, another number of
fields) is a bad row of one line; the lines behind it are read anew, so that a stray quote costs
one row and not the rest of the file.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scanner.errors import ShardError
from scanner.records import RejectReason
from scanner.shards.lines import LINE_BYTES, Line, Lines
from scanner.shards.samples import RejectError

ROW_BYTES = 1 << 20
"""Bytes that a row over several lines may have."""
DELIMITERS = ",;\t|"
HEAD_ROWS, HEAD_BYTES = 64, 1 << 20
"""Rows of a JSONL text whose fields are its columns, and bytes that are read for them."""

csv.field_size_limit(max(csv.field_size_limit(), LINE_BYTES))


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row of a text, as it stands there.

    Attributes:
        start: The byte at which it begins, after decompression.
        content: Its one line.
        fields: Of a row with quotes.
        bad: Reason and detail if it cannot be read.
        is_cut: Whether the text ends with it, without a line feed.
    """

    start: int
    content: bytes
    fields: list[str] | None = None
    bad: tuple[RejectReason, str] | None = None
    is_cut: bool = False


class CsvRows:
    """The rows of a CSV or TSV below its header.

    Args:
        lines: From the beginning.
        url: For messages.
        is_tsv: Whether fields are separated by tabs; if not, what separates them is told from
            the header: commas, semicolons, tabs or bars.

    Attributes:
        names: Of the columns.

    Raises:
        ShardError: If there is no header, or it is no text.
    """

    def __init__(self, lines: Lines, url: str, *, is_tsv: bool) -> None:
        self._lines = lines
        first = _first_line(lines, url)
        header = (first.content or b"").decode(errors="backslashreplace")
        if "\r" in header.rstrip("\r\n"):
            raise ShardError(f"{url} has lines that end with carriage returns: save it with LF")
        self._delimiter = "\t" if is_tsv else max(DELIMITERS, key=lambda d: _width(header, d))
        self._number = 0
        lines.push_back([first])
        row = next(self.rows(), None)
        if row is None or row.bad:
            raise ShardError(f"{url} has no header that can be read: its first line names columns")
        self.names = tuple(name.strip() for name in self._fields(row))
        self._number = len(self.names)
        self._places = {name: place for place, name in enumerate(self.names)}

    def rows(self) -> Iterator[TextRow]:
        """Yield the rows from where the lines stand; empty lines are none.

        Raises:
            ShardError: If the text cannot be read on.
        """
        while (line := self._lines.next()) is not None:
            if line.content is None:
                yield _too_long(line)
            elif not line.content.strip(b"\r\n"):
                continue
            elif b'"' not in line.content:
                yield TextRow(line.start, line.content, is_cut=line.is_cut)
            else:
                yield self._quoted(line)

    def cells(self, row: TextRow, names: Sequence[str]) -> list[Any]:
        """Return what columns hold, null where a name is empty; bytes for what is no UTF-8.

        Raises:
            RejectError: If the row cannot be read.
        """
        fields = self._fields(row)
        if len(fields) != self._number:
            raise RejectError(
                RejectReason.BAD_CSV,
                f"has {_counted(len(fields), 'field')}, and the header {self._number}",
            )
        return [_cell(fields[self._places[name]]) if name else None for name in names]

    def _fields(self, row: TextRow) -> list[str]:
        if row.bad:
            raise RejectError(*row.bad)
        if b"\0" in row.content:
            raise RejectError(RejectReason.BAD_CSV, "holds a NUL byte")
        if row.fields is not None:
            return row.fields
        return _decoded(row.content).rstrip("\r\n").split(self._delimiter)

    def _quoted(self, line: Line) -> TextRow:
        """Return the row that begins with a line with quotes; it may take further lines."""
        taken = [line]
        try:
            reader = csv.reader(self._fed(taken), delimiter=self._delimiter, strict=True)
            fields = next(reader)
        except csv.Error as error:
            bad = _why(str(error))
        else:
            if len(taken) == 1 or len(fields) == self._number or not self._number:
                content = b"\0" if any(b"\0" in (each.content or b"") for each in taken) else b""
                return TextRow(line.start, content, fields, is_cut=taken[-1].is_cut)
            bad = (
                f"opens a quote that is closed {_counted(len(taken) - 1, 'line')} below, which "
                f"gives {len(fields)} fields, and the header has {self._number}"
            )
        self._lines.push_back(taken[1:])
        return TextRow(line.start, b"", bad=(RejectReason.BAD_CSV, bad), is_cut=line.is_cut)

    def _fed(self, taken: list[Line]) -> Iterator[str]:
        """Yield a line, and on demand those behind it up to `ROW_BYTES`; note what was taken."""
        yield _decoded(taken[0].content or b"")
        size = taken[0].size
        while size < ROW_BYTES and (line := self._lines.next()) is not None:
            taken.append(line)
            size += line.size
            if line.content is None:
                return
            yield _decoded(line.content)


class JsonRows:
    """The rows of a JSONL text: an object a line.

    Args:
        lines: From the beginning.
        url: For messages.

    Attributes:
        names: The fields of the first objects.

    Raises:
        ShardError: If the text does not begin with lines of JSON objects.
    """

    def __init__(self, lines: Lines, url: str) -> None:
        self._lines = lines
        first = _first_line(lines, url)
        lines.push_back([first])
        if (first.content or b"").lstrip().startswith(b"["):
            raise ShardError(
                f"{url} is one JSON array: it must have an object a line (jq -c '.[]')"
            )
        self.names = self._head()
        if not self.names:
            raise ShardError(
                f"{url} holds no JSON object on one of its first lines: it must have an object a "
                f"line (jq -c . makes it so)"
            )

    def rows(self) -> Iterator[TextRow]:
        """Yield the rows from where the lines stand; empty lines are none.

        Raises:
            ShardError: If the text cannot be read on.
        """
        while (line := self._lines.next()) is not None:
            if line.content is None:
                yield _too_long(line)
            elif line.content.strip(b" \t\r\n"):
                yield TextRow(line.start, line.content, is_cut=line.is_cut)

    def cells(self, row: TextRow, names: Sequence[str]) -> list[Any]:
        """Return what fields hold, null where there is none.

        Raises:
            RejectError: If the row cannot be read.
        """
        if row.bad:
            raise RejectError(*row.bad)
        try:
            found = json.loads(_decoded(row.content))
        except (ValueError, RecursionError) as error:
            raise RejectError(RejectReason.BAD_JSON, f"is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise RejectError(RejectReason.BAD_JSON, f"is a {type(found).__name__}, no object")
        return [found.get(name) if name else None for name in names]

    def _head(self) -> tuple[str, ...]:
        names, taken, size = dict[str, None](), list[Line](), 0
        while len(taken) < HEAD_ROWS and size < HEAD_BYTES:
            if (line := self._lines.next()) is None:
                break
            taken.append(line)
            size += line.size
            try:
                found = json.loads(_decoded(line.content or b""))
            except (ValueError, RecursionError):
                continue
            names |= dict.fromkeys(found) if isinstance(found, dict) else {}
        self._lines.push_back(taken)
        return tuple(_printable(name) for name in names)


def _first_line(lines: Lines, url: str) -> Line:
    """Return the first line that is not empty.

    Raises:
        ShardError: If there is none, or it is in another encoding.
    """
    line = lines.next()
    if line is not None and (line.content or b"").startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ShardError(f"{url} is UTF-16: save it as UTF-8")
    while line is not None and line.content is not None and not line.content.strip():
        line = lines.next()
    if line is None:
        raise ShardError(f"{url} {lines.problem or 'is empty'}")
    return line


def _too_long(line: Line) -> TextRow:
    bad = (RejectReason.MEMBER_TOO_LARGE, f"has {line.size} bytes, more than {LINE_BYTES}")
    return TextRow(line.start, b"", bad=bad)


def _why(error: str) -> str:
    """Return what is wrong with quotes, in words of its own for the parser's usual ones."""
    if error == "unexpected end of data":
        return f"opens a quote that nothing closes within {ROW_BYTES} bytes"
    return f"has quotes that do not fit: {error}"


def _width(header: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([header], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _decoded(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _cell(value: str) -> str | bytes:
    if value.isascii():
        return value
    content = value.encode(errors="surrogateescape")
    try:
        content.decode()
    except UnicodeDecodeError:
        return content
    return value


def _printable(name: str) -> str:
    return name.encode(errors="surrogatepass").decode(errors="backslashreplace")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
