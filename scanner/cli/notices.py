"""Everyone who is told of one command, from its start to its end."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanner.cli import progress
from scanner.errors import ConfigError

if TYPE_CHECKING:
    from scanner.cli.live import Listener
    from scanner.engine.job import Event, Job, Summary
    from scanner.nightly.audit import AuditResult
    from scanner.nightly.policy import NotifyRule
    from scanner.nightly.state import AuditState
    from scanner.notify.audience import Audience
    from scanner.notify.callbacks import Callback
    from scanner.notify.messages import Messages
    from scanner.results.stores import Store

VARIABLE, WEBHOOK = "MEMSCAN_NOTIFY", "MEMSCAN_WEBHOOK"
"""Environment variables with addresses, a space between them."""
MOST_BYTES = 2**20
"""Of a file of addresses."""


class Notices:
    """Everyone who is told of one command, from its start to its end.

    Secrets that were typed are taken out of the arguments of this process.

    Args:
        command: ``audit`` or ``scan``.
        place: Folder or address of the results; of an audit, the state folder.
        asked: The command's options.
        rule: Of which outcomes people are told; null for all.
        ledger: Where it is remembered what was told, or null.

    Raises:
        ConfigError: If an address or a callback is none, or its package is not installed.
    """

    def __init__(
        self, command: str, place: str, asked: Mapping[str, Any],
        rule: "NotifyRule | None" = None, ledger: "Store | None" = None,
    ) -> None:  # fmt: skip
        self._command, self._place, self._asked = command, place, asked
        self._link = _link(asked["notify_link"])
        self._started, self._begun = (
            datetime.now(UTC).isoformat(timespec="seconds"),
            time.monotonic(),
        )
        self._model, self._last = "", None
        self._audience = _audience(asked, self._say, rule, ledger)

    @contextmanager
    def around(self, name: Callable[[], str] = lambda: "") -> Iterator[None]:
        """Tell of an end without an outcome, whatever it is.

        Args:
            name: Returns what the outcome is called.
        """
        try:
            yield
        except KeyboardInterrupt:
            self._ended("INTERRUPTED", "it was interrupted", 130, "")
            raise
        except Exception as error:
            if self._audience:
                from scanner.notify.outcome import reason

                code = int(getattr(error, "exit_code", 1))
                self._ended("FAILED", reason(error), code, name())
            raise

    def started(self, job: "Job") -> None:
        """Tell that a job is about to run."""
        self._model = job.model
        if self._audience:
            from scanner.notify.outcome import Start

            self._audience.started(Start.of_job(self._command, self._place, job))

    def hearing(self, heard: "Listener") -> "Listener":
        """Return what hears events, and tells of them."""
        audience = self._audience
        if audience is None:
            return heard

        def both(event: "Event") -> None:
            self._last = event
            heard(event)
            audience.progress(event)

        return both

    def night(self, state: "AuditState", done: "AuditResult", *, redact: bool) -> None:
        """Tell what came of an audit."""
        if self._audience:
            from scanner.notify.outcome import of_night

            name = done.night.name
            link = f"{self._link}/audits/{name}/report.html" if self._link else ""
            outcome = of_night(
                done.night, str(done.folder), model=self._model, link=link,
                captions=self._asked["notify_captions"] and not redact,
            )  # fmt: skip
            with state.here(name) as folder:
                self._audience.finished(outcome, folder)

    def scan(self, job: "Job", summary: "Summary") -> None:
        """Tell what came of a scan."""
        if self._audience:
            from scanner.notify.scanned import outcome_of

            try:
                outcome = outcome_of(job, summary, captions=self._asked["notify_captions"])
            except Exception as error:  # noqa: BLE001 - the scan ended well
                why = f"it ended, but what it flags cannot be read ({type(error).__name__})"
                self._say(f"the scan is told as FAILED: {why}", True)
                self._ended("FAILED", why, 0 if summary.is_complete else 3, summary.run)
                return
            told = replace(outcome, link=self._link, started=self._started)
            self._audience.finished(told, None)

    def _ended(self, word: str, why: str, code: int, name: str) -> None:
        if self._audience:
            from scanner.notify.outcome import Outcome

            run = "" if self._last is None else self._last.run
            outcome = Outcome(
                command=self._command, name=name or run, word=word, why=why, exit_code=code,
                place=self._place, link=self._link, run=run, model=self._model,
                started=self._started, seconds=round(time.monotonic() - self._begun, 3),
            )  # fmt: skip
            self._audience.finished(outcome, None)

    def _say(self, text: str, is_failure: bool) -> None:
        """Say it to the person who waits, and keep it in the log of events."""
        progress.note(f"memscan: {text}" if is_failure else text)
        if self._asked["events"] is None:
            return
        from scanner.cli.events import EventLog
        from scanner.engine.job import Event

        last = self._last or Event("notify", 0, 0, 0, 0)
        told = replace(
            last, kind="notify", text=text, time=time.time(), shard="", chunk="", actor="",
            counts={},
        )  # fmt: skip
        with suppress(ConfigError, OSError), EventLog(self._asked["events"]) as log:
            log(told)


def _audience(
    asked: Mapping[str, Any], say: Callable[[str, bool], None], rule: "NotifyRule | None",
    ledger: "Store | None",
) -> "Audience | None":  # fmt: skip
    """Return everyone who is told, null for nobody."""
    is_ci = asked["ci"] and os.environ.get("GITHUB_ACTIONS") == "true"
    if not (is_ci or any(asked[name] for name in ("callback", "openlineage", *_ADDRESSES))):
        return None
    from scanner.notify.audience import Audience

    return Audience(list(_members(asked, say, rule, ledger, is_ci=is_ci)), say)


_ADDRESSES = ("notify", "notify_file", "webhook")


def _members(
    asked: Mapping[str, Any], say: Callable[[str, bool], None], rule: "NotifyRule | None",
    ledger: "Store | None", *, is_ci: bool,
) -> "Iterator[tuple[str, Callback]]":  # fmt: skip
    messages = messages_of(asked, say, rule, ledger)
    if asked["openlineage"] and (lineage := _lineage(asked["openlineage"])) is not None:
        yield "openlineage", lineage
    for name in dict.fromkeys(asked["callback"] or ()):
        from scanner.notify.callbacks import load

        yield name, load(name)
    if is_ci:
        from scanner.notify.github import GitHub

        yield "github", GitHub()
    if messages is not None:
        yield "notify", messages


def _lineage(url: str) -> "Callback | None":
    """Return what tells a lineage server; null where a variable names one that cannot be told.

    Raises:
        ConfigError: If the option names one that cannot be told.
    """
    from scanner.notify.argument_list import hide
    from scanner.notify.lineage import DISABLED, URL, Lineage

    hide([url])
    if os.environ.get(DISABLED, "").lower() == "true":
        return None
    try:
        return Lineage(url)
    except ConfigError as error:
        if url != os.environ.get(URL):
            raise
        progress.note(f"{URL} is set, but no run events are sent: {error}")
        return None


def messages_of(
    asked: Mapping[str, Any], say: Callable[[str, bool], None], rule: "NotifyRule | None",
    ledger: "Store | None",
) -> "Messages | None":  # fmt: skip
    """Return what tells people and programs, null for nobody; secrets leave the environment."""
    if not any(asked[name] for name in _ADDRESSES):
        return None
    from scanner.notify import webhook as webhooks
    from scanner.notify.argument_list import hide
    from scanner.notify.channels import Channel
    from scanner.notify.messages import Messages

    hide([*(asked["notify"] or ()), *(asked["webhook"] or ())])
    secret = os.environ.get(webhooks.SECRET, "")
    for variable in (VARIABLE, WEBHOOK, webhooks.SECRET):
        os.environ.pop(variable, None)  # workers need them not
    named = [(url, "--notify") for url in asked["notify"] or ()]
    named += _lines(asked["notify_file"]) if asked["notify_file"] is not None else []
    channels = [Channel(url, where) for url, where in named]
    hooks = [webhooks.Webhook(url, secret) for url in asked["webhook"] or ()]
    return Messages(channels, hooks, say, rule, ledger)


def _lines(path: Path) -> list[tuple[str, str]]:
    """Return addresses of a file, each with its place; blank lines and comments are none.

    Raises:
        ConfigError: If it cannot be read as text, is too large, or has none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"--notify-file {path} cannot be read: {why}") from None
    found = [
        (line.strip(), f"line {number} of --notify-file {path}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(content) > MOST_BYTES or not found:
        raise ConfigError(f"--notify-file {path} must have an address a line, in at most 1 MiB")
    return found


def _link(base: str | None) -> str:
    """Return the web address under which a folder is published, without a slash behind.

    Raises:
        ConfigError: If it is no plain web address.
    """
    if not base:
        return ""
    from urllib.parse import urlsplit

    from scanner.signed import has_user, redacted

    try:
        parts = urlsplit(base)
        is_plain = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        parts, is_plain = None, False
    if not is_plain or parts is None or parts.query or parts.fragment or has_user(base):
        raise ConfigError(
            f"--notify-link must be a web address without user, query or fragment, which everyone "
            f"may see, got {redacted(base).partition('?')[0]}"
        )
    return base.rstrip("/")
