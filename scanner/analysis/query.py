"""Results as read-only DuckDB views.

The views hold the runs that are asked for, all by default; each has a ``run`` column. Data files
come from the commits, so a file that was never committed does not exist here.

A connection is locked down before it is handed out: it reads the committed Parquet files and no
other path, and its configuration cannot be changed. DuckDB cannot forbid writing to a path that
may be read, so `statement` lets through what can only read.
"""

import json
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any, TextIO, cast

import duckdb

from scanner.analysis.fdr import apply_cutoff, fdr_cutoffs
from scanner.analysis.output import CELLS, execute, write_parquet, write_text
from scanner.analysis.views import VIEWS
from scanner.collection import without_collection
from scanner.errors import ConfigError, ResultsError
from scanner.results import schema
from scanner.results.folder import Part, Results
from scanner.results.run_file import FdrCutoff, RunFile
from scanner.results.stores import ObjectStore

FORMATS = ("table", "csv", "json", "parquet")
MEMORY_LIMIT = "4GB"
TEMPORARY_LIMIT = "16GB"
MAX_THREADS = 8

Spans = list[tuple[int, int]]
"""First row and last, of the rows of a file that count; none stands for all."""

READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
RUNS_TEXT_AS_SQL = {"query", "json_execute_serialized_sql"}


@without_collection()
def connect(
    results: Results,
    *,
    runs: Sequence[str] | None = None,
    also: Sequence[str | Path] = (),
    shards: Collection[str] | None = None,
    fdr: float | None = None,
    memory: str = MEMORY_LIMIT,
) -> duckdb.DuckDBPyConnection:
    """Return a locked in-memory connection with the results as views.

    Views: ``scores``, ``masks``, ``rejects``, ``runs`` (run, started, status, model, record as
    JSON, false-discovery rate and the p-value up to which it flags), ``captions`` (a row per
    distinct caption of a run, of its worst image where images are scored), ``retrieved`` (the
    corpus's images nearest to a generated picture, where `retrieve` looked for them),
    ``confirmed`` (a row per finding that `confirm` drew again), ``findings``
    (a row per flagged caption, or flagged caption with one image where images are scored: with
    its strongest evidence and the nearest image, worst first) and ``finding_maps`` (a row per map
    of a finding).

    Args:
        results: The results folder.
        runs: Which runs the views hold; all by default.
        also: Further files that may be read.
        shards: Identities of the shards whose rows the views hold; all by default.
        fdr: Flag by this false-discovery rate over each run's captions in the views; by default
            every run by its own rule.
        memory: The most that a query may hold before it spills to a temporary folder.

    Raises:
        ConfigError: If there is no such run, or no such further file.
        ResultsError: If the folder is missing or a committed file cannot be read.
    """
    chosen = _chosen_runs(results, runs)
    for path in also:
        check_readable(path)
    committed = {run: results.read_committed(run) for run in chosen}
    files = {
        table: [(results.store.address(part.path), _spans(part)) for part in parts]
        for table, parts in results.parts(runs, shards=shards, known=committed).items()
    }
    files["retrieved"] = [(path, []) for path in results.retrieved(chosen)]
    files["confirmed"] = [(path, []) for path in results.confirmed(chosen)]
    con = duckdb.connect(":memory:")
    try:
        if isinstance(results.store, ObjectStore):
            con.register_filesystem(results.store.files)
        readable = [path for each in files.values() for path, _ in each] + [str(p) for p in also]
        _lock(con, readable, memory)
        sources = {table: _source(table, each) for table, each in files.items()}
        records = {run: results.verified_run(run, own.records) for run, own in committed.items()}
        found = fdr_cutoffs(
            con, sources["scores"], records, lambda run: list(committed[run].records),
            fdr=fdr, shards=shards,
        )  # fmt: skip
        sources["scores"] = apply_cutoff(sources["scores"], found)
        for table, source in sources.items():
            con.execute(f"CREATE VIEW {table} AS {source}")
        con.execute(f"CREATE VIEW runs AS {_runs(records, found)}")
        for view in VIEWS:
            con.execute(view)
    except duckdb.Error as error:
        con.close()
        raise ResultsError(
            f"the results in {results.root} cannot be read: {brief(error)}; verify them"
        ) from error
    return con


