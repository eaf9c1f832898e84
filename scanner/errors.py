"""The exceptions that a user may meet, and the exit codes of the command line.

``ScannerError``
    ``ConfigError``      the request cannot be served as written; nothing has started (exit 2)
    ``ShardError``       a shard cannot be read at all; it is recorded and the scan goes on
    ``ResultsError``     the results folder is unreadable or belongs to something else (exit 2)
    ``IncompleteError``  the scan ended with something missing (exit 3)
    ``ClusterError``     the infrastructure went away; run again to resume (exit 4)
        ``ClusterLostError``  the cluster that this process is connected to does not answer
        ``DeviceError``  one worker's device cannot do the work; others may
    ``LeaseError``       another process took this one's work over; it stops (exit 4)

A wrong argument inside the program is a ``ValueError``: a bug, not on this list.
"""


class ScannerError(Exception):
    """Something that the user can act on; its text says what to do."""

    exit_code = 2


class ConfigError(ScannerError):
    """The request cannot be served as written."""


class ShardError(ScannerError):
    """A shard cannot be read."""

    exit_code = 3


class ResultsError(ScannerError):
    """A results folder is missing, unreadable or of another kind."""


class IncompleteError(ScannerError):
    """Work ended with something missing."""

    exit_code = 3


class ClusterError(ScannerError):
    """Processes or nodes went away faster than they could be replaced."""

    exit_code = 4


class ClusterLostError(ClusterError):
    """The Ray cluster that this process is connected to does not answer any more."""


class DeviceError(ClusterError):
    """A device is too small for the work, or its memory is taken."""


class LeaseError(ScannerError):
    """Another process took over while this one stood still."""

    exit_code = 4
