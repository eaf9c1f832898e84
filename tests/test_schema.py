"""A column is declared once: what is on disk and what SQL gives are the declarations."""

import re
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scanner.analysis.query import connect
from scanner.records import Caption, ChunkResult, MaskRow, ScoreRow
from scanner.results import schema, tables
from scanner.results.folder import Results
from scanner.schema import Column, Kind, column, columns_of

GOLDEN = Path(__file__).parent / "golden" / "0.1.0" / "results"


class Word(StrEnum):
    ONE = "one"


@dataclass(frozen=True, slots=True)
class Row:
    caption: Caption
    count: int = column("How many", "things")
    small: int = column("How few", kind=Kind.INT32)
    word: Word | None = column("Which", default=None)
    steps: tuple[float, ...] | None = column("Each", "latent", default=None)
    note: str = "of no column"


def test_columns_are_the_declared_fields_of_a_class_in_order():
    assert columns_of(Row) == (
        Column("count", Kind.INT64, "How many", "things"),
        Column("small", Kind.INT32, "How few"),
        Column("word", Kind.TEXT, "Which", null=True),
        Column("steps", Kind.FLOAT32_LIST, "Each", "latent", null=True),
    )
    with pytest.raises(TypeError, match="missing 2 required"):
        Row(Caption("a", "b", "c"))  # pyright: ignore[reportCallIssue]


def test_an_annotation_without_a_type_for_cells_is_refused():
    @dataclass
    class Odd:
        what: dict = column("Anything")

    with pytest.raises(TypeError, match=r"Odd\.what must be of a kind"):
        columns_of(Odd)


@pytest.mark.parametrize("table", ["scores", "masks", "rejects"])
def test_files_of_an_earlier_version_have_these_columns_with_the_same_metadata(table):
    """Every column of a file of 0.1.0 is declared today, with its type and unit, and its text."""
    files = sorted(GOLDEN.rglob(f"{table}/**/*.parquet")) or sorted(GOLDEN.rglob("*.parquet"))
    found = [pq.read_schema(file) for file in files]
    found = [own for own in found if (own.metadata or {}).get(b"table") == table.encode()]
    assert found
    today = {field.name: field for field in getattr(tables, table.upper())}
    for own in found:
        for field in own:
            if field.name in today:
                now = today[field.name]
                assert field.equals(now), field.name
                assert field.metadata[b"unit"] == now.metadata[b"unit"], field.name
                if field.name != "p_kind":  # whose text says since then that tail is of old rows
                    assert field.metadata[b"doc"] == now.metadata[b"doc"], field.name
            else:
                assert (table, field.type) == ("scores", pa.float32())


def test_rows_become_cells_by_name():
    caption = Caption("a.tar", "k", "a cat", url="https://x.example/a", image_sha256="ff")
    row = ScoreRow(caption, 3, stage="localize", delta_s=1.5, p_value=0.25, extra={"wen": 2.0})
    written = tables.tables("run", ChunkResult(scores=[row]), ["wen"])["scores"]
    (cells,) = written.to_pylist()
    assert list(cells) == [*schema.SCORES.names, "wen"]
    known = {name: value for name, value in cells.items() if value is not None}
    assert known == {
        "run": "run", "shard": "a.tar", "key": "k", "caption": "a cat",
        "caption_sha256": caption.sha256, "image_sha256": "ff", "url": "https://x.example/a",
        "seed": 3, "stage": "localize", "delta_s": 1.5, "p_value": 0.25, "wen": 2.0,
    }  # fmt: skip
    with pytest.raises(TypeError, match="positional"):
        ScoreRow(caption, 3, "localize", 1.5)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="positional"):
        MaskRow(caption, 3, "delta_h", "null")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("view", schema.VIEWS)
def test_a_view_has_the_declared_columns_of_the_declared_types(view):
    with closing(connect(Results(str(GOLDEN)))) as con:
        found = {row[0]: row[1] for row in con.execute(f"DESCRIBE {view}").fetchall()}
        rows = con.execute(f"SELECT * FROM {view}").fetchall()
    declared = {c.name: c.kind.value for c in schema.VIEWS[view].columns}
    extra = found.keys() - declared.keys()
    assert not extra or view == "scores"
    assert all(found[name] == "FLOAT" for name in extra)
    assert {name: found[name] for name in declared} == declared
    if view not in ("retrieved", "confirmed"):
        assert rows
    nullable = {c.name for c in schema.VIEWS[view].columns if c.null} | extra
    for row in rows:
        null = {name for name, cell in zip(found, row, strict=True) if cell is None}
        assert null <= nullable, null - nullable


def test_the_declarations_need_no_heavy_library():
    import subprocess
    import sys

    code = (
        "import sys; import scanner.results.schema; "
        "print(sorted({'torch', 'duckdb', 'pyarrow', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_view_has_its_place_in_the_page():
    page = (Path(__file__).parents[1] / "docs" / "schema.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", page, re.M) == list(schema.VIEWS)
