"""Random tables through every output format of `memscan query` and back: how many cells differ.

Columns are of every type that DuckDB has, values from the whole of each type: text of any
characters, numbers that are not finite, dates at infinity, nested lists. What Python's csv and json
modules, DuckDB and pyarrow read is compared with what DuckDB itself says of the table.

    python benchmarks/formats.py --tables 10000
"""

import argparse
import csv
import json
import math
import random
import sys
import tempfile
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from scanner.analysis.output import execute, write_parquet, write_text

Table = list[tuple[Any, ...]]
AWKWARD = (
    [chr(n) for n in range(0xA1)]
    + list('",;\'=+-@#|\\ˋ＝') + ["\u2028", "\u2029", "\u202e", "\u2066", "\u200d", "\ufeff"]
    + ["\ufffe", "\ue000", "\U000e0041", "\U0001f468", "é", "漢", "\u0301", "\u3000", "\r\n"]
)  # fmt: skip
FLOATS = ("nan", "inf", "-inf", "-0.0", "5e-324", "1.7976931348623157e308", "0.1")


def text(luck: random.Random) -> str:
    """Return up to a dozen characters, awkward ones as often as any others."""

    def one() -> str:
        while True:
            found = luck.choice(AWKWARD) if luck.random() < 0.6 else chr(luck.randrange(0x110000))
            if not "\ud800" <= found[0] <= "\udfff":  # DuckDB holds UTF-8
                return found

    return "".join(one() for _ in range(luck.choice((0, 1, 2, 12))))


def stamp(luck: random.Random) -> str:
    if luck.random() < 0.1:
        return luck.choice(("infinity", "-infinity"))
    year = luck.choice((1, 1677, 1970, 2026, 9999, 12000))
    day = f"{year:04}-{luck.randint(1, 12):02}-{luck.randint(1, 28):02}"
    return f"{day} {luck.randrange(24):02}:{luck.randrange(60):02}:00.{luck.randrange(10**6):06}"


def whole(bits: int, low: bool = True) -> Callable[[random.Random], str]:
    ends = (-(2 ** (bits - 1)) if low else 0, 2 ** (bits - low) - 1)
    return lambda luck: str(luck.choice((*ends, 0, luck.randint(*ends))))


def interval(luck: random.Random) -> str:
    return f"{luck.randint(-99, 99)} months {luck.randint(-99, 99)} days {luck.randrange(10**9)} us"


SCALARS: dict[str, Callable[[random.Random], Any]] = {
    "VARCHAR": text,
    "BLOB": lambda luck: luck.randbytes(luck.choice((0, 1, 40))),
    "BOOLEAN": lambda luck: luck.choice((True, False)),
    "TINYINT": whole(8), "INTEGER": whole(32), "BIGINT": whole(64), "HUGEINT": whole(120),
    "UBIGINT": whole(64, low=False),
    "FLOAT": lambda luck: luck.choice(("nan", "inf", "-inf", "0.1", "1e-45")),
    "DOUBLE": lambda luck: luck.choice((*FLOATS, repr(luck.gauss(0, 1e6)))),
    "DECIMAL(38,10)": lambda luck: f"{luck.randint(-(10**27), 10**27)}.{luck.randrange(10**10)}",
    "DATE": lambda luck: stamp(luck).split()[0],
    "TIME": lambda luck: luck.choice(("24:00:00", "00:00:00.000001", "23:59:59.5")),
    "TIMETZ": lambda luck: luck.choice(("12:00:00+02", "00:00:00.5-15:59:59")),
    "TIMESTAMP": stamp, "TIMESTAMPTZ": lambda luck: stamp(luck),
    "TIMESTAMP_NS": lambda luck: f"2026-01-01 00:00:00.{luck.randrange(10**9):09}",
    "INTERVAL": interval,
    "UUID": lambda luck: f"{luck.getrandbits(128):032x}",
    "BIT": lambda luck: f"{luck.getrandbits(9):b}",
}  # fmt: skip
KINDS = [*SCALARS, *(f"{kind}[]" for kind in SCALARS), "VARCHAR[][]", "TIMESTAMPTZ[][]",
         'STRUCT("a b" VARCHAR, t TIMESTAMPTZ, n DOUBLE[])', "MAP(VARCHAR, BLOB)"]  # fmt: skip


