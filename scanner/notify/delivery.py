"""Sending that fails now and then: repeated for a while, never for longer, and without a word.

Libraries that send write addresses into their logs, and addresses hold secrets: what they say is
not heard. An error is told by its kind and its HTTP status alone.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping

from scanner.retry import is_transient, with_retries

SECONDS = 60.0
"""Seconds that all sending together may take; ``MEMSCAN_NOTIFY_PATIENCE`` overrides it."""
TIMEOUT = (5.0, 10.0)
"""Seconds until a connection is there, and without a byte until a server counts as gone."""
_LOUD = ("apprise", "openlineage", "requests", "urllib3")

Send = Callable[[], None]
"""Sends one thing, or raises `NotSentError`."""
Say = Callable[[str, bool], None]
"""Takes a line for the person who waits, and whether it is of a failure."""


class NotSentError(ConnectionError):
    """Something was not sent.

    Args:
        why: In words, without any part of the address.
        status: The HTTP status that was answered; null if nothing was.
        passes: Whether another attempt may succeed where there is no status.
    """

    def __init__(self, why: str, status: int | None = None, *, passes: bool = True) -> None:
        super().__init__(why if status is None else f"HTTP status {status}")
        self.status, self.passes = status, passes

    @property
    def may_pass(self) -> bool:
        """Whether another attempt may succeed."""
        return self.passes if self.status is None else is_transient(_Status(self.status))


class _Status(Exception):  # noqa: N818 - never raised: what `is_transient` looks at
    def __init__(self, status: int) -> None:
        self.status = status


def patience() -> float:
    """Return how many seconds all sending together may take."""
    try:
        return max(1.0, float(os.environ.get("MEMSCAN_NOTIFY_PATIENCE", "")))
    except ValueError:
        return SECONDS


def silence() -> None:
    """Keep libraries that send from writing addresses into any log, in this process."""
    for name in _LOUD:
        logger = logging.getLogger(name)
        logger.propagate = False
        if not logger.handlers:  # without one, warnings go to the standard error
            logger.addHandler(logging.NullHandler())


def sent(sends: Mapping[str, Send], seconds: float | None = None) -> dict[str, str]:
    """Send all at once, each again while that may help.

    A thread that is still at it when the time is over is left behind: it holds no exit up.

    Args:
        sends: What to send, by the name of whom it is for.
        seconds: How long all of it may take; `patience` by default.

    Returns:
        Why it failed, by name, without secrets; nothing for those that were sent.
    """
    limit = patience() if seconds is None else seconds
    until, found = time.monotonic() + limit, dict[str, str]()
    threads = {
        name: threading.Thread(
            target=_try, args=(name, send, limit, found), name="memscan-notify", daemon=True
        )
        for name, send in sends.items()
    }
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            found[name] = f"no answer within {limit:g} s"
    return {name: why for name, why in dict(found).items() if why}


def _try(name: str, send: Send, seconds: float, found: dict[str, str]) -> None:
    try:
        with_retries(send, seconds=seconds, passes=_may_pass)
    except NotSentError as error:
        tried = f", tried for {seconds:g} s" if error.may_pass else ""
        found.setdefault(name, f"{error}{tried}")
    except Exception as error:  # noqa: BLE001 - its text may hold the address
        found.setdefault(name, type(error).__name__)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, NotSentError) and error.may_pass
