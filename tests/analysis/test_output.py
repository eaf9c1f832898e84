"""Formats for programs read back to the very rows; what is for people steers no terminal."""

import csv
import io
import json
import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_results import commit, score

from scanner.analysis.output import write_csv, write_json
from scanner.analysis.query import connect
from scanner.cli.events import line
from scanner.engine.job import Event
from scanner.nightly.removal import write_removal
from scanner.records import caption_hash
from scanner.text import printable, spreadsheet_cell, visible

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import formats

STEERS = "\r\x1b\x07\x08\x7f\x84\x9b\u2028\u2029\u202e\u2066\u200f\ufeff\U000e0041"
TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(STEERS + "\n\t\",;'=+-@#\\\0"),
    max_size=12,
)
CELLS = st.none() | TEXT | st.integers() | st.floats() | st.booleans() | st.lists(TEXT, max_size=3)
QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def steers(text: str) -> bool:
    """Whether a terminal would do something else than show it."""
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return any(unicodedata.category(char) in hidden for char in text.replace("\n", ""))


@QUICK
@given(rows=st.lists(st.tuples(CELLS, TEXT), max_size=4))
def test_csv_reads_back_with_python_and_duckdb(tmp_path: Path, rows: list[tuple]) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as out:
        assert write_csv(["a", "b"], rows, out) == len(rows)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.reader(stream))[1:]
    assert [row[1] for row in read] == [row[1] for row in rows]
    assert all(formats.same_cell(a or None, b) for (a, _), (b, _) in zip(read, rows, strict=True)
               if b != "")  # fmt: skip
    with closing(duckdb.connect()) as con:
        assert all(formats.of_csv_by_duckdb(con, tmp_path / "a.csv", rows))


@QUICK
@given(rows=st.lists(st.tuples(CELLS, TEXT), max_size=4), name=TEXT)
def test_json_reads_back_and_steers_no_terminal(rows: list[tuple], name: str) -> None:
    write_json([name, name + "2"], rows, out := io.StringIO())
    assert not steers(out.getvalue())
    read = [tuple(row.values()) for row in json.loads(out.getvalue(), parse_float=str)]
    assert all(formats._cells(read, rows, formats.same))
    assert all(set(row) == {name, name + "2"} for row in json.loads(out.getvalue()))


def test_random_tables_come_back_through_every_format(tmp_path: Path) -> None:
    cells, wrong = formats.round_trips(7, 25, tmp_path)
    assert all(cells.values())
    assert wrong.total() == 0


@QUICK
@given(text=st.text(st.characters() | st.sampled_from(STEERS)))
def test_what_is_for_people_steers_no_terminal(text: str) -> None:
    for shown in (visible(text), visible(text, keep="\n"), printable(text), spreadsheet_cell(text)):
        assert not steers(shown)
    assert "\n" not in visible(text) + printable(text)
    assert not spreadsheet_cell(text).lstrip().startswith(tuple("=+-@＝＋－＠"))


@settings(QUICK, max_examples=15)
@given(texts=st.lists(TEXT.filter(str.strip), min_size=1, max_size=4, unique=True))
def test_the_removal_list_holds_the_very_keys(make, tmp_path: Path, texts: list[str]) -> None:
    results = make(f"r{len(list(tmp_path.iterdir()))}", ("r1",))
    commit(results, "r1", [score(t, 5.0, key=t, shard=f"s3://b/{t}.tar", flagged=True)
                           for t in texts])  # fmt: skip
    rows = [{"finding": caption_hash(t), "sha": caption_hash(t), "image": None, "severity": "low",
             "state": "new", "match": None, "p_value": 0.01, "delta_s": 5.0, "copies": 1,
             "muted": None} for t in texts]  # fmt: skip
    with closing(connect(results)) as con:
        assert write_removal(con, rows, tmp_path, redact=False) == len(texts)
    expected = [(f"s3://b/{t}.tar", t, t) for t in texts]
    with (tmp_path / "removal.csv").open(encoding="utf-8", newline="") as stream:
        read = [(r["shard"], r["key"], r["caption"]) for r in csv.DictReader(stream)]
    stored = duckdb.read_parquet(str(tmp_path / "removal.parquet")).fetchall()
    safe = (tmp_path / "removal-spreadsheet.csv").read_text("utf-8")
    assert read == expected
    assert [(r[0], r[1], r[4]) for r in stored] == expected
    assert not steers(safe)


@QUICK
@given(text=st.text(st.characters() | st.sampled_from(STEERS), max_size=12))
def test_an_event_is_one_line_that_reads_back(text: str) -> None:
    content = line(Event("problem", 1, 1, 0, 0, text, "r", shard=text))
    assert content.endswith(b"\n")
    assert not steers(content.decode("ascii"))
    read = json.loads(content)
    assert (read["shard"], read["text"]) == (text, text)
    assert len(content.splitlines()) == 1
