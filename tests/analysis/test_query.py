import base64
import csv
import io
import json
import os
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import numpy as np
import pytest
from made_results import commit, mask, score

from scanner.analysis import query
from scanner.analysis.findings import findings
from scanner.analysis.query import connect, run_query, statement
from scanner.errors import ConfigError, ResultsError
from scanner.records import Reject, caption_hash
from scanner.results import manifest
from scanner.results.folder import Results

MAP = np.arange(16.0).reshape(4, 4)


@pytest.fixture
def results(make) -> Results:
    results = make("it's [a] 'folder'", ("r1", "r2"))
    scores = [
        score("a red rug", 5.0, seed=0, flagged=True, p_value=0.01),
        score("a red rug", 7.0, seed=1, flagged=True, p_value=0.01),
        score("a red rug", 5.0, seed=0, key="again", flagged=True, p_value=0.01),
        score("a red rug", 7.0, seed=1, key="again", flagged=True, p_value=0.01),
        score("a frame", 9.0, flagged=True),
        score("=cmd|'/C calc'!A0", 1.0, key="@x", flagged=False),
    ]
    masks = [mask("a red rug", MAP, seed=1, threshold=8.0), mask("a frame", MAP)]
    commit(results, "r1", scores, masks, [Reject("a.tar", "bad", "no_caption", "nothing")])
    commit(results, "r2", [score("later", 2.0, flagged=False, extra={"wen": 3.0})])
    return results


@pytest.fixture
def con(results):
    with closing(connect(results)) as con:
        yield con


def test_views_hold_every_run_and_missing_columns_are_null(con) -> None:
    rows = con.execute("SELECT run, count(*), max(wen) FROM scores GROUP BY run ORDER BY run")
    assert rows.fetchall() == [("r1", 6, None), ("r2", 1, 3.0)]
    assert con.execute("SELECT reason FROM rejects").fetchall() == [("no_caption",)]
    runs = con.execute("SELECT run, started, model, record->>'$.spec.steps' FROM runs ORDER BY run")
    first = ("r1", "2026-01-01T00:00:00+00:00", "0123456789ab", "50")
    assert runs.fetchall()[0] == first


def test_one_run_can_be_chosen_and_an_unknown_one_is_named(results) -> None:
    with closing(connect(results, runs=["r2"])) as con:
        assert con.execute("SELECT DISTINCT run FROM scores").fetchall() == [("r2",)]
        assert con.execute("SELECT count(*) FROM masks").fetchall() == [(0,)]
        assert con.execute("SELECT run FROM runs").fetchall() == [("r2",)]
    with pytest.raises(ConfigError, match=r"no run r9 in .*; there are: .*r1"):
        connect(results, runs=["r9"])


def test_captions_count_occurrences_once_per_sample(con) -> None:
    row = con.execute(
        "SELECT occurrences, seeds, worst, delta_s, p_value, flagged FROM captions "
        "WHERE caption = 'a red rug'"
    ).fetchall()
    assert row == [(2, 2, 7.0, 6.0, 0.01, True)]


def test_a_finding_is_one_row_with_its_strongest_map_worst_first(con) -> None:
    rows = con.execute("SELECT caption, occurrences, maps, seed, metric, area FROM findings")
    assert rows.fetchall() == [
        ("a red rug", 2, 1, 1, "delta_h", 7 / 16), ("a frame", 1, 1, 0, "delta_h", None),
    ]  # fmt: skip


def test_the_maps_of_a_finding_are_a_view_of_their_own(make) -> None:
    results = make("maps")
    metrics = [
        ("curvature", "none"),
        ("delta_s", "null"),
        ("delta_h", "null"),
        ("delta_h", "early"),
    ]
    masks = [
        mask("a rug", MAP, seed=seed, metric=metric, baseline=baseline, threshold=8.0)
        for seed in (1, 0) for metric, baseline in metrics
    ]  # fmt: skip
    clear = mask("clear", MAP, threshold=8.0)
    scores = [score("a rug", 5.0, seed=seed, flagged=True) for seed in (0, 1)]
    commit(results, "r1", [*scores, score("clear", 1.0, flagged=False)], [*masks, clear])
    with closing(connect(results)) as con:
        rows = con.execute("SELECT caption, maps, seed, metric, baseline FROM findings").fetchall()
        assert rows == [("a rug", 8, 0, "delta_h", "null")]
        rows = con.execute("SELECT DISTINCT caption, seed, metric, baseline FROM finding_maps")
        assert set(rows.fetchall()) == {("a rug", s, *m) for s in (0, 1) for m in metrics}
        (found,) = findings(con)
        assert (found.copies, found.seed, found.area) == (1, 0, 7 / 16)


