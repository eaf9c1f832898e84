"""Results opened for reading: names of runs, and views as Arrow, pandas or DuckDB."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.analysis import query
from scanner.api.score import Score
from scanner.api.stored import stored_score
from scanner.errors import ConfigError, ResultsError
from scanner.results.folder import Results

if TYPE_CHECKING:
    import duckdb

VIEWS = (
    "scores", "masks", "rejects", "runs", "captions", "findings", "finding_maps", "retrieved",
    "confirmed",
)  # fmt: skip
"""Names of the views: docs/results.md has their columns."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run of a results folder.

    Attributes:
        run: Its name.
        started: When, ISO 8601.
        status: ``complete``, ``incomplete``, ``interrupted``, ``failed`` or ``running``.
        model: What was scanned with, as it was given.
        counts: Samples, scored, flagged, rejected and further counts.
    """

    run: str
    started: str
    status: str
    model: str
    counts: dict[str, Any]


class OpenResults:
    """A results folder or bucket, to read from; nothing is written.

    Every method that reads takes ``run``: a name, a list of names, ``all``, or null for the
    newest complete run, which is what ``memscan query`` reads.

    Args:
        place: A results folder, or ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``.

    Raises:
        ResultsError: If there are no results.
    """

    def __init__(self, place: str | Path) -> None:
        self.results = Results(place)
        if not self.results.exists():
            raise ResultsError(f"no results in {place}: scan into it first")

    def __repr__(self) -> str:
        return f"OpenResults({str(self.results.root)!r}, {len(self.results.runs())} runs)"

    def runs(self) -> list[RunInfo]:
        """Return the runs, the one that was begun last at the end.

        Raises:
            ResultsError: If a record cannot be read.
        """
        records = {run: self.results.run_file(run) for run in self.results.runs()}
        return [
            RunInfo(
                run, record.started, str(record.content.get("status", "")),
                str(record.config.get("model", "")), dict(record.counts),
            )
            for run, record in records.items()
        ]  # fmt: skip

    def duckdb(self, run: str | Sequence[str] | None = None) -> "duckdb.DuckDBPyConnection":
        """Return a connection with the views, locked down: no other files, no network, no writes.

        Raises:
            ConfigError: If there is no such run.
            ResultsError: If the results cannot be read.
        """
        return query.connect(self.results, runs=self._chosen(run))

    def arrow(self, name: str, run: str | Sequence[str] | None = None) -> Any:
        """Return a view as a `pyarrow.Table`.

        Args:
            name: One of ``scores``, ``masks``, ``rejects``, ``runs``, ``captions``, ``findings``,
                ``finding_maps``, ``retrieved`` and ``confirmed``.
            run: Which runs.

        Raises:
            ConfigError: If there is no such view or run.
            ResultsError: If the results cannot be read.
        """
        return self.sql(f"SELECT * FROM {_checked(name)}", run)  # noqa: S608 - a known name

    def pandas(self, name: str, run: str | Sequence[str] | None = None) -> Any:
        """Return a view as a `pandas.DataFrame`; pandas must be installed.

        Args:
            name: As of `arrow`.
            run: Which runs.

        Raises:
            ConfigError: If pandas is not installed, or there is no such view or run.
            ResultsError: If the results cannot be read.
        """
        table = self.arrow(name, run)
        try:
            return table.to_pandas()
        except ImportError as error:
            raise ConfigError("a data frame needs pandas: pip install pandas") from error

    def sql(self, select: str, run: str | Sequence[str] | None = None) -> Any:
        """Return what one SELECT over the views gives, as a `pyarrow.Table`.

        Args:
            select: As ``memscan query`` takes it.
            run: Which runs.

        Raises:
            ConfigError: If it is not one SELECT, or there is no such run.
            ResultsError: If the results cannot be read.
        """
        with closing(self.duckdb(run)) as con:
            parsed = query.statement(con, select)
            with query.reported():
                return con.sql(parsed.query).to_arrow_table()

    def score(self, key_or_hash: str, run: str | None = None) -> Score:
        """Return what a scan stored of one caption, as `scanner.score` gives it.

        Maps come from float16 and pictures from JPEG, as they are stored.

        Args:
            key_or_hash: A sample's key, or the start of the hash of a caption or finding.
            run: Which run.

        Raises:
            ConfigError: If nothing or more than one result answers to it.
            ResultsError: If the results cannot be read.
        """
        with closing(self.duckdb(run)) as con:
            return stored_score(con, key_or_hash)

    def _chosen(self, run: str | Sequence[str] | None) -> list[str] | None:
        if run == ALL:
            return None
        if run is None:
            return [self.results.default_run()] if self.results.runs() else None
        return [run] if isinstance(run, str) else list(run)


def open_results(place: str | Path) -> OpenResults:
    """Open a results folder or bucket for reading.

    Args:
        place: A results folder, or ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``.

    Raises:
        ResultsError: If there are no results.

    Example:
        >>> import scanner
        >>> scanner.open_results("nowhere")
        Traceback (most recent call last):
        scanner.errors.ResultsError: no results in nowhere: scan into it first
    """
    return OpenResults(place)


def _checked(name: str) -> str:
    if name not in VIEWS:
        raise ConfigError(f"a view must be one of {', '.join(VIEWS)}, got {name!r}")
    return name