def value(kind: str, luck: random.Random) -> Any:
    """Return a value, or null, as DuckDB takes it for a parameter."""
    if luck.random() < 0.15:
        return None
    if kind.endswith("[]"):
        return [value(kind[:-2], luck) for _ in range(luck.randrange(4))]
    if kind.startswith("STRUCT"):
        return {"a b": text(luck), "t": stamp(luck), "n": value("DOUBLE[]", luck)}
    if kind.startswith("MAP"):
        keys = list({text(luck) for _ in range(luck.randrange(3))})
        return {"key": keys, "value": [luck.randbytes(3) for _ in keys]}
    return SCALARS[kind](luck)


def made(con: duckdb.DuckDBPyConnection, luck: random.Random) -> list[str]:
    """Fill the table ``t`` and return the types of its columns."""
    kinds = [luck.choice(KINDS) for _ in range(luck.randint(1, 5))]
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(kinds))
    con.execute(f"CREATE OR REPLACE TABLE t ({columns})")
    rows = luck.randrange(6)
    if rows:
        row = ", ".join(f"CAST(? AS {kind})" for kind in kinds)
        cells = [value(kind, luck) for _ in range(rows) for kind in kinds]
        con.execute(f"INSERT INTO t VALUES {', '.join([f'({row})'] * rows)}", cells)
    return kinds


def truth(con: duckdb.DuckDBPyConnection, kinds: list[str]) -> Table:
    """Return the rows of ``t``: numbers, texts and bytes as such, what is of time as its text."""

    def asked(name: str, kind: str) -> str:
        if kind.endswith("[]"):
            return f"[{asked('x', kind[:-2])} FOR x IN {name}]"
        if kind.startswith("STRUCT"):
            return (f"CASE WHEN {name} IS NOT NULL THEN {{'a b': {name}.\"a b\", "
                    f"'t': CAST({name}.t AS VARCHAR), 'n': {name}.n}} END")  # fmt: skip
        timed = kind.startswith(("DATE", "TIME", "INTERVAL", "UUID"))
        return f"CAST({name} AS VARCHAR)" if timed else name

    chosen = ", ".join(asked(f"c{n}", kind) for n, kind in enumerate(kinds))
    return con.execute(f"SELECT {chosen} FROM t").fetchall()


def same(read: Any, real: Any, number: Callable[[str], Any] = float) -> bool:
    """Return whether what was read from a text stands for a real cell."""
    if isinstance(real, bytes):
        return isinstance(read, str) and b64decode(read, validate=True) == real
    if isinstance(real, float):
        found = number(read)
        return found == real or (math.isnan(found) and math.isnan(real))
    if isinstance(real, list | tuple):
        pairs = zip(read, real, strict=True) if isinstance(read, list) else ()
        return isinstance(read, list) and all(same(a, b, number) for a, b in pairs)
    if isinstance(real, dict):
        is_object = isinstance(read, dict) and read.keys() == real.keys()
        return is_object and all(same(read[name], real[name], number) for name in real)
    if isinstance(real, bool) or real is None or isinstance(real, str):
        return read is real or (isinstance(real, str) and read == real)
    return type(real)(read) == real  # a whole number or a decimal


def same_cell(read: str | None, real: Any) -> bool:
    """Return whether a cell of CSV stands for a real cell."""
    if real is None or read is None:
        return read is real
    if isinstance(real, bool):
        return read == ("true" if real else "false")
    if isinstance(real, list | tuple | dict):
        return same(json.loads(read, parse_float=str), real)
    return same(read, real)


def of_csv(path: Path, real: Table) -> list[bool]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))[1:]
    # To this reader null and an empty text are the same.
    return _cells(rows, real, lambda a, b: a == "" if b is None else same_cell(a, b))


