"""A scan as it runs: a picture on a terminal, a line a minute elsewhere. On the standard error.

Imports the engine, so a command imports this when it runs.
"""

import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, repeat
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scanner.activity import Activity
from scanner.cli import progress
from scanner.cli.events import EventLog
from scanner.cli.progress import span
from scanner.engine.job import ACTIVITY, PHASE, Event
from scanner.records import parts_of
from scanner.text import counted, visible
from scanner.throughput import Throughput

SECONDS_OF_LINES = (1.0, 10.0, 60.0)
"""When lines are printed; from then on one as often as the last says."""
MOST_ACTORS = 8
"""Rows of actors; of more, the slowest are shown."""

TROUBLE = ("problem", "lost", "retry", "quarantine", "wait")
"""Kinds of events that are printed as they come."""

WAITS_FOR_WORKER = "a worker loads the model"

Listener = Callable[[Event], None]


@contextmanager
def watching(title: str, events: Path | None = None) -> Iterator[Listener]:
    """Show a scan, and log its events to a file if one is given.

    Raises:
        ConfigError: If the file cannot be written.
    """
    view = LiveView(title)
    shown = _picture(view) if sys.stderr.isatty() else _lines(view)
    with nullcontext() if events is None else EventLog(events) as log, shown as say:

        def heard(event: Event) -> None:
            view.on_event(event)
            if log is not None:
                log(event)
            if event.kind in TROUBLE and event.text:
                say(event.text)

        yield heard


