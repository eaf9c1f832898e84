"""What the last night found, as a file of Prometheus' text format.

For node exporter's textfile collector or a Pushgateway. A night that does not finish keeps what the
last finished one wrote and changes the exit code, so that an alert can tell a missed night from a
failed one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

from scanner import files
from scanner.analysis.changes import STATES
from scanner.errors import ExitCode, OutputError, ScannerError
from scanner.nightly.formats import NightReport
from scanner.nightly.policy import LEVELS
from scanner.text import printable

EXIT_CODE = "memscan_audit_exit_code"
LAST_RUN = "memscan_audit_last_run_timestamp_seconds"
LAST_SUCCESS = "memscan_audit_last_success_timestamp_seconds"
GAUGES = {
    LAST_RUN: "When an audit last ended, however",
    EXIT_CODE: "How it ended: docs/exit-codes.md",
    LAST_SUCCESS: "When an audit was last finished and published, whatever it found",
    "memscan_audit_findings": "Findings by state and severity, muted ones included",
    "memscan_audit_alarms": "Findings that raise the alarm",
    "memscan_audit_missing": "What the corpus or the scan lacks, in entries of the summary",
    "memscan_audit_captions": "Distinct captions that are scanned in all",
    "memscan_audit_samples_scanned": "Samples that were scanned in the night",
    "memscan_audit_duration_seconds": "Wall time of the night",
}
"""Every metric there is, tagged ``at``: where the state is. The findings are tagged ``state`` and
``severity`` too."""
_OF_EVERY_END = (LAST_RUN, EXIT_CODE)


@contextmanager
def reporting(path: Path | None, place: str) -> Iterator[Callable[[NightReport], None]]:
    """Provide what writes a finished night's file; a night that fails changes its exit code.

    Args:
        path: The file; null for none.
        place: Where the state is.

    Raises:
        OutputError: From what is provided, if the file cannot be written.
    """

    def finished(night: NightReport) -> None:
        if path is not None:
            files.write(path, as_text(night, place, time.time()))

    try:
        yield finished
    except BaseException as error:
        if path is not None:
            with suppress(OutputError):  # the error that ended the night is what must be told
                files.write(path, _failed(path, place, _code_of(error)))
        raise


def as_text(night: NightReport, place: str, now: float) -> str:
    """Return a finished night as metrics.

    Args:
        night: The night.
        place: Where the state is.
        now: When it ended, in seconds since 1970.
    """
    found = [(alert.change.state, alert.severity) for alert in night.alerts]
    values = {
        LAST_RUN: now,
        EXIT_CODE: int(night.exit_code),
        LAST_SUCCESS: now,
        "memscan_audit_alarms": len(night.alarms),
        "memscan_audit_missing": len(night.incomplete),
        "memscan_audit_captions": night.figures.get("captions", 0),
        "memscan_audit_samples_scanned": night.scanned,
        "memscan_audit_duration_seconds": night.seconds,
    }
    lines = list[str]()
    for name in GAUGES:
        lines += _head(name)
        if name in values:
            lines.append(_line(name, values[name], at=place))
            continue
        lines += [
            _line(name, found.count((state, level)), at=place, state=state, severity=level)
            for state, level in product(STATES, LEVELS)
        ]
    return "\n".join(lines) + "\n"


def _failed(path: Path, place: str, code: int) -> str:
    """Return what the file holds after a night that did not finish."""
    lines = list[str]()
    for name, value in ((LAST_RUN, time.time()), (EXIT_CODE, code)):
        lines += [*_head(name), _line(name, value, at=place)]
    try:
        before = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # none yet, or none of ours
        before = []
    starts = tuple(f"{mark}{name}{end}" for name in GAUGES if name not in _OF_EVERY_END
                   for mark, end in (("", "{"), ("# HELP ", " "), ("# TYPE ", " ")))  # fmt: skip
    return "\n".join([*lines, *(line for line in before if line.startswith(starts))]) + "\n"


def _code_of(error: BaseException) -> int:
    if isinstance(error, ScannerError):
        return int(error.exit_code)
    return int(ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.REFUSED)


def _head(name: str) -> list[str]:
    return [f"# HELP {name} {GAUGES[name]}", f"# TYPE {name} gauge"]


def _line(name: str, value: float, **tags: str) -> str:
    said = ",".join(f'{tag}="{_quoted(text)}"' for tag, text in tags.items())
    return f"{name}{{{said}}} {value!r}"


def _quoted(text: str) -> str:
    return printable(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", " ")
