"""A run's captions as one table in memory, which pages are cut from, and when it is made anew.

The views group millions of rows each time that they are asked; this does it once for each state of
the commits. A row is a finding's identity: a caption, or a caption with the image that was scored.
Its ``n`` is its rank, 1 for the worst; ``of_image`` is the caption's hash where that is another.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import duckdb

from scanner.errors import ResultsError, ScannerError
from scanner.results import schema
from scanner.serve.source import Source

KEPT = 2
"""Runs whose tables are kept at a time."""
LEAST_SECONDS, SHARE = 3.0, 0.1
"""Between two looks at the commits; and the share of the time that reading may take."""
OWN = frozenset({
    *schema.VIEWS["scores"].names, "id", "copies", "seeds", "worst", "sample", "maps", "match",
    "match_mse", "area", "tightness", "state", "severity", "of_image", "folded", "n",
}) - {"snap_back"}  # fmt: skip
LISTED = """
CREATE TABLE listed AS
WITH scored AS (
    SELECT caption_sha256, image_sha256, max(caption) AS caption,
           count(DISTINCT (shard, key)) AS copies, count(DISTINCT seed) AS seeds,
           max(delta_s) AS worst, avg(delta_s) AS delta_s, min(p_value) AS p_value,
           bool_or(flagged) AS flagged, min((shard, key)) AS sample{further}
    FROM scores GROUP BY caption_sha256, image_sha256
), compared AS (
    SELECT caption_sha256, image_sha256, count(*) AS maps,
           arg_min(match, match_rank(match)) AS match, min(match_mse) AS match_mse,
           max(area) AS area, min(tightness) AS tightness
    FROM masks GROUP BY caption_sha256, image_sha256
)
SELECT row_number() OVER () AS n, * FROM (
    SELECT identity_of(s.caption_sha256, s.image_sha256) AS id,
           s.* EXCLUDE (sample, caption_sha256),
           CASE WHEN s.image_sha256 IS NOT NULL THEN s.caption_sha256 END AS of_image,
           lower(s.caption) AS folded, sample[1] AS shard, sample[2] AS key,
           coalesce(m.maps, 0) AS maps, m.match, m.match_mse, m.area, m.tightness,
           r.state, r.severity
    FROM scored AS s
    LEFT JOIN compared AS m ON m.caption_sha256 = s.caption_sha256
      AND m.image_sha256 IS NOT DISTINCT FROM s.image_sha256
    LEFT JOIN remarks AS r ON r.id = identity_of(s.caption_sha256, s.image_sha256)
    ORDER BY match_rank(m.match), p_value NULLS LAST, delta_s DESC NULLS LAST, id
)
"""
SORTS = {
    "worst": ("worst first", ""), "delta_s": ("Δs", "DESC"), "p_value": ("p-value", "ASC"),
    "copies": ("copies", "DESC"), "area": ("mask", "DESC"), "match_mse": ("error", "ASC"),
    "tightness": ("tightness", "ASC"),
}  # fmt: skip
"""Columns that every run can be sorted by: what it is called, and which end is suspicious."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A run's captions at one state of its commits.

    Attributes:
        run: The run.
        con: Locked views of it, and the table ``listed``; take a cursor of it.
        further: Columns of further scores.
        version: What `Source.version` said when it was made.
        captions: Rows of the table.
        flagged: How many of them are flagged.
        seconds: How long it took to make.
    """

    run: str
    con: duckdb.DuckDBPyConnection
    further: tuple[str, ...]
    version: Hashable
    captions: int
    flagged: int
    seconds: float

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Provide a connection of its own for one request.

        Raises:
            ResultsError: If a file of the results cannot be read.
        """
        with closing(self.con.cursor()) as cursor:
            try:
                yield cursor
            except duckdb.Error as error:
                said = str(error).splitlines()[0]
                raise ResultsError(f"the results cannot be read: {said}; verify them") from error


