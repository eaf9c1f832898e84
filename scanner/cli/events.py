"""The event log: a line of JSON for everything that happens in a scan."""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from scanner import files
from scanner.cli import progress
from scanner.engine.job import TRANSIENT, Event

VERSION = 1
"""Of the fields; ``docs/monitoring.md`` lists them. A new field does not change it."""


class EventLog:
    """Appends events to a file, each in one write, so that a crash cuts the last line at most.

    A log that can no longer be written is given up with one line on the standard error: the
    scan is worth more.

    Args:
        path: The file; what is there stays.

    Raises:
        OutputError: If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = files.append(path)
        self._begin_a_line(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Append an event, unless it is of the moment alone."""
        if self._file is None or event.kind in TRANSIENT:
            return
        try:
            _append(self._file, line(event))
        except OSError as error:
            progress.note(f"{self._path} gets no more events: {error.strerror}; the scan goes on")
            self._close()

    @staticmethod
    def _begin_a_line(file: int) -> None:
        """End the line that a power cut left half written."""
        with suppress(OSError):  # a full disk shows at the first event
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                _append(file, b"\n")

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def line(event: Event) -> bytes:
    """Return an event as a line of JSON."""
    facts = asdict(event)
    at = datetime.fromtimestamp(facts.pop("time"), UTC).isoformat(timespec="milliseconds")
    return json.dumps({"version": VERSION, "time": at} | facts).encode() + b"\n"


def _append(file: int, content: bytes) -> None:
    if os.write(file, content) != len(content):
        os.write(file, b"\n")
        raise OSError(0, "a line did not fit")
