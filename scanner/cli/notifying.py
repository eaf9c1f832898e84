"""``notify``, and the options of who is told how a scan or an audit ended."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from scanner.cli import progress
from scanner.cli.notices import VARIABLE, WEBHOOK, messages_of
from scanner.errors import ConfigError, IncompleteError

PANEL = "Who is told"

Notify = Annotated[
    list[str] | None,
    typer.Option(
        envvar=VARIABLE, show_default=False, rich_help_panel=PANEL,
        help="An Apprise address of people to tell at the end: slack://…, mailtos://…; repeat for "
        "several. It holds a secret: better in the variable or in --notify-file.",
    ),
]  # fmt: skip
NotifyFile = Annotated[
    Path | None,
    typer.Option(
        help="A file of such addresses, one a line.", show_default=False, rich_help_panel=PANEL
    ),
]
NotifyCaptions = Annotated[
    bool,
    typer.Option("--notify-captions", help="Tell captions too, cleaned.", rich_help_panel=PANEL),
]
NotifyLink = Annotated[
    str | None,
    typer.Option(
        help="Web address under which the state folder (of a scan: the results) is published; "
        "messages then link to it.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Webhook = Annotated[
    list[str] | None,
    typer.Option(
        envvar=WEBHOOK, show_default=False, rich_help_panel=PANEL,
        help="An https address that gets the outcome as JSON, signed with MEMSCAN_WEBHOOK_SECRET "
        "where that is set; repeat for several.",
    ),
]  # fmt: skip
OpenLineage = Annotated[
    str | None,
    typer.Option(
        "--openlineage", envvar="OPENLINEAGE_URL", show_default=False, rich_help_panel=PANEL,
        help="A lineage server that gets run events (pip install 'memscan[openlineage]').",
    ),
]  # fmt: skip
Callbacks = Annotated[
    list[str] | None,
    typer.Option(
        "--callback", show_default=False, rich_help_panel=PANEL,
        help="Log the run with `mlflow`, `wandb`, or a callback of another package; repeat for "
        "several.",
    ),
]  # fmt: skip
Ci = Annotated[
    bool,
    typer.Option(
        "--ci/--no-ci", rich_help_panel=PANEL,
        help="In a GitHub workflow, annotate it and fill the summary of its step.",
    ),
]  # fmt: skip


def notices(
    notify: Notify = None,
    notify_file: NotifyFile = None,
    notify_captions: NotifyCaptions = False,
    notify_link: NotifyLink = None,
    webhook: Webhook = None,
    openlineage: OpenLineage = None,
    callback: Callbacks = None,
    ci: Ci = True,
) -> None:
    """Declare the options of who is told."""


def notify(
    url: Annotated[
        list[str] | None,
        typer.Argument(
            envvar=VARIABLE, show_default=False, help="Apprise addresses: slack://…, mailtos://…."
        ),
    ] = None,
    notify_file: NotifyFile = None,
    webhook: Webhook = None,
) -> None:
    r"""Send a test message, to see that addresses work.

    Addresses hold secrets: give them in MEMSCAN_NOTIFY or in a file. Exit codes: 0 all were told, 2
    an address is none, 3 somebody could not be told.

    Example:
        MEMSCAN_NOTIFY='mailtos://user:password@example.org' memscan notify
    """
    from scanner.notify.outcome import Outcome

    failed = list[str]()

    def say(text: str, is_failure: bool) -> None:
        progress.say(text)
        failed.extend([text] * is_failure)

    asked = {"notify": url, "notify_file": notify_file, "webhook": webhook}
    messages = messages_of(asked, say, None, None)
    if messages is None:
        raise ConfigError(
            f"nobody to tell: give an address, {VARIABLE}, --notify-file or --webhook"
        )
    why = "this is a test message, nothing was scanned"
    told = Outcome(command="notify", name="", word="TEST", why=why, exit_code=0, place="")
    messages.finished(replace(told, started=datetime.now(UTC).isoformat()), None)
    if failed:
        raise IncompleteError(f"{len(failed)} of the addresses could not be told")
