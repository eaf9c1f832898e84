"""What came of a scan, with what it flags: read from its results."""

from contextlib import closing

from scanner.analysis.findings import findings
from scanner.analysis.query import connect
from scanner.engine.job import Job, Summary
from scanner.nightly.policy import Policy
from scanner.notify.outcome import Outcome, of_scan
from scanner.report.banner import of_scan as banner_of
from scanner.results.folder import Results
from scanner.signed import redacted


def outcome_of(job: Job, summary: Summary, *, captions: bool) -> Outcome:
    """Return what came of a scan; severities are those of the usual policy.

    Args:
        job: What was scanned.
        summary: The scan's.
        captions: Whether captions of findings are told.

    Raises:
        ResultsError: If the results cannot be read.
    """
    with closing(connect(Results(job.results), runs=[summary.run])) as con:
        flagged = findings(con)
        row = con.execute("SELECT count(*) FROM captions").fetchone()
    scored = int(row[0]) if row is not None else 0
    by_rule = job.calibration is not None or job.spec.threshold is not None
    missing = len(summary.incomplete) + len(summary.quarantined)
    banner = banner_of(scored, [found.match for found in flagged], missing, by_rule=by_rule)
    return of_scan(
        summary, banner, flagged, Policy(), place=redacted(job.results), model=job.model,
        captions=captions,
    )  # fmt: skip
