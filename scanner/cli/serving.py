"""``serve``: results in a browser."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanner import files
from scanner.cli import options, progress
from scanner.errors import ConfigError

if TYPE_CHECKING:
    from scanner.serve.gate import Access
    from scanner.serve.source import Source

NEEDED = ("starlette", "uvicorn")
PORT = 8765


def serve(
    results: options.Results,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = PORT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reached from here alone.")
    ] = "127.0.0.1",
    no_token: Annotated[
        bool,
        typer.Option("--no-token", help="Let whoever reaches it in; for a loopback address alone."),
    ] = False,
    behind_proxy: Annotated[
        str,
        typer.Option(
            help="The address under which a proxy shows it, such as https://host.example/memscan: "
            "links begin with its path, and its name is answered to. No header that a proxy adds "
            "is read.",
            show_default=False,
        ),
    ] = "",
    marks: Annotated[
        Path | None,
        typer.Option(
            help="The file of marks; by default marks.jsonl in the results or the audit's state. "
            "Results in a bucket need one.",
            show_default=False,
        ),
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Read no training image: no shard is opened.")
    ] = False,
    run: options.Run = None,
) -> None:
    r"""Show results in a browser: search, pictures and maps, comparison, SQL, marks.

    A local web application, also while a scan writes into the results. It prints a link with a
    token, which signs a browser in. Ctrl-C ends it. Needs `pip install 'memscan[serve]'`.

    Example:
        memscan serve results
    """
    _check_installed()
    from scanner.serve import application
    from scanner.serve.gate import Access

    if marks is not None:
        files.check_file(marks, "--marks")
    access = Access(host=host, port=port, public=behind_proxy)
    if no_token:
        access = replace(access, token=None)
    source = _source(results, run, images=not no_images)
    with application.listening(host, port) as listener:
        access = replace(access, port=listener.getsockname()[1])
        progress.note(f"reading the captions of {source.results.root}")
        app = application.application(source, access, marks)
        application.run(app, listener, lambda: _say(access))


def _check_installed() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"memscan serve needs {' and '.join(missing)}: pip install 'memscan[serve]'"
        )


def _source(place: str, runs: list[str] | None, *, images: bool) -> "Source":
    """Return what is shown, read as far as to know that it can be."""
    from scanner.cli.selection import selected_one
    from scanner.nightly.state import AuditState
    from scanner.serve.source import Source

    chosen = selected_one(place, runs)
    state = None if "://" in place else AuditState.around(Path(place))
    return Source(chosen.store, state, run=chosen.run if runs else None, images=images)


def _say(access: "Access") -> None:
    from scanner.serve.gate import is_loopback

    progress.say(f"open {access.url()}")
    if not is_loopback(access.host) and not access.public:
        progress.note("without https, whoever sees the network's traffic sees pages and token")
    if access.public:
        progress.note(
            f"behind a proxy: {access.public} is answered to; X-Forwarded-* and the like are not "
            f"read"
        )
    progress.note("Ctrl-C ends it")
