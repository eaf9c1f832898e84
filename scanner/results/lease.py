"""One process at a time at a piece of work, on whatever machine it runs, and never nobody for long.

The n-th holder of a lease creates ``<folder>/<n>.json`` exclusively, which says who it is, and
writes ``<folder>/<n>.beat`` again and again. Whoever finds the newest lease over takes the next;
whoever finds it held watches the beat. If it changes, the holder lives. If it does not for
`EXPIRES_SECONDS` of the watcher's own clock, or the holder was a process of this very machine
that is gone, the holder is dead and the next lease may be taken. So no clock is compared with
that of another machine, nothing but an exclusive creation is asked of the store, and of many
that take over, one succeeds.

A holder that stood still for as long looks for a newer lease before it goes on. What it did in
the moments before it looked must be safe without a lease, as commits are: a lease saves work.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scanner.errors import ConfigError, LeaseError, ResultsError
from scanner.parsing import from_json
from scanner.results.stores import Store

EXPIRES_SECONDS = 60.0
"""Silence after which a lease may be taken; ``MEMSCAN_LEASE_SECONDS`` overrides it."""
BEATS = 6
"""Beats of the holder in that time."""
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Entry:
    """The newest lease, as it was found: its number, its holder, and the holder's last beat."""

    number: int
    holder: dict[str, Any]
    beat: dict[str, Any]

    def is_free(self, expires: float) -> bool:
        """Whether nobody holds it for certain: over, or silent or gone on this machine."""
        if self.number < 0 or self.beat.get("over"):
            return True
        if not self._is_here():
            return False
        silence = _seconds() - float(self.beat.get("seconds", _seconds()))
        return silence >= expires or (self._is_visible() and not self._is_running())

    def lives_here(self) -> bool:
        """Whether the holder is a process of this machine that runs, or at least stands still."""
        return self._is_here() and self._is_visible() and self._is_running()

    def _is_here(self) -> bool:
        return bool(self.holder.get("boot")) and self.holder["boot"] == _process()["boot"]

    def _is_visible(self) -> bool:
        """Whether the holder's number means the same process here as to itself."""
        return self.holder.get("processes") == _process()["processes"]

    def _is_running(self) -> bool:
        return _process_start(int(self.holder.get("pid", 0))) == self.holder.get("process_started")


class Lease:
    """Holds a piece of work while the block runs.

    Args:
        store: Where all who might do it look.
        folder: The lease's own folder in the store.
        what: The work, as a message names it: ``another WHAT is at work``.
        expires: Seconds of silence after which another process may take over.
        told: Told, once, that a dead holder's lease is waited for.
    """

    def __init__(
        self, store: Store, folder: str, what: str, *, expires: float | None = None,
        told: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self._store, self._folder, self._what, self._told = store, folder, what, told
        self._expires = expiry() if expires is None else expires
        self._renew = self._expires / BEATS
        self._number, self._beats, self._beaten = -1, 0, 0.0
        self._token = uuid.uuid4().hex
        self._is_lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")

    def __enter__(self) -> Self:
        """Take the lease, at once if it is free; wait for it to expire if its holder may be dead.

        Raises:
            ConfigError: If a process that lives holds it.
            ResultsError: If the store cannot be read or written to.
        """
        watched, since = self._read_entries(), _seconds()
        seen, is_silent = watched, False
        while not ((is_silent or seen.is_free(self._expires)) and self._take(seen.number + 1)):
            if seen != watched or seen.lives_here():
                raise ConfigError(self._holder_text(seen, "wait for it, or stop it and run again"))
            if not is_silent and seen is watched:
                wait = f"waiting up to {self._expires:.0f} s to see whether it lives"
                self._told(self._holder_text(seen, wait))
            time.sleep(min(0.5, self._renew / 2))
            seen = self._read_entries()
            is_silent = seen == watched and _seconds() - since >= self._expires
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(self._renew)
        with suppress(ResultsError):  # then it expires
            if self._newest() == self._number:
                self._beat(is_over=True)

    @property
    def is_held(self) -> bool:
        """Whether it is still ours: as far as is known, and after a long silence, for certain."""
        if not self._is_lost and _seconds() - self._beaten >= self._expires:
            self._is_lost = self._newest() != self._number
            if not self._is_lost:
                self._beat()
        return not self._is_lost

    def check(self) -> None:
        """Refuse to go on if another process has taken over.

        Raises:
            LeaseError: If so.
            ResultsError: If the store cannot be asked.
        """
        if not self.is_held:
            raise LeaseError(
                f"another {self._what} took over while this one stood still for more than "
                f"{self._expires:.0f} s ({self._store.address(self._folder)}): this one stops; "
                f"what it committed is kept"
            )

    def _take(self, number: int) -> bool:
        """Create the next lease; False if another process did, or ours is not the newest."""
        content = {"token": self._token, "host": platform.node(), "pid": os.getpid(), **_process()}
        if not self._store.create(self._name(f"{number:06d}.json"), json.dumps(content).encode()):
            return False
        if self._newest() != number:
            return False
        self._number = number
        self._beat()
        for entry in self._store.entries(self._folder):
            if 0 <= _number(entry.name) < number:  # a rival's temporary file is the rival's
                self._store.remove(entry.name)
        return True

    def _read_entries(self) -> "_Entry":
        newest = self._newest()
        read = (self._read(f"{newest:06d}.{kind}") for kind in ("json", "beat"))
        return _Entry(newest, *(read if newest >= 0 else ({}, {})))

    def _newest(self) -> int:
        names = (entry.name for entry in self._store.entries(self._folder))
        return max((_number(name) for name in names if name.endswith(".json")), default=-1)

    def _beat(self, *, is_over: bool = False) -> None:
        now, self._beats = _seconds(), self._beats + 1
        content = {"token": self._token, "beat": self._beats, "seconds": now, "over": is_over}
        self._store.put(self._name(f"{self._number:06d}.beat"), json.dumps(content).encode())
        self._beaten = now

    def _keep(self) -> None:
        while not self._done.wait(self._renew):
            with suppress(ResultsError):  # a store that is away: expiry and `check` decide
                if self._newest() != self._number:
                    self._is_lost = True
                    return
                self._beat()

    def _holder_text(self, seen: "_Entry", advice: str) -> str:
        who = f"process {seen.holder.get('pid', '?')} on {seen.holder.get('host', '?')}"
        where = self._store.address(self._folder)
        return f"another {self._what} is at work ({who}, {where}): {advice}"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content = from_json(self._store.read(self._name(name)) or b"{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _name(self, name: str) -> str:
        return f"{self._folder}/{name}"


def expiry() -> float:
    """Return how many seconds of silence end a lease."""
    try:
        return max(1.0, float(os.environ.get("MEMSCAN_LEASE_SECONDS", "")))
    except ValueError:
        return EXPIRES_SECONDS


def _number(name: str) -> int:
    digits = name.rpartition("/")[2].partition(".")[0]
    return int(digits) if digits.isdigit() else -1


def _seconds() -> float:
    """Return the time since this machine started, which goes on while it sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _process() -> dict[str, str]:
    """Return what tells this process from all others; empty where the system does not say."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        processes = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return {"boot": "", "processes": "", "process_started": ""}
    return {"boot": boot, "processes": processes, "process_started": _process_start(os.getpid())}


def _process_start(pid: int) -> str:
    """Return when a process of this machine started, ``""`` if there is none."""
    try:
        status = (_PROC / str(pid) / "stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
