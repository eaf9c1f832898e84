"""Cells as text: exact in CSV and JSON, on one line and harmless in tables for people."""

import json
import math
import textwrap
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from rich.cells import cell_len, set_cell_size

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""Characters that start a formula in a spreadsheet; some also accept the full-width forms."""
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""Spellings of numbers that JSON lacks; Python, DuckDB and pandas read them."""
SPACES = {"Zl", "Zp", "Zs"}
HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn"}


def printable(text: str) -> str:
    r"""Return a text on one line without control, bidirectional and other invisible characters.

    Example:
        >>> printable("a\x1b[31m b\u202ec\nd")
        'a[31m bc d'
    """
    out = []
    for char in text:
        category = unicodedata.category(char)
        if category in SPACES or char in "\t\n\r":
            out.append(" ")
        elif category not in HIDDEN:
            out.append(char)
    return "".join(out)


def is_hidden(char: str) -> bool:
    """Return whether a character steers a terminal or cannot be seen.

    These are control characters (C0, DEL, C1), line and paragraph separators, bidirectional and
    other format characters, half surrogates, private and unassigned characters.
    """
    return not char.isprintable() and unicodedata.category(char) != "Zs"


def visible(text: str, keep: str = "") -> str:
    r"""Return a text whose hidden characters are written as escapes.

    Args:
        text: Any text.
        keep: Characters that stay as they are.

    Example:
        >>> print(visible("a\x1b[31m b\u202ec\nd", keep="\n"))
        a\x1b[31m b\u202ec
        d
    """
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if is_hidden(char) and char not in keep else char
        for char in text
    )


def cut(text: str, width: int) -> str:
    """Return a text cut to ``width`` terminal columns, its last one an ellipsis if it was cut."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…"


def wrapped(text: str, width: int, lines: int) -> list[str]:
    """Return a text as at most ``lines`` lines of ``width`` terminal columns, cut at the end."""
    counted = "".join(char + "\0" * (cell_len(char) - 1) for char in printable(text))
    found = textwrap.wrap(counted, width, max_lines=lines, placeholder="…")
    return [line.replace("\0", "") for line in found]


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as ``1 shard`` or ``1,200 shards``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def bytes_text(size: float) -> str:
    """Return a number of bytes for a person, such as ``9.1 GiB``, in four digits at most."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:,.4g} TiB"


def plain(value: Any) -> Any:
    """Return a cell as JSON can hold it: binary as its size, no number that is not finite."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def shown(value: Any) -> str:
    """Return a cell for the terminal."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    value = plain(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def to_json(value: Any) -> str:
    r"""Return a cell as JSON that reads back to it, with every hidden character escaped.

    Binary is base64 text. A number that is not finite is the text ``NaN``, ``Infinity`` or
    ``-Infinity``, because JSON has no such number; and a decimal that readers would round is text.

    Example:
        >>> print(to_json(["é", "\x9b2J", float("inf"), b"\x00"]))
        ["é", "\u009b2J", "Infinity", "AA=="]
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_json, value))}]"
    if isinstance(value, dict):
        named = ((k if isinstance(k, str) else to_json(k), v) for k, v in value.items())
        return f"{{{', '.join(f'{to_json(k)}: {to_json(v)}' for k, v in named)}}}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = _scalar(value)
    return text if _is_exact_number(value) else _json_text(text)


def _scalar(value: Any) -> str:
    """Return the text of a cell that is neither null nor boolean nor a container."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(value).decode()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else NOT_FINITE[repr(value)]
    return str(value)


def _is_exact_number(value: Any) -> bool:
    """Return whether JSON's readers, most of which read doubles, find this very number."""
    if isinstance(value, Decimal):
        return Decimal(repr(float(value))) == value
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _json_text(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    if text.isprintable():
        return quoted
    return "".join(json.dumps(char)[1:-1] if is_hidden(char) else char for char in quoted)


def to_csv(value: Any) -> str:
    """Return a CSV cell that reads back to a value: null is nothing, an empty text is ``""``.

    Text is quoted by RFC 4180 wherever a reader could take it for something else: line breaks of
    any kind among them. Lists and structs are JSON.

    Example:
        >>> print(to_csv("a,b"), to_csv(None), to_csv(""), to_csv(0.5), to_csv(True), sep=";")
        "a,b";;"";0.5;true
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = to_json(value) if isinstance(value, list | tuple | dict) else _scalar(value)
    is_plain = text and text == text.strip() and text.isprintable() and not set('",#') & set(text)
    return text if is_plain else '"' + text.replace('"', '""') + '"'


def spreadsheet_cell(value: Any) -> Any:
    r"""Return a cell that no spreadsheet computes: text is cleaned and may get a leading ``'``.

    Example:
        >>> spreadsheet_cell("\t=1+1"), spreadsheet_cell(-1.5)
        ("'=1+1", -1.5)
    """
    if not isinstance(value, str):
        return value
    text = printable(value).strip()
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def distinct(names: Sequence[str]) -> list[str]:
    """Return column names with repeated ones numbered, so that no cell hides another."""
    out: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in out:
            number += 1
            candidate = f"{name}_{number}"
        out.append(candidate)
    return out


def aligned(names: Sequence[str], rows: Iterable[Sequence[Any]], width: int | None = None) -> str:
    """Return an aligned table: numbers to the right, long cells cut so that a line fits.

    It joins lines itself: a table of rich's takes over a millisecond for each row, and a query may
    have a million.

    Args:
        names: Column names.
        rows: Cells of any type.
        width: Terminal columns; no limit by default.
    """
    cells = [list(row) for row in rows]
    numeric = [
        any(row[i] is not None for row in cells)
        and all(row[i] is None or _is_number(row[i]) for row in cells)
        for i in range(len(names))
    ]
    lines = [[printable(name) for name in names], *([shown(c) for c in row] for row in cells)]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(names))]
    if width is not None:
        widths = _fitted(widths, width - 2 * (len(names) - 1))
    lines.insert(1, ["─" * w for w in widths])
    return "\n".join(
        "  ".join(
            _padded(cut(cell, w), w, to_right=right)
            for cell, w, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _padded(text: str, width: int, *, to_right: bool) -> str:
    fill = " " * (width - cell_len(text))
    return fill + text if to_right else text + fill


def _fitted(widths: list[int], room: int) -> list[int]:
    """Shorten the widest columns, never below eight, until they fit or nothing is left."""
    widths = [min(w, max(room, 8)) for w in widths]
    while sum(widths) > room and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    return widths
