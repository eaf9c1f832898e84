"""``--profile``: the file that a trace goes to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scanner import files
from scanner.activity import Trace
from scanner.cli import progress
from scanner.errors import ConfigError, OutputError

ENDING = ".json.gz"
OPENED = "open it at https://ui.perfetto.dev or chrome://tracing"


def check(path: Path | None, out: str) -> None:
    """Refuse a trace that cannot be written, or would be a file among results.

    Args:
        path: What ``--profile`` says; null for none.
        out: The results: a folder or an address.

    Raises:
        ConfigError: If so, or its name is not one of a trace: then it may be another file's.
    """
    if path is None:
        return
    files.check_file(path, "--profile")
    if not path.name.endswith(ENDING):
        raise ConfigError(
            f"--profile {path} must end in {ENDING}, which is what a trace is: name a file such "
            f"as trace{ENDING}"
        )
    if "://" not in out and path.resolve().is_relative_to(Path(out).expanduser().resolve()):
        raise ConfigError(f"--profile {path} lies in the results {out}: name a file elsewhere")


@contextmanager
def written(path: Path | None) -> Iterator[Callable[[Trace], None] | None]:
    """Provide what takes traces of a scan; the last one is written when the scan ends.

    Also when it fails: then a trace that cannot be written either is only said.

    Args:
        path: Where to; null provides null.

    Raises:
        OutputError: If it cannot be written.
    """
    if path is None:
        yield None
        return
    traces = list[Trace]()

    def heard(trace: Trace) -> None:
        traces[:] = [trace]

    try:
        yield heard
    except BaseException:
        try:
            _write(path, traces)
        except OutputError as error:
            progress.note(str(error))
        raise
    _write(path, traces)


def _write(path: Path, traces: list[Trace]) -> None:
    if not traces:
        progress.note(f"no trace in {path}: nothing was left to scan, or its actor was lost")
        return
    trace = traces[0]
    if trace.problem:
        progress.note(trace.problem)
    if not trace.batches:
        return
    files.write(path, trace.content)
    progress.note(f"trace of {trace.words()} in {path}: {OPENED}")
    if trace.cold:
        progress.note(
            f"a first batch of {', '.join(trace.cold)} warms up and takes longer: more captions or "
            f"a smaller --batch-size give later ones"
        )