def test_findings_of_images_are_rows_of_their_own_as_in_the_report(make) -> None:
    results = make("images")
    rows = [score("a rug", x, key=f"k{x}", flagged=True, p_value=x / 100) for x in (5.0, 7.0)]
    rows = [
        replace(row, caption=replace(row.caption, image_sha256=row.caption.key[1] * 64))
        for row in rows
    ]
    commit(results, "r1", [*rows, score("a frame", 9.0, flagged=True, p_value=0.06)])
    with closing(connect(results)) as con:
        sql = "SELECT caption, image_sha256, key, occurrences FROM findings"
        view = con.execute(sql).fetchall()
        found = findings(con)
    assert view == [
        ("a rug", "5" * 64, "k5.0", 1), ("a frame", None, "a_frame", 1),
        ("a rug", "7" * 64, "k7.0", 1),
    ]  # fmt: skip
    assert [(f.caption, f.image_sha256, f.key, f.copies) for f in found] == view


def test_a_further_file_that_is_not_there_is_refused(results, tmp_path) -> None:
    for path, why in ((tmp_path / "none.parquet", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=rf"{path} cannot be read: {why}"):
            run_query(results, "SELECT 1", "csv", io.StringIO(), also=[path])


def test_a_folder_without_rows_has_empty_views(make) -> None:
    with closing(connect(make("empty"))) as con:
        for view in ("scores", "masks", "rejects", "captions", "findings", "finding_maps"):
            assert con.execute(f"SELECT * FROM {view}").fetchall() == []
        assert con.execute("SELECT max(delta_s), bool_or(flagged) FROM scores").fetchall()


def test_a_file_that_was_never_committed_does_not_exist(results, con, tmp_path) -> None:
    there = Path(results.files("scores", ["r2"])[0])
    there.with_name("stray.parquet").write_bytes(there.read_bytes())
    with closing(connect(results)) as again:
        assert again.execute("SELECT count(*) FROM scores").fetchall() == [(7,)]


def test_a_missing_folder_and_a_broken_file_are_results_errors(results, tmp_path) -> None:
    with pytest.raises(ResultsError, match="no results in"):
        connect(Results(tmp_path / "nothing"))
    Path(results.files("scores", ["r1"])[0]).write_bytes(b"PAR1 not")
    with pytest.raises(ResultsError, match="cannot be read"):
        connect(results)


WRITES = [
    "COPY scores TO 'HERE/x.csv'",
    "EXPLAIN ANALYZE COPY scores TO 'HERE/x.csv'",
    "WITH x AS (COPY scores TO 'HERE/x.csv') FROM x",
    "WITH x AS (COPY (SELECT 1) TO 'DATA') SELECT 1",
    "WITH x AS MATERIALIZED (COPY scores TO 'DATA' (FORMAT parquet)) SELECT 1",
    "FROM (WITH x AS (COPY scores TO 'DATA') FROM x)",
    "FROM query('WITH x AS (COPY scores TO ''HERE/x.csv'') FROM x')",
    "FROM json_execute_serialized_sql((SELECT '{}'))",
    "SELECT * FROM Json_Execute_Serialized_SQL('{}')",
    "WITH x AS (DELETE FROM scores RETURNING *) FROM x",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY scores TO 'HERE/x.csv'",
    "SET memory_limit = '1TB'",
    "ATTACH 'HERE/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE TABLE t AS SELECT 1",
    "CALL pragma_version()",
    "PRAGMA database_list",
    "DROP VIEW scores",
    "PREPARE p AS SELECT 1",
    "CREATE OR REPLACE MACRO f() AS 1",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("sql", WRITES)
def test_what_is_not_one_reading_select_is_refused(con, results, tmp_path, sql) -> None:
    data = results.files("scores", ["r1"])[0]
    before = Path(data).read_bytes()
    sql = sql.replace("HERE", str(tmp_path)).replace("DATA", data.replace("'", "''"))
    with pytest.raises(ConfigError, match=r"^only one SELECT is accepted"):
        statement(con, sql)
    assert Path(data).read_bytes() == before
    assert not (tmp_path / "x.csv").exists()


OUTSIDE = [
    "FROM read_text('HERE/secret.txt')",
    "FROM read_blob('/etc/passwd')",
    "FROM read_csv('HERE/secret.csv')",
    "FROM 'HERE/secret.csv'",
    "FROM read_json('HERE/secret.json')",
    "FROM read_ndjson_objects('HERE/secret.json')",
    "FROM sniff_csv('HERE/secret.csv')",
    "FROM read_parquet('HERE/other.parquet')",
    "FROM parquet_metadata('HERE/other.parquet')",
    "FROM parquet_kv_metadata('HERE/other.parquet')",
    "FROM glob('HERE/*')",
    "FROM glob('ROOT/*')",
    "FROM read_text('ROOT/runs/../../secret.txt')",
    "FROM read_csv('ROOT/link.csv')",
    "FROM read_text('ROOT/runs/r1.json')",
    "FROM 'https://example.com/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "FROM secret_frame",
    "FROM query('COPY scores TO ''HERE/x.csv''')",
    "FROM enable_logging('x')",
    "EXPORT DATABASE 'HERE/dump'",
    "FROM sqlite_scan('HERE/x.db', 't')",
    "FROM read_duckdb('HERE/x.db')",
]


@pytest.mark.parametrize("sql", OUTSIDE)
def test_a_select_reaches_nothing_but_the_committed_files(results, tmp_path, sql) -> None:
    for name, text in (("secret.txt", "s"), ("secret.csv", "a\n1\n"), ("secret.json", '{"a":1}')):
        (tmp_path / name).write_text(text)
    duckdb.sql("SELECT 1 AS a").write_parquet(str(tmp_path / "other.parquet"))
    root = Path(results.root)
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    secret_frame = duckdb.sql("SELECT 1 AS a").to_arrow_table()  # noqa: F841
    sql = sql.replace("HERE", str(tmp_path)).replace("ROOT", str(root).replace("'", "''"))
    with pytest.raises(ConfigError):
        run_query(results, sql, "csv", io.StringIO())
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "FROM scores", "WITH a AS (SELECT 1 AS x) FROM a", "DESCRIBE scores",
     "SUMMARIZE scores", "VALUES (1)", "SHOW TABLES", "SELECT 1 UNION ALL SELECT 2;",
     "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) FROM t",
     "SELECT list_sum(list_filter(mask, lambda x, i: i % 2 = 0)) FROM masks",
     "SELECT 'COPY_QUERY_NODE', 'query'"],
)  # fmt: skip
def test_every_way_to_read_is_accepted(results, sql) -> None:
    assert run_query(results, sql, "json", io.StringIO()) > 0


