"""Messages to people, by Apprise: chats, mail and whatever else has an Apprise address."""

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scanner.errors import ConfigError
from scanner.notify.delivery import NotSentError, silence

if TYPE_CHECKING:
    from apprise import Apprise

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")
_STATUS = re.compile(r"error=(\d{3})\b")
TONES = {"ALARM": "failure", "FOUND": "failure", "FAILED": "failure", "CLEAR": "success",
         "TEST": "info"}  # fmt: skip
"""What Apprise calls the tone of a word; the others are warnings."""


class Channel:
    """One address of a person or a chat.

    Args:
        url: An Apprise address, which holds a secret as a rule.
        where: What named it, for the error: ``--notify`` or a file and a line.

    Raises:
        ConfigError: If Apprise is not installed or makes nothing of the address; the text names
            the scheme alone.
    """

    def __init__(self, url: str, where: str = "--notify") -> None:
        self.scheme = scheme_of(url)
        self._told = _apprise()
        with _statuses():
            is_known = self._told.add([url])  # a list, so that no comma splits it
        if not is_known:
            raise ConfigError(
                f"{where} must be an address that Apprise knows, such as slack://… or "
                f"mailtos://…, got {self._of()}: docs/notify.md lists some"
            )

    def _of(self) -> str:
        return f"an incomplete or unknown {self.scheme}://…" if self.scheme else "one without ://"

    def send(self, title: str, body: str, word: str) -> None:
        """Send a message.

        Args:
            title: Its first line.
            body: The rest, plain text.
            word: The outcome's.

        Raises:
            NotSentError: If it was not taken.
        """
        with _statuses() as statuses:
            done = self._told.notify(
                body=body, title=title, body_format="text",  # pyright: ignore[reportArgumentType]
                notify_type=TONES.get(word, "warning"),  # pyright: ignore[reportArgumentType]
            )  # fmt: skip
        if not done:
            raise NotSentError("no answer, or a refusal", statuses[-1] if statuses else None)


def scheme_of(url: str) -> str:
    """Return what stands before ``://``, in small letters; ``""`` without one."""
    found = _SCHEME.match(url.strip())
    return found[1].lower() if found else ""


def names(schemes: Sequence[str]) -> list[str]:
    """Return a name for each of these, which holds no secret: a scheme, numbered if it repeats."""
    seen, found = dict[str, int](), list[str]()
    for scheme in schemes:
        seen[scheme] = seen.get(scheme, 0) + 1
        found.append(scheme if seen[scheme] == 1 else f"{scheme} {seen[scheme]}")
    return found


def _apprise() -> "Apprise":
    """Return an Apprise that sends in the thread that asks, and follows no redirect.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import apprise
    except ImportError as error:
        raise ConfigError(
            "--notify needs the package apprise: pip install 'memscan[notify]'"
        ) from error
    asset = apprise.AppriseAsset(
        app_id="memscan", app_desc="memscan", async_mode=False, secure_logging=True,
        http_redirects=False, service_timeout=0,  # else in a thread that holds the exit up
    )  # fmt: skip
    return apprise.Apprise(asset=asset)


class _Statuses(logging.Handler):
    """Reads HTTP statuses out of Apprise's log, which alone has them, and lets nothing through."""

    def __init__(self) -> None:
        super().__init__()
        self.found, self._thread = list[int](), threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and (found := _STATUS.search(record.getMessage())):
            self.found.append(int(found[1]))


@contextmanager
def _statuses() -> Iterator[list[int]]:
    """Give the statuses that servers answered in this thread; the log reaches nobody else."""
    silence()
    logger, heard = logging.getLogger("apprise"), _Statuses()
    logger.setLevel(logging.WARNING)
    logger.addHandler(heard)
    try:
        yield heard.found
    finally:
        logger.removeHandler(heard)
