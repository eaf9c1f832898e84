"""The command line: parse, call one function, print, exit status. Starts without torch or Ray."""

import sys
from typing import Annotated

import typer

from scanner import __version__
from scanner.cli import (
    benchmark,
    checks,
    choosing,
    inspect,
    jobs,
    nightly,
    planning,
    reports,
    scanning,
    shards,
    testbed,
    upkeep,
)
from scanner.errors import ScannerError

app = typer.Typer(
    name="memscan",
    help="Which captions make a text-to-image model give a training image back, and where.",
    epilog="Begin with: memscan demo",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memscan {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which captions make a text-to-image model give a training image back, and where."""


app.command()(testbed.demo)
app.command()(planning.plan)
app.command()(scanning.scan)
app.command()(scanning.calibrate)
app.command()(inspect.query)
app.command()(inspect.show)
app.command("eval")(inspect.evaluate)
app.command()(choosing.choose)
app.command()(inspect.runs)
app.command()(inspect.verify)
app.command()(upkeep.compact)
app.command()(reports.report)
app.command()(reports.diff)
app.command()(reports.export)
app.command()(reports.retrieve)
app.command()(nightly.audit)
app.command()(nightly.mute)
app.command()(checks.doctor)
app.command()(checks.inspect)
app.command()(jobs.submit)
app.add_typer(jobs.app, name="jobs")
app.add_typer(shards.app, name="shards")
app.add_typer(testbed.app, name="testbed")
app.add_typer(benchmark.app, name="benchmark")


def main() -> None:
    """Run the command line; every error that a user can act on is one line and an exit code."""
    try:
        status = app(standalone_mode=True)
    except ScannerError as error:
        typer.secho(f"memscan: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except SystemExit as left:
        # Typer makes an exit of an interruption, and says nothing.
        if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
            typer.secho("memscan: interrupted; run the same command again to resume", err=True)
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status)