def of_csv_by_duckdb(con: duckdb.DuckDBPyConnection, path: Path, real: Table) -> list[bool]:
    rows = con.execute(
        f"FROM read_csv('{path}', header = true, all_varchar = true, delim = ',', quote = '\"', "
        "escape = '\"', nullstr = '', allow_quoted_nulls = false)"
    ).fetchall()
    alone = bool(real) and len(real[0]) == 1  # an empty line would be passed over
    return _cells(rows, real, lambda a, b: same_cell(None if alone and b is None else a, b))


def of_json(path: Path, real: Table) -> list[bool]:
    rows = json.loads(path.read_text("utf-8"), parse_float=str)
    return _cells([list(row.values()) for row in rows], real, same)


def of_json_by_duckdb(con: duckdb.DuckDBPyConnection, path: Path, real: Table) -> list[bool]:
    if not real:
        return []
    columns = ", ".join(f"c{n}: 'JSON'" for n in range(len(real[0])))
    rows = con.execute(
        f"FROM read_json('{path}', format = 'array', columns = {{{columns}}})"
    ).fetchall()
    read = [[None if c is None else json.loads(c, parse_float=str) for c in row] for row in rows]
    return _cells(read, real, same)


def of_parquet(con: duckdb.DuckDBPyConnection, path: Path, kinds: list[str]) -> list[bool]:
    """Compare by DuckDB, each column as its own type."""
    back = ", ".join(f"CAST(c{n} AS {kind}) AS c{n}" for n, kind in enumerate(kinds))
    same = ", ".join(f"a.c{n} IS NOT DISTINCT FROM b.c{n}" for n in range(len(kinds)))
    rows = con.execute(
        f"SELECT {same} FROM (SELECT *, row_number() OVER () AS r FROM t) AS a FULL JOIN "
        f"(SELECT {back}, row_number() OVER () AS r FROM '{path}') AS b ON a.r = b.r"
    ).fetchall()
    return [cell for row in rows for cell in row]


def _cells(read: list[Any], real: Table, equal: Callable[[Any, Any], bool]) -> list[bool]:
    if len(read) != len(real):
        return [False]
    return [equal(a, b) for one, other in zip(read, real, strict=True)
            for a, b in zip(one, other, strict=True)]  # fmt: skip


def harmless(path: Path) -> bool:
    """Return whether a JSON file holds no character that steers a terminal."""
    content = path.read_text("utf-8")
    return all(char.isprintable() or char in "\n\xa0\u3000" for char in content)


def round_trips(seed: int, tables: int, folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Return cells and differences by reader, of so many random tables."""
    luck, cells, wrong = random.Random(seed), Counter[str](), Counter[str]()
    con = duckdb.connect(config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    for number in range(1, tables + 1):
        kinds = made(con, luck)
        real = truth(con, kinds)
        for fmt in ("csv", "json"):
            with (folder / f"t.{fmt}").open("w", encoding="utf-8", newline="") as out:
                execute(con, "SELECT * FROM t")
                write_text(con, fmt, out)
        write_parquet(con, "SELECT * FROM t", folder / "t.parquet", None)
        found = {
            "csv, Python": of_csv(folder / "t.csv", real),
            "csv, DuckDB": of_csv_by_duckdb(con, folder / "t.csv", real),
            "json, Python": of_json(folder / "t.json", real),
            "json, DuckDB": of_json_by_duckdb(con, folder / "t.json", real),
            "json, harmless": [harmless(folder / "t.json")],
            "parquet, DuckDB": of_parquet(con, folder / "t.parquet", kinds),
            "parquet, pyarrow": [pq.read_metadata(folder / "t.parquet").num_rows == len(real)],
        }  # fmt: skip
        for reader, each in found.items():
            cells[reader] += len(each)
            wrong[reader] += each.count(False)
        if number % 100 == 0:
            print(f"{number} tables: {wrong.total()} of {cells.total()} differ", file=sys.stderr)
    return cells, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells, wrong = round_trips(options.seed, options.tables, Path(folder))
    print(f"{options.tables} tables, seed {options.seed}")
    for reader, number in cells.items():
        print(f"{reader:<20}{number:>10} compared{wrong[reader]:>8} differ")
    sys.exit(1 if wrong.total() else 0)


if __name__ == "__main__":
    main()
