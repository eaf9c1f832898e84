"""Progress on the standard error: a bar on a terminal, a line now and then elsewhere.

Every command that tells how far it is uses the words made here.
"""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from scanner.text import visible
from scanner.throughput import Throughput

SECONDS_BETWEEN_LINES = 20.0
SECONDS_OF_PATIENCE = 1.0


class Meter(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, done: int, total: int, word: str = "") -> None:
        """Show that ``done`` of ``total`` are done; of 0, that nobody knows of how many."""
        ...


@contextmanager
def meter(title: str) -> Iterator[Meter]:
    """Show one piece of work."""
    if sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield _Lines(title)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say what a person waits for, if it takes more than a moment."""
    if sys.stderr.isatty():
        with Console(stderr=True, highlight=False).status(visible(text), spinner="line"):
            yield
        return
    timer = threading.Timer(SECONDS_OF_PATIENCE, note, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def say(text: str) -> None:
    """Print what a command answers, its hidden characters as escapes: it steers no terminal."""
    typer.echo(visible(text, keep="\n"))


def table_width() -> int | None:
    """Return the columns of the terminal that a table has to fit; no limit in a pipe or file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def note(text: str) -> None:
    """Print a line for the person who waits; where it cannot be printed, go on without."""
    with suppress(OSError):
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(visible(text, keep="\n"))


def line(title: str, *parts: str) -> str:
    """Return a line of progress; empty parts are left out."""
    return f"{title}: {', '.join(filter(None, parts))}"


def speed(per_second: float) -> str:
    """Return a rate for a person, ``""`` where there is none.

    Example:
        >>> speed(1234.5), speed(12.34), speed(0.02), speed(0)
        ('1,234/s', '12.3/s', '1.2/min', '')
    """
    if per_second <= 0:
        return ""
    if per_second < 0.1:
        return f"{60 * per_second:.1f}/min" if per_second >= 0.1 / 60 else "less than 0.1/min"
    return f"{per_second:,.0f}/s" if per_second >= 1000 else f"{per_second:.1f}/s"


def left(amount: float, per_second: float, *, about: bool = False) -> str:
    """Return the time that an amount of work will take, ``""`` where no rate tells it."""
    if per_second <= 0:
        return ""
    return f"{'~' if about else ''}{span(max(0.0, amount / per_second))} left"


def span(seconds: float) -> str:
    """Return a length of time for a person, such as ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole / 86400:.1f} days"


class Estimate:
    """Progress of a piece of work: its rate and the time left.

    The clock starts at the first progress: what came before is starting up, or was done before.
    A total that changes, or a count that falls, is another piece of work.
    """

    def __init__(self) -> None:
        self._done, self._total = -1, 0
        self._throughput: Throughput | None = None

    def add(self, done: int, total: int) -> None:
        """Note how far it is."""
        is_other = self._total > 0 and total != self._total
        if is_other or done < self._done or self._done < 0:
            self._throughput = None
        elif done > self._done:
            now = time.monotonic()
            if self._throughput is None:
                self._throughput = Throughput(now)
            else:
                self._throughput.add(done - self._done, now)
        self._done, self._total = done, total

    def words(self) -> tuple[str, str]:
        """Return rate and time left, ``""`` where they would mean nothing yet."""
        throughput = self._throughput
        if throughput is None or not throughput.is_meaningful:
            return "", ""
        rate = throughput.per_second(time.monotonic())
        return speed(rate), left(self._total - self._done, rate) if self._total else ""


def counted(done: int, total: int) -> str:
    """Return how many of how many."""
    return f"{done:,}/{total:,}" if total else f"{done:,}"


def _bar(title: str) -> Iterator[Meter]:
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(),
        TextColumn("{task.fields[count]}"), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[word]}", markup=False),
    )  # fmt: skip
    estimate = Estimate()
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(title, total=None, count="", rate="", left="", word="")

        def show(done: int, total: int, word: str = "") -> None:
            estimate.add(done, total)
            rate, remaining = estimate.words()
            progress.update(
                task, completed=done, total=total or None, count=counted(done, total), rate=rate,
                left=remaining if done < total else "", word=visible(word),
            )  # fmt: skip

        yield show


class _Lines:
    def __init__(self, title: str) -> None:
        self.title, self.begun, self.last, self.done = title, time.monotonic(), 0.0, -1
        self.estimate = Estimate()

    def __call__(self, done: int, total: int, word: str = "") -> None:
        self.estimate.add(done, total)
        now, is_over = time.monotonic(), 0 < total <= done
        is_news = done != self.done if is_over else now - self.last >= SECONDS_BETWEEN_LINES
        if not is_news:
            return
        self.last, self.done = now, done
        rate, remaining = self.estimate.words()
        told = f"after {span(now - self.begun)}" if is_over else remaining
        note(line(self.title, counted(done, total), rate, told, word))
