"""Pages of a run's captions, cut behind or before a row that an address names.

A page is found by the values of that row and not by counting rows from the top, so the last page
costs what the first one does, and rows that a scan adds meanwhile move nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from scanner.serve.filters import Filter, Known, condition
from scanner.serve.listing import Listing

ROWS = 50
COLUMNS = (
    "id", "caption", "image_sha256", "of_image", "copies", "seeds", "worst", "delta_s",
    "p_value", "flagged", "shard", "key", "maps", "match", "match_mse", "area", "tightness",
    "state", "severity",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a filter.

    Attributes:
        rows: Each by the names of `COLUMNS`, and ``sorted`` with what it is sorted by.
        total: Rows of the whole filter.
        before: How many of them come before these.
    """

    rows: list[dict[str, Any]]
    total: int
    before: int

    @property
    def previous(self) -> str:
        """Identity of the row that the previous page ends before; empty on the first page."""
        return self.rows[0]["id"] if self.rows and self.before else ""

    @property
    def next(self) -> str:
        """Identity of the row that the next page begins after; empty on the last page."""
        is_last = self.before + len(self.rows) >= self.total
        return "" if is_last or not self.rows else self.rows[-1]["id"]


class Order:
    """The order of a filter as SQL.

    Args:
        asked: The filter.
        found: The run's captions.

    Raises:
        ConfigError: If there is no such column.
    """

    def __init__(self, asked: Filter, found: Listing) -> None:
        self.column, self.direction = asked.sorting(found.further)
        self._is_down = bool(asked.order) and not self.column

    def by(self, *, backwards: bool = False) -> str:
        """Return what follows ORDER BY."""
        down = self._is_down != backwards
        rank = f"n {'DESC' if down else 'ASC'}"
        if not self.column:
            return rank
        rank = f"n {'DESC' if backwards else 'ASC'}"
        turned = {"ASC": "DESC", "DESC": "ASC"}[self.direction]
        direction, nulls = (turned, "FIRST") if backwards else (self.direction, "LAST")
        return f"{self.column} {direction} NULLS {nulls}, {rank}"

    def at(self, con: duckdb.DuckDBPyConnection, id: str) -> dict[str, Any] | None:
        """Return the place of a row, as parameters; null if there is no such row."""
        column = self.column or "NULL"
        rows = con.execute(
            f"SELECT n, {column} FROM listed WHERE id = $1 LIMIT 1",  # noqa: S608 - quoted
            [id],
        ).fetchall()
        if not rows:
            return None
        number, value = rows[0]
        return {"at": number} if value is None else {"at": number, "value": value}

    def behind(self, place: Mapping[str, Any], *, backwards: bool = False) -> str:
        """Return the condition of the rows that come behind a place, or before it."""
        if not self.column:
            return f"n {'<' if self._is_down != backwards else '>'} $at"
        rank = f"n {'<' if backwards else '>'} $at"
        if "value" not in place:
            null = f"({self.column} IS NULL AND {rank})"
            return f"({self.column} IS NOT NULL OR {null})" if backwards else null
        sign = ">" if (self.direction == "ASC") != backwards else "<"
        end = "" if backwards else f" OR {self.column} IS NULL"
        return f"({self.column} {sign} $value{end} OR ({self.column} = $value AND {rank}))"


def page(
    found: Listing, asked: Filter, known: Known, *, after: str = "", before: str = "",
    rows: int = ROWS,
) -> Page:  # fmt: skip
    """Return the rows that follow one, or that come before one.

    Args:
        found: The run's captions.
        asked: The filter.
        known: What people said.
        after: Identity of the row that they follow; empty for the first ones.
        before: Identity of the row that they come before, where ``after`` is empty.
        rows: How many at most.

    Raises:
        ConfigError: If the filter names no column.
        ResultsError: If the results cannot be read.
    """
    order, backwards = Order(asked, found), bool(before) and not after
    where, values = condition(asked, known)
    with found.cursor() as con:
        place = order.at(con, after or before) if after or before else None
        behind = order.behind(place, backwards=backwards) if place else "true"
        backwards = backwards and place is not None
        names = ", ".join((*COLUMNS, f"{order.column or 'NULL'} AS sorted"))
        # Counting tells where the rows lie, which spares the second look most of the table.
        total, rest, first, last = con.execute(
            f"SELECT count(*), count(*) FILTER ({behind}), min(n), max(n) "  # noqa: S608
            f"FROM listed WHERE {where}",
            values | (place or {}),
        ).fetchall()[0]
        near = f"n BETWEEN {first} AND {last}" if total else "false"
        cursor = con.execute(
            f"SELECT {names} FROM listed WHERE {near} AND {where} AND {behind} "  # noqa: S608 - quoted
            f"ORDER BY {order.by(backwards=backwards)} LIMIT {int(rows)}",
            values | (place or {}),
        )
        keys = [column[0] for column in cursor.description or []]
        listed = [dict(zip(keys, row, strict=True)) for row in cursor.fetchall()]
    if backwards:
        return Page(listed[::-1], total, rest - len(listed))
    return Page(listed, total, total - rest)


def beside(found: Listing, asked: Filter, known: Known, id: str) -> tuple[str, str, int, int]:
    """Return what stands before and behind a row under a filter, its number from 1, and the total.

    Identities are empty, and the number is 0, where there is none.

    Raises:
        ConfigError: If the filter names no column.
        ResultsError: If the results cannot be read.
    """
    later = page(found, asked, known, after=id, rows=1)
    earlier = page(found, asked, known, before=id, rows=1)
    where, values = condition(asked, known)
    with found.cursor() as con:
        held = con.execute(
            f"SELECT 1 FROM listed WHERE id = $id AND {where}",  # noqa: S608 - quoted
            values | {"id": id},
        ).fetchall()
    first = earlier.rows[0]["id"] if earlier.rows else ""
    last = later.rows[0]["id"] if later.rows else ""
    return first, last, later.before if held else 0, later.total
