"""START and COMPLETE, FAIL or ABORT of a scan, as OpenLineage has them."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from scanner import __version__
from scanner.errors import ConfigError
from scanner.notify.delivery import NotSentError, sent, silence
from scanner.notify.outcome import FAILED, INTERRUPTED, Outcome, Start
from scanner.notify.webhook import check_web
from scanner.signed import redacted

URL, API_KEY = "OPENLINEAGE_URL", "OPENLINEAGE_API_KEY"
ENDPOINT, NAMESPACE = "OPENLINEAGE_ENDPOINT", "OPENLINEAGE_NAMESPACE"
DISABLED = "OPENLINEAGE_DISABLED"
"""Environment variables, of OpenLineage's own names."""
MOST_INPUTS = 100
"""Input datasets of an event; of more shards, their folders are named instead."""
_START_SECONDS, _INTERRUPT_SECONDS = 15.0, 5.0
_PRODUCER = f"https://pypi.org/project/memscan/{__version__}"
_ENDS = {FAILED: "FAIL", INTERRUPTED: "ABORT"}


class Lineage:
    """Tells a lineage server of a run; a `Callback`.

    Args:
        url: The server's address.

    Raises:
        ConfigError: If it is no web address, or the client is not installed.
    """

    def __init__(self, url: str) -> None:
        check_web(url, "--openlineage")
        try:
            from openlineage.client import transport
            from openlineage.client.uuid import generate_new_uuid
        except ImportError as error:
            raise ConfigError(
                "--openlineage needs the package openlineage-python: pip install "
                "'memscan[openlineage]'"
            ) from error
        silence()
        key = os.environ.get(API_KEY, "")
        content: dict[str, Any] = {
            "url": url, "retry": {"total": 0}, "timeout": 5.0,
            "endpoint": os.environ.get(ENDPOINT) or "api/v1/lineage",
        } | ({"auth": {"type": "api_key", "apiKey": key}} if key else {})  # fmt: skip
        self._transport = transport.HttpTransport(transport.HttpConfig.from_dict(content))
        self._run, self._start = str(generate_new_uuid()), None

    def started(self, start: Start) -> None:
        """Send START.

        Raises:
            NotSentError: If it was not taken.
        """
        self._start = start
        self._send("START", start, seconds=_START_SECONDS)

    def progress(self, event: object) -> None:
        """Do nothing."""

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Send how it ended.

        Raises:
            NotSentError: If it was not taken.
        """
        if self._start is not None:
            seconds = _INTERRUPT_SECONDS if outcome.word == INTERRUPTED else None
            self._send(_ENDS.get(outcome.word, "COMPLETE"), self._start, outcome, seconds)

    def _send(
        self, kind: str, start: Start, outcome: Outcome | None = None, seconds: float | None = None
    ) -> None:
        event = _event(kind, self._run, start, outcome)

        def post() -> None:
            try:
                self._transport.emit(event)
            except Exception as error:  # noqa: BLE001 - the client raises several
                answer = getattr(error, "response", None)
                status = getattr(answer, "status_code", None)
                raise NotSentError(type(error).__name__, status) from None

        if why := sent({"openlineage": post}, seconds).get("openlineage"):
            raise NotSentError(f"{kind} was not sent: {why}")


def _event(kind: str, run: str, start: Start, outcome: Outcome | None) -> Any:
    """Return an event of the client's own class."""
    from openlineage.client import event_v2, facet_v2

    facets: dict[str, Any] = {}
    if outcome is not None and outcome.word == FAILED:
        facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(
            message=outcome.why, programmingLanguage="python"
        )
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", PurePosixPath(start.place).name) or "results"
    return event_v2.RunEvent(
        eventType=event_v2.RunState(kind), eventTime=datetime.now(UTC).isoformat(),
        run=event_v2.Run(runId=run, facets=facets),
        job=event_v2.Job(
            namespace=os.environ.get(NAMESPACE) or "memscan", name=f"{start.command}.{name}"
        ),
        inputs=[event_v2.InputDataset(*dataset(url)) for url in inputs(start.shards)],
        outputs=[event_v2.OutputDataset(*dataset(start.place))], producer=_PRODUCER,
    )  # fmt: skip


def inputs(shards: tuple[str, ...]) -> list[str]:
    """Return the addresses of a corpus as datasets: its shards, or of many their folders."""
    if len(shards) <= MOST_INPUTS:
        return list(shards)
    return list(dict.fromkeys(url.rpartition("/")[0] or "/" for url in shards))[:MOST_INPUTS]


def dataset(address: str) -> tuple[str, str]:
    """Return namespace and name of an address, as OpenLineage's naming has them.

    Example:
        >>> dataset("s3://laion/a/00.tar"), dataset("/data/b.tar")
        (('s3://laion', 'a/00.tar'), ('file', '/data/b.tar'))
    """
    address = redacted(address)
    if "://" not in address:
        return "file", str(Path(address).absolute())
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/"
