"""Declaration of a table's columns: name, type, unit and meaning, once.

A record class declares its columns with `column`; `columns_of` reads them. Arrow schemas, SQL and
docs/schema.md are made from the declarations (`scanner.results.schema` has the tables).
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints


class Kind(Enum):
    """The type of a column's cells; the value is DuckDB's name for it."""

    TEXT = "VARCHAR"
    INT64 = "BIGINT"
    INT32 = "INTEGER"
    FLOAT64 = "DOUBLE"
    FLOAT32 = "FLOAT"
    BOOL = "BOOLEAN"
    BYTES = "BLOB"
    INT32_LIST = "INTEGER[]"
    FLOAT32_LIST = "FLOAT[]"


_OF_ANNOTATIONS: Mapping[Any, Kind] = {
    str: Kind.TEXT, int: Kind.INT64, float: Kind.FLOAT64, bool: Kind.BOOL, bytes: Kind.BYTES,
    list[int]: Kind.INT32_LIST, tuple[float, ...]: Kind.FLOAT32_LIST,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or a view.

    Attributes:
        name: Its name.
        kind: The type of its cells.
        doc: What a cell means.
        unit: Of numbers; ``""`` without one.
        null: Whether a cell may be null.
    """

    name: str
    kind: Kind
    doc: str
    unit: str = ""
    null: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table or a view.

    Attributes:
        name: Its name.
        row: What a row is.
        columns: In order.
    """

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    def without(self, *names: str) -> tuple[Column, ...]:
        """Return the columns but for some."""
        return tuple(column for column in self.columns if column.name not in names)


@dataclass(frozen=True, slots=True)
class _Declared:
    doc: str
    unit: str
    kind: Kind | None


def column(
    doc: str, unit: str = "", *, kind: Kind | None = None, default: Any = MISSING
) -> Any:  # a dataclass field, which type checkers take for its annotation
    """Declare a field of a record class as a column.

    Args:
        doc: What a cell means.
        unit: Of numbers.
        kind: The type of its cells, where the annotation's usual one is too wide.
        default: The field's default.
    """
    return field(default=default, metadata={"column": _Declared(doc, unit, kind)})


def columns_of(record: type) -> tuple[Column, ...]:
    """Return the columns that a record class declares, in order.

    Raises:
        TypeError: If a column's annotation has no type for its cells.
    """
    hints, found = get_type_hints(record), list[Column]()
    for each in fields(record):
        declared = each.metadata.get("column")
        if declared is None:
            continue
        hint, null = _without_none(hints[each.name])
        kind = declared.kind or _kind(hint)
        if kind is None:
            raise TypeError(f"{record.__name__}.{each.name} must be of a kind, got {hint}")
        found.append(Column(each.name, kind, declared.doc, declared.unit, null))
    return tuple(found)


def _kind(hint: Any) -> Kind | None:
    if hint in _OF_ANNOTATIONS:
        return _OF_ANNOTATIONS[hint]
    return Kind.TEXT if isinstance(hint, type) and issubclass(hint, str) else None


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return an annotation without ``None``, and whether it had it."""
    if get_origin(hint) is not UnionType or NoneType not in get_args(hint):
        return hint, False
    (own,) = (part for part in get_args(hint) if part is not NoneType)
    return own, True
