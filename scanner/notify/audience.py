"""Everyone who is told: each is asked in turn, and none can end a scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.notify.callbacks import Callback
from scanner.notify.delivery import NotSentError, Say
from scanner.notify.outcome import Outcome, Start
from scanner.signed import redacted
from scanner.text import printable

if TYPE_CHECKING:
    from scanner.engine.job import Event

_LONGEST = 300
"""Characters of another program's error."""


@dataclass(slots=True)
class _Member:
    name: str
    callback: Callback
    hears: bool = True


class Audience:
    """Callbacks, in the order in which they are called.

    Args:
        members: Callbacks with their names.
        say: Takes a line about one that failed.
    """

    def __init__(self, members: Sequence[tuple[str, Callback]], say: Say) -> None:
        self._members, self._say = [_Member(*member) for member in members], say

    def __bool__(self) -> bool:
        return bool(self._members)

    def started(self, start: Start) -> None:
        """Tell everyone what is about to run."""
        for member in self._members:
            self._guarded(member, lambda one: one.callback.started(start))

    def progress(self, event: "Event") -> None:
        """Tell everyone of an event, but for those that failed before."""
        for member in self._members:
            if member.hears:
                self._guarded(member, lambda one: one.callback.progress(event))

    def finished(self, outcome: Outcome, folder: Path | None) -> None:
        """Tell everyone what came of it."""
        for member in self._members:
            self._guarded(member, lambda one: one.callback.finished(outcome, folder))

    def _guarded(self, member: _Member, call: Callable[[_Member], None]) -> None:
        try:
            call(member)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - code of others
            member.hears = False
            why = printable(redacted((str(error).splitlines() or [""])[0]))[:_LONGEST]
            kind = "" if isinstance(error, NotSentError) else f"{type(error).__name__}, "
            self._say(f"{member.name} failed and changes nothing else: {kind}{why}", True)
