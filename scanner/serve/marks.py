"""What people decided about findings: a file of lines that only grows, so it is its own history.

Each line is a JSON object: ``finding``, ``mark``, ``reason``, ``name``, ``at`` and ``run``. The
last line of a finding counts; a mark that is empty takes the one before back.
"""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scanner import files
from scanner.errors import ConfigError, ResultsError
from scanner.parsing import from_json
from scanner.text import printable

MARKS = ("confirmed", "licensed", "false")
"""A copy; a copy that may be; no copy."""
LONGEST_REASON, LONGEST_NAME = 1000, 100


@dataclass(frozen=True, slots=True)
class Mark:
    """One decision.

    Attributes:
        finding: Identity of the finding.
        mark: One of `MARKS`; empty takes the mark back.
        reason: Why.
        name: Who says so.
        at: When, ISO 8601, UTC.
        run: The run that was looked at.
    """

    finding: str
    mark: str
    reason: str
    name: str
    at: str
    run: str


class Marks:
    """The marks in a file.

    Args:
        path: The file; null where there is no place for one.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self._lock = path, threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._lines: dict[str, list[Mark]] = {}

    def history(self) -> Mapping[str, list[Mark]]:
        """Return every line by finding, the earliest first; what a crash left of one is left out.

        Raises:
            ResultsError: If the file cannot be read.
        """
        if self.path is None:
            return {}
        with self._lock:
            try:
                now = self.path.stat()
                if (now.st_mtime_ns, now.st_size) != self._seen:
                    self._lines = _read(self.path.read_bytes())
                    self._seen = now.st_mtime_ns, now.st_size
            except FileNotFoundError:
                self._seen, self._lines = None, {}
            except OSError as error:
                raise ResultsError(f"{self.path} cannot be read: {error.strerror}") from error
            return self._lines

    def current(self) -> dict[str, str]:
        """Return the mark of each finding that has one."""
        return {id: lines[-1].mark for id, lines in self.history().items() if lines[-1].mark}

    def add(self, finding: str, mark: str, reason: str, name: str, run: str) -> Mark:
        """Add a line.

        Args:
            finding: Identity of the finding.
            mark: One of `MARKS`, or ``""`` to take its mark back.
            reason: Why.
            name: Who says so.
            run: The run that was looked at.

        Raises:
            ConfigError: If there is no place for marks, or something is missing.
            OutputError: If it cannot be written.
        """
        if self.path is None:
            raise ConfigError(
                "marks need a local file, and these results are in a bucket: start memscan serve "
                "with --marks FILE"
            )
        reason, name = printable(reason).strip(), printable(name).strip()
        _check(mark, reason, name)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        made = Mark(finding, mark, reason, name, at, run)
        files.append_line(self.path, json.dumps(asdict(made)))
        return made


def _check(mark: str, reason: str, name: str) -> None:
    if mark and mark not in MARKS:
        raise ConfigError(f"a mark must be one of {', '.join(MARKS)}, got {mark[:40]!r}")
    if not reason or len(reason) > LONGEST_REASON:
        raise ConfigError(f"a mark must say why, in at most {LONGEST_REASON} characters")
    if not name or len(name) > LONGEST_NAME:
        raise ConfigError(f"a mark must say who says so, in at most {LONGEST_NAME} characters")


def _read(content: bytes) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for line in content.splitlines():
        try:
            entry = from_json(line)
        except ValueError:
            continue
        if (mark := _mark(entry)) is not None:
            found.setdefault(mark.finding, []).append(mark)
    return found


def _mark(entry: Any) -> Mark | None:
    """Return the mark that a line is; null of a line that is none."""
    names = Mark.__slots__
    if not isinstance(entry, dict) or not all(isinstance(entry.get(n), str) for n in names):
        return None
    if not entry["finding"] or entry["mark"] not in (*MARKS, ""):
        return None
    return Mark(**{name: entry[name] for name in names})