def test_the_configuration_is_locked(con) -> None:
    with pytest.raises(duckdb.Error, match="locked"):
        con.execute("SET enable_external_access = true")


def test_an_error_in_the_query_is_told_in_the_words_of_duckdb(results) -> None:
    with pytest.raises(ConfigError, match=r"(?s)Binder Error.*delta_x.*delta_s"):
        run_query(results, "SELECT delta_x FROM scores", "table", io.StringIO())
    with pytest.raises(ConfigError, match="Parser Error: syntax error"):
        run_query(results, "SELEC 1", "table", io.StringIO())


def test_a_query_that_takes_too_long_is_stopped(results) -> None:
    slow = "SELECT count(*) FROM range(1000000) a, range(10000000) b WHERE hash(a, b) = 1"
    with pytest.raises(ConfigError, match="INTERRUPT"):
        run_query(results, slow, "csv", io.StringIO(), timeout_s=0.2)


@pytest.mark.parametrize(
    "sql",
    ["SELECT count(*) FROM range(1000000) a, range(10000000) b WHERE hash(a, b) = 1",
     "FROM range(100000000)"],
)  # fmt: skip
@pytest.mark.parametrize("fmt", ["table", "parquet"])
def test_ctrl_c_ends_a_query_at_work(results, tmp_path, monkeypatch, sql, fmt) -> None:
    timer = Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    parsed = query.statement

    def begun(*given: Any) -> Any:
        found = parsed(*given)
        timer.start()
        return found

    monkeypatch.setattr(query, "statement", begun)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_query(results, sql, fmt, io.StringIO(), path=tmp_path / "a.parquet")
    finally:
        timer.join()
    assert not list(tmp_path.glob("*parquet*"))


