"""Progress on the standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 20.0


class Meter(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, done: int, total: int, word: str = "") -> None:
        """Show that ``done`` of ``total`` are done."""
        ...


@contextmanager
def meter(title: str) -> Iterator[Meter]:
    """Show one piece of work."""
    if sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield _Lines(title)


def note(text: str) -> None:
    """Print a line for the person who waits; where it cannot be printed, go on without."""
    with suppress(OSError):
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)


def _bar(title: str) -> Iterator[Meter]:
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.fields[word]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(title, total=None, rate="", word="")

        def show(done: int, total: int, word: str = "") -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:.1f}/s" if speed else ""
            progress.update(task, completed=done, total=total, rate=rate, word=word)

        yield show


class _Lines:
    def __init__(self, title: str) -> None:
        self.title, self.begun, self.last, self.done = title, time.monotonic(), 0.0, -1

    def __call__(self, done: int, total: int, word: str = "") -> None:
        now = time.monotonic()
        is_news = done != self.done if done >= total else now - self.last >= SECONDS_BETWEEN_LINES
        if not is_news:
            return
        self.last, self.done = now, done
        rate = done / max(now - self.begun, 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        note(f"{self.title}: {done}/{total}, {rate:.1f}/s{left}{', ' + word if word else ''}")
