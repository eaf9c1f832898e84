"""The exceptions that a user may meet, and the exit codes of the command line.

``ScannerError``
    ``ConfigError``      the request cannot be served as written; nothing has started (exit 2)
    ``ShardError``       a shard cannot be read at all; it is recorded and the scan goes on
    ``ResultsError``     the results folder is unreadable or belongs to something else (exit 2)
    ``OutputError``      a file cannot be written (exit 2)
    ``IncompleteError``  the scan ended with something missing (exit 3)
    ``ClusterError``     the infrastructure went away; run again to resume (exit 4)
        ``ClusterLostError``  the cluster that this process is connected to does not answer
        ``DeviceError``  one worker's device cannot do the work; others may
    ``LeaseError``       another process took this one's work over; it stops (exit 4)

A wrong argument inside the program is a ``ValueError``: a bug, not on this list.
"""

import re
from enum import IntEnum

_CHANGING = (
    (re.compile(r"\s+at 0x[0-9a-fA-F]+"), ""),
    (re.compile(r"\b0x[0-9a-fA-F]{6,}"), "0x..."),
    (re.compile(r"\b((?:pid|process|thread|port)[ =:]{1,2})\d+", re.IGNORECASE), r"\1..."),
    (re.compile(r"\b((?:\w+_id|ip)=)[0-9a-fA-F.:]+"), r"\1..."),
    (re.compile(r"(?:/var)?/tmp/[^\s'\"<>(),;]+"), "/tmp/..."),  # noqa: S108 - opens nothing
)


class ExitCode(IntEnum):
    """Exit status of a command.

    The table in docs/exit-codes.md is made from this class: ``python docs/generate.py``.

    Attributes:
        meaning: A line for the table, in Markdown.
    """

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Make a member that is equal to its number."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "complete"
    ALARM = 1, "`audit`: new findings of the severity that the policy names"
    REFUSED = (
        2,
        "cannot start or go on: usage, configuration, a model or results that cannot be read, a "
        "file or an output that cannot be written",
    )
    INCOMPLETE = (
        3,
        "something is missing or unsound: a shard was cut or unreadable, a chunk was quarantined, "
        "`verify` found a problem, an `audit` had nothing to scan",
    )
    LOST = 4, "the cluster went away, or another process took the run over; run again to resume"
    PARTIAL = 5, "`audit`: clear as far as its budget reached"
    INTERRUPTED = 130, "interrupted; run again to resume"


class ScannerError(Exception):
    """Something that the user can act on; its text says what to do."""

    exit_code = ExitCode.REFUSED


class ConfigError(ScannerError):
    """The request cannot be served as written."""


class ShardError(ScannerError):
    """A shard cannot be read."""

    exit_code = ExitCode.INCOMPLETE


class ResultsError(ScannerError):
    """A results folder is missing, unreadable or of another kind."""


class OutputError(ScannerError):
    """A file cannot be written; what was there before is as it was."""


class IncompleteError(ScannerError):
    """Work ended with something missing."""

    exit_code = ExitCode.INCOMPLETE


class ClusterError(ScannerError):
    """Processes or nodes went away faster than they could be replaced."""

    exit_code = ExitCode.LOST


class ClusterLostError(ClusterError):
    """The Ray cluster that this process is connected to does not answer any more."""


class DeviceError(ClusterError):
    """A device is too small for the work, or its memory is taken."""


class LeaseError(ScannerError):
    """Another process took over while this one stood still."""

    exit_code = ExitCode.LOST


class Stopped(Exception):  # noqa: N818 - asked for, and never shown
    """Work was given up because it was asked to stop; what is committed stays."""


def reproducible(error: BaseException | str) -> str:
    """Return the text of an exception without what differs from one process to the next.

    Result rows must not depend on the process that wrote them, so memory addresses, numbers of
    processes and threads, Ray's ids and names of temporary files are left out. An exception
    without a text gives the name of its type.
    """
    text = error if isinstance(error, str) else str(error).strip() or type(error).__name__
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return text