def test_a_table_hides_control_characters_and_fits_the_terminal(results) -> None:
    out = io.StringIO()
    sql = "SELECT 'a' || chr(27) || '[2J' || chr(8238) || repeat('x', 200) AS t, 1.5 AS n"
    assert run_query(results, sql, "table", out, width=40) == 1
    text = out.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a[2Jxxx" in text
    assert max(map(len, text.splitlines())) <= 40


def test_a_table_says_that_rows_were_left_out(results) -> None:
    out = io.StringIO()
    assert run_query(results, "FROM range(5)", "table", out, limit=3) == 3
    assert "the first 3 rows; there are more" in out.getvalue()
    out = io.StringIO()
    assert run_query(results, "FROM range(3)", "table", out, limit=3) == 3
    assert "more" not in out.getvalue()


def test_csv_disarms_formulas_for_a_spreadsheet_only(results) -> None:
    sql = "SELECT caption, key, -1.5 AS n FROM scores WHERE delta_s = 1"

    def rows(cells: str) -> list[list[str]]:
        run_query(results, sql, "csv", out := io.StringIO(), cells=cells)
        return list(csv.reader(io.StringIO(out.getvalue())))

    assert rows("exact")[1] == ["=cmd|'/C calc'!A0", "@x", "-1.5"]
    assert rows("spreadsheet") == [["caption", "key", "n"], ["'=cmd|'/C calc'!A0", "'@x", "-1.5"]]
    with pytest.raises(ConfigError, match="cells for a spreadsheet are of format csv"):
        run_query(results, sql, "json", io.StringIO(), cells="spreadsheet")


def test_json_is_an_array_and_holds_what_json_has_no_type_for(results) -> None:
    out = io.StringIO()
    run_query(results, "SELECT heatmap, 'nan'::DOUBLE AS x, 1 AS x FROM masks", "json", out)
    rows = json.loads(out.getvalue())
    assert len(base64.b64decode(rows[0].pop("heatmap"))) == 32
    assert rows[0] == {"x": "NaN", "x_2": 1}
    out = io.StringIO()
    assert run_query(results, "FROM masks WHERE false", "json", out) == 0
    assert json.loads(out.getvalue()) == []


@pytest.mark.parametrize("fmt", ["table", "csv", "json"])
def test_times_with_a_zone_are_written_in_utc(results, fmt) -> None:
    out = io.StringIO()
    sql = """SELECT '2026-01-01 12:00:00+02'::TIMESTAMPTZ AS a, [a] AS b, {'c': a} AS d,
             row(a) AS e, interval '1 month' AS f -- and a comment;
             ; -- and another"""
    assert run_query(results, sql, fmt, out) == 1
    assert out.getvalue().count("2026-01-01 10:00:00+00") == 4
    assert "1 month" in out.getvalue()


def test_parquet_keeps_types_and_bytes(results, tmp_path) -> None:
    path = tmp_path / "out.parquet"
    assert run_query(results, "FROM masks ORDER BY seed", "parquet", path=path) == 2
    rows = duckdb.sql(f"SELECT caption_sha256, heatmap, mask FROM '{path}'").fetchall()
    assert rows[1][0] == caption_hash("a red rug")
    assert len(rows[0][1]) == 32
    assert rows[0][2] is None
    assert list(tmp_path.glob("*.partial")) == []


def test_a_failed_query_leaves_no_file(results, tmp_path) -> None:
    path = tmp_path / "out.parquet"
    with pytest.raises(ConfigError):
        run_query(results, "SELECT error('no') FROM masks", "parquet", path=path)
    assert not path.exists()
    assert list(tmp_path.glob("*.partial")) == []


def test_an_unknown_format_and_a_missing_target_are_refused(results) -> None:
    with pytest.raises(ConfigError, match=r"^format must be one of table, csv, json, parquet"):
        run_query(results, "SELECT 1", "xml", io.StringIO())
    with pytest.raises(ConfigError, match=r"^format parquet needs a file"):
        run_query(results, "SELECT 1", "parquet")


def test_a_commit_record_is_read_once_however_many_ask(results, monkeypatch) -> None:
    read: list[str] = []
    whole = manifest.read_commit

    def counted(store: Any, name: str, content: bytes) -> dict[str, Any]:
        read.append(name)
        return whole(store, name, content)

    monkeypatch.setattr(manifest, "read_commit", counted)
    connect(results).close()
    assert read
    assert len(read) == len(set(read))
