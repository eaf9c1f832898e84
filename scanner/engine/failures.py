"""Errors as values that cross processes."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from scanner.errors import ConfigError, DeviceError, ResultsError, ScannerError, ShardError
from scanner.signed import redacted

T = TypeVar("T")

EXPECTED_ERRORS = (ConfigError, ResultsError, ShardError, DeviceError)
"""Errors that the driver handles by their type."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error in a process that survived it.

    Attributes:
        error: The exception that it is to the driver, or null for one that nobody foresaw.
        text: One line.
        details: The traceback, where the exception was not foreseen.
        usable: Whether the process can be trusted with further work.
    """

    error: type[ScannerError] | None
    text: str
    details: str = ""
    usable: bool = True


def value_or_failure(work: Callable[[], T]) -> T | Failure:
    """Return what work returns, or its failure as a value that crosses processes."""
    try:
        return work()
    except EXPECTED_ERRORS as error:
        return Failure(next(k for k in EXPECTED_ERRORS if isinstance(error, k)), str(error))
    except Exception as error:  # noqa: BLE001 - the edge of the process: what is not caught here is lost
        text = redacted(f"{type(error).__name__}: {error}")
        return Failure(None, text, redacted(traceback.format_exc()))