def check_readable(path: str | Path) -> None:
    """Refuse a file that is not there or cannot be read.

    Raises:
        ConfigError: If so.
    """
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def statement(con: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Return ``sql`` parsed, if it is one SELECT and nothing in it can write.

    The type of a statement is not enough: ``WITH x AS (COPY ...) SELECT ...`` is a SELECT to
    DuckDB and writes its file, so every node of the parsed query is looked at.

    Raises:
        ConfigError: If it is anything else, or not SQL.
    """
    refusal = "only one SELECT is accepted"
    with reported():
        parsed = con.extract_statements(sql)
    if len(parsed) != 1:
        raise ConfigError(f"{refusal}, got {len(parsed)} statements")
    if parsed[0].type != duckdb.StatementType.SELECT:
        raise ConfigError(f"{refusal}, got {parsed[0].type.name}")
    with reported():
        rows = con.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    try:
        tree = json.loads(rows[0][0])
    except RecursionError as error:
        raise ConfigError(f"{refusal}, nested less deeply") from error
    if tree["error"]:
        raise ConfigError(f"{refusal}: {tree.get('error_message', 'the query cannot be checked')}")
    for node in _objects(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in READING_NODES:
            raise ConfigError(f"{refusal}, got one with {kind.split('_')[0]} inside")
        function = str(node.get("function_name", "")).lower()
        if function in RUNS_TEXT_AS_SQL:
            raise ConfigError(f"{refusal}, without {function}(): write the inner query out")
    return parsed[0]


@contextmanager
def interrupted_after(con: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[None]:
    """Interrupt what a connection does inside when it takes longer; null lets it run."""
    timer = Timer(seconds, con.interrupt) if seconds else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer:
            timer.cancel()


def _chosen_runs(results: Results, runs: Sequence[str] | None) -> list[str]:
    """Return the runs that were asked for, or all.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the folder is missing.
    """
    if not results.exists():
        raise ResultsError(f"no results in {results.root}: scan into it first")
    known = results.runs()
    if unknown := sorted(set(runs or ()) - set(known)):
        raise ConfigError(
            f"no run {', '.join(unknown)} in {results.root}; "
            f"there are: {', '.join(known) or 'none'}"
        )
    return known if runs is None else list(runs)


def run_query(
    results: Results,
    sql: str,
    fmt: str = "table",
    out: TextIO | None = None,
    *,
    path: str | Path | None = None,
    limit: int | None = None,
    width: int | None = None,
    timeout_s: float | None = None,
    runs: Sequence[str] | None = None,
    shards: Collection[str] | None = None,
    also: Sequence[str | Path] = (),
    cells: str = "exact",
) -> int:
    """Run one SELECT over the results and write what comes of it.

    Args:
        results: The results folder.
        sql: The SELECT.
        fmt: ``table``, ``csv``, ``json`` (an array of objects) or ``parquet``. All but ``table``
            read back to the very rows; binary cells are base64 in CSV and JSON.
        out: Where text goes.
        path: The file that ``parquet`` writes, complete or not at all.
        limit: At most so many rows; a table says if there were more.
        width: Terminal columns that a table may take; no limit by default.
        timeout_s: Stop the query after so long.
        runs: Which runs the views hold; all by default.
        shards: Identities of the shards whose rows the views hold; all by default.
        also: Further files that the query may read.
        cells: What texts become in CSV: ``exact``; ``visible`` for a terminal, with hidden
            characters as escapes; or ``spreadsheet``, so that no spreadsheet computes them.

    Returns:
        How many rows were written.

    Raises:
        ConfigError: If the format or the query cannot be served.
        ResultsError: If the results cannot be read.
    """
    if fmt not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {fmt!r}")
    if cells not in CELLS or (cells == "spreadsheet" and fmt != "csv"):
        raise ConfigError(f"cells for a spreadsheet are of format csv, got {cells} for {fmt}")
    if (path if fmt == "parquet" else out) is None:
        raise ConfigError(f"format {fmt} needs {'a file' if fmt == 'parquet' else 'an output'}")
    with closing(connect(results, runs=runs, shards=shards, also=also)) as con:
        query, stopped = statement(con, sql), Event()

        def write() -> int:
            if path is not None and fmt == "parquet":
                return write_parquet(con, query.query, Path(path), limit, stopped)
            execute(con, query.query)
            return write_text(con, fmt, cast("TextIO", out), limit, width, cells, stopped)

        with interrupted_after(con, timeout_s), reported():
            return _interruptible(con, write, stopped)


def _interruptible(con: duckdb.DuckDBPyConnection, work: Callable[[], int], stopped: Event) -> int:
    """Return what ``work`` returns, and end it when the user interrupts.

    DuckDB answers no signal while it works, so it works in a thread of its own.

    Raises:
        KeyboardInterrupt: If the user interrupted, when the query has ended.
    """
    future = Future[int]()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            future.set_exception(error)

    try:
        Thread(target=run, daemon=True).start()
        return future.result()
    except KeyboardInterrupt:
        stopped.set()
        while not future.cancel() and not future.done():
            con.interrupt()
            wait([future], timeout=0.1)
        raise


@contextmanager
def reported() -> Iterator[None]:
    """Turn an error of DuckDB into a `ConfigError` with its first lines.

    Raises:
        ConfigError: If DuckDB refuses what runs inside.
    """
    try:
        yield
    except duckdb.Error as error:
        raise ConfigError(brief(error)) from error


def brief(error: Exception) -> str:
    """Return the first lines of an error of DuckDB: what, where in the query, what is near."""
    return "\n".join([line for line in str(error).splitlines() if line.strip()][:6])


def quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _source(table: str, files: Sequence[tuple[str, Spans]]) -> str:
    """Return the rows of a table as a query: whole files together, others by their spans."""
    columns = schema.VIEWS[table].columns  # there whatever the files hold
    nulls = ", ".join(f"CAST(NULL AS {c.kind.value}) AS {c.name}" for c in columns)
    found = list[str]()
    if whole := [quoted(path) for path, spans in files if not spans]:
        listed = ", ".join(whole)
        found.append(
            f"FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
        )
    for path, spans in files:
        if spans:
            ranges = [f"file_row_number BETWEEN {first} AND {last}" for first, last in spans]
            found.append(
                f"SELECT * EXCLUDE (file_row_number) FROM read_parquet({quoted(path)}, "  # noqa: S608
                f"file_row_number = true, hive_partitioning = false) WHERE {' OR '.join(ranges)}"
            )
    return " UNION ALL BY NAME ".join([*found, f"SELECT {nulls} WHERE false"])


def _spans(part: Part) -> Spans:
    found: Spans = []
    for _, start, stop in () if part.is_whole else part.spans:
        if found and found[-1][1] == start - 1:
            found[-1] = (found[-1][0], stop - 1)
        else:
            found.append((start, stop - 1))
    return found


def _runs(records: Mapping[str, RunFile], found: Mapping[str, FdrCutoff]) -> str:
    columns, rows = schema.RUNS.columns, []
    for run, record in records.items():
        rate = (found[run].rate, found[run].cutoff) if run in found else (None, None)
        cells: dict[str, object] = {
            "run": run, "started": record.content.get("started"),
            "status": record.content.get("status"), "model": record.model,
            "record": record.content, "fdr": rate[0], "cutoff": rate[1],
        }  # fmt: skip
        rows.append(f"({', '.join(_cell(cells[c.name]) for c in columns)})")
    body = ", ".join(rows) or f"({', '.join(['NULL'] * len(columns))})"
    casts = ", ".join(f"CAST({c.name} AS {c.kind.value}) AS {c.name}" for c in columns)
    where, names = "" if rows else " WHERE false", ", ".join(schema.RUNS.names)
    return f"SELECT {casts} FROM (VALUES {body}) AS r({names}){where}"  # noqa: S608


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    return quoted(value if isinstance(value, str) else json.dumps(value, default=str))


def _lock(con: duckdb.DuckDBPyConnection, paths: list[str], memory: str) -> None:
    # DuckDB makes the folder when a query spills and removes it with the connection.
    spill = str(Path(tempfile.gettempdir()) / f"memscan-{secrets.token_hex(8)}")
    rows = con.execute("SELECT current_setting('threads')").fetchall()
    threads = min(int(rows[0][0]), MAX_THREADS)
    for setting in (
        f"temp_directory = {quoted(spill)}",
        f"max_temp_directory_size = '{TEMPORARY_LIMIT}'",
        f"memory_limit = {quoted(memory)}",
        f"threads = {threads}",
        "TimeZone = 'UTC'",
        f"allowed_paths = [{', '.join(map(quoted, paths))}]",
        "enable_external_access = false",
        "allow_community_extensions = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "allow_persistent_secrets = false",
        "lock_configuration = true",
    ):
        con.execute(f"SET {setting}")


def _objects(tree: object) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