def listing(source: Source, run: str) -> Listing:
    """Read a run's captions into a table.

    Raises:
        ConfigError: If there is no such run.
        ResultsError: If the results cannot be read.
    """
    started, version, con = time.monotonic(), source.version(run), source.connect(run)
    try:
        columns = con.execute("DESCRIBE SELECT * FROM scores").fetchall()
        further = tuple(
            name for name, kind, *_ in columns
            if kind in ("FLOAT", "DOUBLE") and name not in OWN
        )  # fmt: skip
        con.execute("CREATE TABLE remarks (id VARCHAR, state VARCHAR, severity VARCHAR)")
        remarks = source.remarks(run)
        con.execute(
            "INSERT INTO remarks SELECT unnest($1::VARCHAR[]), unnest($2::VARCHAR[]), "
            "unnest($3::VARCHAR[])",
            [list(remarks), [r.state for r in remarks.values()],
             [r.severity for r in remarks.values()]],
        )  # fmt: skip
        means = "".join(f", avg({quoted(name)}) AS {quoted(name)}" for name in further)
        con.execute(LISTED.format(further=means))
        there = "".join(f", count({quoted(name)})" for name in further)
        counted = f"SELECT count(*), count(*) FILTER (flagged){there} FROM listed"  # noqa: S608
        captions, flagged, *held = con.execute(counted).fetchall()[0]
    except duckdb.Error as error:
        con.close()
        said = str(error).splitlines()[0]
        raise ResultsError(
            f"the results in {source.results.root} cannot be read: {said}; verify them"
        ) from error
    further = tuple(name for name, number in zip(further, held, strict=True) if number)
    seconds = time.monotonic() - started
    return Listing(run, con, further, version, captions, flagged, seconds)


def quoted(name: str) -> str:
    """Return a column's name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


CAPTION_HASH = "coalesce(of_image, id)"
"""The caption's hash, in SQL."""


class Listings:
    """The tables of the runs that are looked at, made anew in the background as commits come.

    Args:
        source: What is shown.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._lock = source, threading.Lock()
        self._kept = OrderedDict[str, Listing]()
        self._making = dict[str, threading.Lock]()
        self._looked = dict[str, float]()

    def get(self, run: str) -> Listing:
        """Return a run's table: the first time when it is made, then the newest that there is.

        Raises:
            ConfigError: If there is no such run.
            ResultsError: If the results cannot be read.
        """
        with self._lock:
            making = self._making.setdefault(run, threading.Lock())
            found = self._kept.get(run)
        if found is None:
            with making:
                found = self._kept.get(run) or self._made(run)
        elif self._is_due(run, found):
            threading.Thread(target=self._renew, args=(run, found), daemon=True).start()
        return found

    def renewed(self) -> bool:
        """Make the tables anew whose files changed; return whether there was one.

        It is for who met a file that is gone: it was packed into another.

        Raises:
            ResultsError: If the results cannot be read.
        """
        with self._lock:
            kept = dict(self._kept)
        changed = False
        for run, found in kept.items():
            if self._source.version(run) != found.version:
                with self._making[run]:
                    if self._kept.get(run) is found:
                        self._made(run)
                changed = True
        return changed

    def _is_due(self, run: str, found: Listing) -> bool:
        """Return whether it is time to look at the commits again, once for all who ask."""
        now, wait = time.monotonic(), max(LEAST_SECONDS, found.seconds / SHARE)
        with self._lock:
            if now - self._looked.get(run, 0.0) < wait:
                return False
            self._looked[run] = now
            return True

    def _renew(self, run: str, found: Listing) -> None:
        making = self._making[run]
        if not making.acquire(blocking=False):
            return
        try:
            if self._source.version(run) != found.version:
                self._made(run)
        except ScannerError:
            pass  # a file that was packed away between two looks: the next look reads anew
        finally:
            making.release()

    def _made(self, run: str) -> Listing:
        made = listing(self._source, run)
        with self._lock:
            self._kept[run] = made
            self._kept.move_to_end(run)
            self._looked[run] = time.monotonic()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made