class LiveView:
    """The live view of a scan."""

    def __init__(self, title: str) -> None:
        self.title, self.begun = title, time.time()
        self.last: Event | None = None
        self.throughput: Throughput | None = None
        self.actors: dict[str, _Actor] = {}
        self.phase, self.chunks = "starting", 0

    def on_event(self, event: Event) -> None:
        """Take an event in."""
        if event.kind == PHASE:
            self.phase = event.text
        elif event.kind == ACTIVITY:
            if event.actor in self.actors:
                self.actors[event.actor].at = Activity(**event.counts)
        else:
            self._count(event)

    def _count(self, event: Event) -> None:
        self.last = event
        if self.throughput is None and event.kind in ("worker", "chunk"):
            self.throughput = Throughput(event.time)
        if event.kind == "worker":
            self.actors[event.actor] = _Actor(Throughput(event.time))
            self.phase = ""
        elif event.kind == "lost":
            self.actors.pop(event.actor, None)
        elif event.kind == "chunk":
            self.chunks += 1
            if self.throughput is not None:
                self.throughput.add(event.counts.get("samples", 0), event.time)
            if event.actor in self.actors:
                self.actors[event.actor].add(event)

    def rate(self, now: float) -> float:
        """Return captions per second over the last two minutes, 0 where it means nothing yet."""
        return 0.0 if self.throughput is None else _rate_of(self.throughput, now)

    def total(self) -> int:
        """Return how many samples there will be: known, or as far as they are counted."""
        seen = self.last
        if seen is None or not seen.shards_counted:
            return 0
        return round(seen.samples_total * max(1.0, seen.shards_total / seen.shards_counted))

    @property
    def is_counted(self) -> bool:
        """Whether every shard's samples are known."""
        return self.last is not None and self.last.shards_counted >= self.last.shards_total

    def left(self, now: float) -> str:
        """Return the time left, ``""`` if nobody can tell."""
        if self.last is None or self.last.kind == "end":
            return ""
        amount = self.total() - self.last.samples_done
        return progress.left(amount, self.rate(now), about=not self.is_counted)

    def line(self, now: float) -> str:
        """Return all of it on one line."""
        seen = self.last
        if seen is None:
            return f"{self.title}: {self.phase}, {span(now - self.begun)}"
        parts = [
            f"{seen.samples_done}/{'' if self.is_counted else '~'}{self.total()} captions",
            progress.speed(self.rate(now)),
            self.left(now) or f"after {span(now - self.begun)}",
            f"{seen.flagged} flagged",
            f"{seen.localized} localized",
            f"{seen.rejected} rejected",
        ]
        if seen.retries or seen.quarantined:
            parts.append(f"{seen.retries} retries, {seen.quarantined} chunks given up")
        if not self.is_counted:
            parts.append(f"{seen.shards_counted}/{seen.shards_total} shards counted")
        if seen.kind != "end":
            parts.append(self._now())
        return progress.line(self.title, *parts)

    def _now(self) -> str:
        """Return what is going on that no count shows yet."""
        if not self.actors:
            return self.phase or WAITS_FOR_WORKER
        busy = [actor.at.words() for actor in self.actors.values() if actor.at.stage]
        more = f" and {counted(len(busy) - 1, 'more worker')}" if len(busy) > 1 else ""
        return f"{busy[0]}{more}" if busy else ""

    def __rich__(self) -> RenderableType:
        now, seen = time.time(), self.last
        if seen is None:
            return Text(f"{self.title}  {self.phase} ({span(now - self.begun)})")
        if seen.kind == "end":
            now = seen.time
        return Group(self._bar(seen, now), self._stages(seen), *self._workers(now))

    def _bar(self, seen: Event, now: float) -> RenderableType:
        grid = Table.grid(padding=(0, 1), expand=False)
        total = self.total()
        share = min(1.0, seen.samples_done / total) if total else 0.0
        rate, after = progress.speed(self.rate(now)), span(now - self.begun)
        grid.add_row(
            Text(self.title, "bold"), ProgressBar(1.0, share, width=22), f"{share:4.0%}",
            f"{seen.samples_done:,} of {'' if self.is_counted else '~'}{total:,}",
            rate, self.left(now), Text(f"({after})", "dim"),
        )  # fmt: skip
        return grid

    def _stages(self, seen: Event) -> RenderableType:
        first, second = Text(), Text()
        for text, name, value, style in (
            (first, "detected", seen.scored, ""),
            (first, "localized", seen.localized, ""),
            (first, "flagged", seen.flagged, "bold red" if seen.flagged else ""),
            (first, "rejected", seen.rejected, "yellow" if seen.rejected else ""),
            (second, "chunks", self.chunks, ""),
            (second, "waiting", seen.waiting + seen.running, ""),
            (second, "retries", seen.retries, "yellow" if seen.retries else ""),
            (second, "given up", seen.quarantined, "bold red" if seen.quarantined else ""),
        ):
            text.append(f"  {name} ", "dim").append(f"{value:,}", style)
        counted = f"{seen.shards_counted:,} of {seen.shards_total:,}"
        second.append("  shards counted ", "dim").append(counted)
        return Group(first, second)

    def _workers(self, now: float) -> Iterator[RenderableType]:
        if not self.actors:
            yield Text(f"  {self.phase or WAITS_FOR_WORKER}", "dim")
            return
        slowest = sorted(self.actors.items(), key=lambda item: item[1].throughput.per_second(now))
        table = Table(box=None, padding=(0, 2), header_style="dim")
        table.add_column("worker")
        for name in ("captions/s", "network", "waiting", "done"):
            table.add_column(name, justify="right")
        table.add_column("now", no_wrap=True)
        for name, actor in slowest[:MOST_ACTORS]:
            measured = _rate_of(actor.throughput, now)
            rate, done = f"{measured:.1f}" if measured else "", f"{actor.throughput.total:,.0f}"
            shares = actor.share("network", "product"), actor.share("waiting")
            table.add_row(Text(name[-20:]), rate, *shares, done, actor.at.words())
        yield table
        if len(slowest) > MOST_ACTORS:
            middle = slowest[len(slowest) // 2][1].throughput.per_second(now)
            more = len(slowest) - MOST_ACTORS
            yield Text(f"  and {more} faster ones; median of all {middle:.1f}/s", "dim")


class _Actor:
    def __init__(self, throughput: Throughput) -> None:
        self.throughput, self.seconds, self.parts = throughput, 0.0, Counter[str]()
        self.at = Activity()

    def add(self, event: Event) -> None:
        self.throughput.add(event.counts.get("samples", 0), event.time)
        self.seconds += event.counts.get("seconds", 0.0)
        self.parts.update(parts_of(event.counts))

    def share(self, *parts: str) -> str:
        """Return the share of some parts together, for a person."""
        if not self.parts or not self.seconds:
            return ""
        return f"{sum(self.parts[name] for name in parts) / self.seconds:.0%}"


def _rate_of(throughput: Throughput, now: float) -> float:
    return throughput.per_second(now) if throughput.is_meaningful else 0.0


@contextmanager
def _picture(view: LiveView) -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True, highlight=False)
    with Live(view, console=console, refresh_per_second=2) as live:

        def say(text: str) -> None:
            live.console.print(visible(text, keep="\n"), markup=False, soft_wrap=True)

        yield say


@contextmanager
def _lines(view: LiveView) -> Iterator[Callable[[str], None]]:
    """Print a line at once, one soon, one a minute from then on, and one at the end."""
    over = threading.Event()

    def tick() -> None:
        before = 0.0
        for moment in chain(SECONDS_OF_LINES, repeat(math.inf)):
            pause = SECONDS_OF_LINES[-1] if math.isinf(moment) else moment - before
            if over.wait(pause):
                return
            progress.note(view.line(time.time()))
            before = moment

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield progress.note
    finally:
        over.set()
        ticker.join()
        progress.note(view.line(time.time()))
