"""Progress bars: rich on a terminal, tqdm in a notebook."""

import sys
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from scanner.engine.job import Event


class Meter:
    """Takes in how far it is, and shows nothing.

    Args:
        title: What is done.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def __call__(self, done: int, total: int) -> None:
        """Take in that ``done`` of ``total`` are done."""

    def on_event(self, event: Event) -> None:
        """Take in an event of a scan."""
        self(event.samples_done, event.samples_total)


class _Bar(Meter):
    """Shows it with a bar.

    Args:
        title: What is done.
        bar: A bar of tqdm's.
    """

    def __init__(self, title: str, bar: Any) -> None:
        super().__init__(title)
        self._bar = bar

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)


class _Line(Meter):
    """Shows it with a bar of rich's.

    Args:
        title: What is done.
        bars: A `rich.progress.Progress`.
    """

    def __init__(self, title: str, bars: Any) -> None:
        super().__init__(title)
        self._bars, self._task = bars, bars.add_task(title, total=None)

    def __call__(self, done: int, total: int) -> None:
        self._bars.update(self._task, completed=done, total=total or None)


@contextmanager
def shown(title: str, wanted: bool | None) -> Generator[Meter]:
    """Show how far a piece of work is, on the standard error.

    Args:
        title: What is done.
        wanted: Whether to; null shows it in a notebook and on a terminal, not to a file.
    """
    in_notebook = "ipykernel" in sys.modules
    if wanted is None:
        wanted = in_notebook or sys.stderr.isatty()
    if not wanted:
        yield Meter(title)
    elif in_notebook:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it draws with characters
            from tqdm.auto import tqdm

            bar = tqdm(desc=title, unit="caption")
        with bar:
            yield _Bar(title, bar)
    else:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bars:
            yield _Line(title, bars)
