"""False-discovery rate: one cut-off for all captions of a run, once all are known.

Chunks are committed before the run's p-values are known. No cut-off exceeds the rate, so every
caption up to the rate is localized and its rows say ``flagged``; which of them are findings is
decided here, whenever results are looked at.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import duckdb
import numpy as np

from scanner.errors import ConfigError, ResultsError
from scanner.results.run_file import FdrCutoff, RunFile
from scanner.statistics.calibration import benjamini_hochberg


def fdr_cutoffs(
    con: duckdb.DuckDBPyConnection,
    source: str,
    records: Mapping[str, RunFile],
    committed: Callable[[str], Sequence[str]],
    *,
    fdr: float | None,
    shards: Collection[str] | None,
) -> dict[str, FdrCutoff]:
    """Return the verdict of every run that has a false-discovery rate.

    What a run's record keeps is taken if it is of these very chunks, else the cut-off is
    computed: Benjamini-Hochberg over the distinct captions of each run, or over its distinct
    pairs of caption and image where images are scored.

    Args:
        con: Where the SQL runs.
        source: The score rows, as a query.
        records: Of the runs, by name.
        committed: Returns the names of a run's committed chunks.
        fdr: This rate for all runs instead of their own.
        shards: Whether only some shards count.

    Raises:
        ConfigError: If ``fdr`` is asked of a run that has scores and no p-values.
        ResultsError: If a record's rate is none.
    """
    found: dict[str, FdrCutoff] = {}
    for run, record in records.items():
        rate = record.spec.get("fdr") if fdr is None else fdr
        if rate is None:
            continue
        if not isinstance(rate, float) or not 0 < rate < 1:
            raise ResultsError(f"the record of run {run} is damaged: its spec.fdr is {rate!r}")
        chunks = len(committed(run))
        kept = record.verdict
        if shards is None and kept and (kept.rate, kept.chunks) == (rate, chunks):
            found[run] = kept
            continue
        rows = con.execute(
            f"SELECT min(p_value) AS p FROM ({source}) WHERE run = $1 AND p_value IS NOT NULL "  # noqa: S608
            "GROUP BY caption_sha256, image_sha256",
            [run],
        ).fetchnumpy()
        p_values = np.asarray(rows["p"], np.float64)
        if fdr is not None and not len(p_values):
            _refuse_without_p_values(con, source, run)
        cutoff = benjamini_hochberg(p_values, float(rate))
        flagged = int((p_values <= cutoff).sum())
        found[run] = FdrCutoff(
            rate=float(rate), cutoff=cutoff, captions=len(p_values), flagged=flagged, chunks=chunks
        )
    return found


def _refuse_without_p_values(con: duckdb.DuckDBPyConnection, source: str, run: str) -> None:
    """Refuse a rate that was asked of scores without p-values; no scores need none.

    Raises:
        ConfigError: If the run has scores.
    """
    if con.execute(f"SELECT 1 FROM ({source}) WHERE run = $1 LIMIT 1", [run]).fetchall():  # noqa: S608
        raise ConfigError(
            f"a false-discovery rate needs p-values, and run {run} has none: it was scanned "
            f"without a calibration"
        )


def apply_cutoff(source: str, found: Mapping[str, FdrCutoff]) -> str:
    """Return score rows whose ``flagged`` says what the verdicts say, as a query."""
    if not found:
        return source
    cases = " ".join(
        f"WHEN '{run}' THEN p_value <= {verdict.cutoff!r}" for run, verdict in found.items()
    )
    return f"SELECT * REPLACE (CASE run {cases} ELSE flagged END AS flagged) FROM ({source})"  # noqa: S608
