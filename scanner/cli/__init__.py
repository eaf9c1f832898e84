"""The command line: parse, call one function, print, exit status. Starts without torch or Ray."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from scanner import __version__, files
from scanner.cli import (
    benchmark,
    checks,
    choosing,
    confirming,
    inspecting,
    jobs,
    nightly,
    notifying,
    planning,
    progress,
    rates,
    recalibrating,
    removing,
    reports,
    reproducing,
    results,
    scanning,
    serving,
    settings,
    shards,
    testbed,
    upkeep,
)
from scanner.cli.application import App
from scanner.errors import ClusterLostError, ExitCode, ScannerError
from scanner.signed import redacted
from scanner.text import visible

UNWRITABLE = (*files.FULL, errno.EFBIG, errno.EIO)
"""Errors of an output that takes no more."""

app = App(
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
        progress.say(f"memscan {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A file of options, by default memscan.toml in the working directory, if it is "
            "there.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Which captions make a text-to-image model give a training image back, and where."""
    settings.apply_file(context, config)


app.command()(testbed.demo)
app.command()(planning.plan)
app.command()(scanning.scan)
app.command()(scanning.calibrate)
app.command()(recalibrating.recalibrate)
app.command()(rates.rates)
app.command()(results.query)
app.command()(results.show)
app.command("eval")(results.evaluate)
app.command()(reproducing.reproduce)
app.command()(confirming.confirm)
app.command()(choosing.choose)
app.command()(results.runs)
app.command()(results.verify)
app.command()(upkeep.compact)
app.command()(reports.report)
app.command()(serving.serve)
app.command()(reports.diff)
app.command()(reports.export)
app.command()(reports.retrieve)
app.command()(removing.removal)
app.command()(nightly.audit)
app.command()(nightly.mute)
app.command()(notifying.notify)
app.command()(checks.doctor)
app.command()(inspecting.inspect)
app.command()(jobs.submit)
app.add_typer(jobs.app, name="jobs")
app.add_typer(shards.app, name="shards")
app.add_typer(testbed.app, name="testbed")
app.add_typer(benchmark.app, name="benchmark")


def _end(code: int) -> NoReturn:
    """End the process without Ray's exit handlers, which wait for a cluster that is gone."""
    _with_output_flushed(code)
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Run the command line; every error that a user can act on is one line and an exit code."""
    sys.exit(_with_output_flushed(_run()))


def _run() -> int | str | None:
    try:
        return app(standalone_mode=True)
    except ScannerError as error:
        _say(redacted(str(error)))
        if isinstance(error, ClusterLostError):
            _end(error.exit_code)
        return error.exit_code
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # what DuckDB makes of Ctrl-C in the main thread
            raise
        _interrupted()
        return ExitCode.INTERRUPTED
    except SystemExit as left:
        return _exit_status(left)
    except BrokenPipeError:
        return ExitCode.OK
    except OSError as error:
        return _output_failed(error)


def _output_failed(error: OSError) -> ExitCode:
    """Say that standard output cannot be written; raise what is another error."""
    # Files have errors of their own: see `scanner.files`. What is left is standard output.
    if error.filename is not None or error.errno not in UNWRITABLE:
        raise error
    _say(f"standard output cannot be written: {files.explain(error)}")
    files.discard(sys.stdout)
    return ExitCode.REFUSED


def _exit_status(left: SystemExit) -> int | str | None:
    """Return the exit code that Typer's exit stands for."""
    # Typer makes an exit of an interruption, and says nothing.
    if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
        _interrupted()
    # Typer exits with 1 when the reader of a pipe is gone; here that would be an alarm.
    return ExitCode.OK if isinstance(left.__context__, BrokenPipeError) else left.code


def _interrupted() -> None:
    _say("interrupted; run the same command again to resume", None)
    # An interrupt inside an import leaves Python a mark to die by the signal at exit, which this
    # removes: the exit code is 130 for parents that see the difference.
    exec("")  # noqa: S102


def _with_output_flushed(status: int | str | None) -> int | str | None:
    """Flush standard output here, where it can still be said that it failed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        files.discard(sys.stdout)
    except OSError as error:
        files.discard(sys.stdout)
        _say(f"standard output cannot be written: {files.explain(error)}")
        return status or ExitCode.REFUSED
    return status


def _say(text: str, colour: str | None = "red") -> None:
    with suppress(OSError):
        typer.secho(visible(f"memscan: {text}", keep="\n"), fg=colour, err=True)
