"""Questions in SQL: one SELECT over a run's views, with a limit on its rows and its time."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import duckdb

from scanner.analysis.output import execute, write_csv
from scanner.analysis.query import interrupted_after, reported, statement
from scanner.errors import ConfigError
from scanner.serve.source import Source
from scanner.text import distinct

MOST_ROWS, MOST_CHARACTERS, SECONDS = 1000, 256 * 1024 * 1024, 20.0
AT_ONCE = 2
"""Questions that are answered at a time."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a question.

    Attributes:
        names: Of the columns.
        rows: The first `MOST_ROWS`.
        is_cut: Whether there are more.
        seconds: How long it took.
    """

    names: list[str]
    rows: list[tuple[Any, ...]]
    is_cut: bool
    seconds: float


class Questions:
    """Answers questions, a few at a time.

    Args:
        source: What is shown.
        seconds: The longest that one may take.
    """

    def __init__(self, source: Source, seconds: float = SECONDS) -> None:
        self._source, self._turn = source, threading.BoundedSemaphore(AT_ONCE)
        self._seconds, self._open = seconds, set[duckdb.DuckDBPyConnection]()

    def answer(self, run: str, sql: str) -> Answer:
        """Return the first rows that a SELECT gives.

        Raises:
            ConfigError: If it is no single SELECT, fails, or takes too long.
            ResultsError: If the results cannot be read.
        """
        started = time.monotonic()

        def first(names: list[str], con: duckdb.DuckDBPyConnection) -> Answer:
            rows = con.fetchmany(MOST_ROWS + 1)
            seconds = time.monotonic() - started
            return Answer(names, rows[:MOST_ROWS], len(rows) > MOST_ROWS, seconds)

        return self._asked(run, sql, first)

    def csv(self, run: str, sql: str) -> str:
        """Return all rows as CSV in which no spreadsheet computes anything.

        Raises:
            ConfigError: As `answer` does, and if they are too long.
            ResultsError: If the results cannot be read.
        """
        out = io.StringIO()

        def all_of_them(names: list[str], con: duckdb.DuckDBPyConnection) -> str:
            write_csv(names, self._rows(con, out), out, "spreadsheet")
            return out.getvalue()

        return self._asked(run, sql, all_of_them)

    def stop(self) -> None:
        """End what is being answered."""
        for con in list(self._open):
            con.interrupt()

    def _rows(self, con: duckdb.DuckDBPyConnection, out: io.StringIO) -> Iterator[tuple[Any, ...]]:
        ends = time.monotonic() + self._seconds
        while (row := con.fetchone()) is not None:
            if out.tell() > MOST_CHARACTERS or time.monotonic() > ends:
                raise ConfigError(
                    f"a download must have at most {MOST_CHARACTERS >> 20} MiB and take at most "
                    f"{self._seconds:.0f} s: use memscan query --out"
                )
            yield row

    def _asked(
        self, run: str, sql: str, read: Callable[[list[str], duckdb.DuckDBPyConnection], T]
    ) -> T:
        if not self._turn.acquire(timeout=1.0):
            raise ConfigError(f"{AT_ONCE} questions are being answered: ask again in a moment")
        try:
            with closing(self._source.connect(run)) as con:
                self._open.add(con)
                try:
                    query = statement(con, sql)
                    with interrupted_after(con, self._seconds):
                        execute(con, query.query)
                        return read(distinct([c[0] for c in con.description or []]), con)
                except duckdb.InterruptException as error:
                    raise ConfigError(
                        f"it took over {self._seconds:.0f} s and was ended"
                    ) from error
                except duckdb.Error as error:
                    with reported():
                        raise error
                finally:
                    self._open.discard(con)
        finally:
            self._turn.release()
        raise AssertionError("either of the two ends it")
