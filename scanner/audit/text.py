"""Cells and tables for people: aligned text, CSV and JSON that hostile captions cannot abuse."""

import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
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


def columns_wide(text: str) -> int:
    """Return how many terminal columns a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """Return a text cut to ``width`` terminal columns, its last one an ellipsis if it was cut."""
    if columns_wide(text) <= width:
        return text
    kept, used = [], 1
    for char in text:
        used += columns_wide(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + "…"


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


def csv_cell(value: Any) -> Any:
    """Return a cell for CSV: a text that a spreadsheet would compute gets a leading ``'``.

    Example:
        >>> csv_cell("=1+1"), csv_cell(-1.5)
        ("'=1+1", -1.5)
    """
    if isinstance(value, str):
        return "'" + value if value.startswith(FORMULA_STARTS) else value
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


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
    widths = [max(columns_wide(line[i]) for line in lines) for i in range(len(names))]
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
    fill = " " * (width - columns_wide(text))
    return fill + text if to_right else text + fill


def _fitted(widths: list[int], room: int) -> list[int]:
    """Shorten the widest columns, never below eight, until they fit or nothing is left."""
    widths = [min(w, max(room, 8)) for w in widths]
    while sum(widths) > room and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    return widths
