"""A lock on a folder that outlives nobody: a lease which its holder renews.

The lease is a file with the holder's name and the time of its last renewal. Whoever finds it
older than `EXPIRES_SECONDS` may take it; a holder that slept through that notices before it
publishes anything.
"""

import contextlib
import fcntl
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scanner.errors import ConfigError, ResultsError

RENEW_SECONDS = 20.0
EXPIRES_SECONDS = 300.0


class Lease:
    """Holds a folder while the block runs.

    Args:
        folder: What is locked; it is made if it is not there.
        renew: Seconds between renewals.
        expires: Seconds without one after which another process may take over.
    """

    def __init__(
        self, folder: Path, renew: float = RENEW_SECONDS, expires: float = EXPIRES_SECONDS
    ) -> None:
        self._path = folder / "lease.json"
        self._renew, self._expires = renew, expires
        self._token = uuid.uuid4().hex
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")

    def __enter__(self) -> Self:
        """Take the lease.

        Raises:
            ConfigError: If another process holds it.
            ResultsError: If the folder cannot be written to.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._guarded():
                self._take()
        except OSError as error:
            raise ResultsError(
                f"{self._path.parent} cannot be written to ({error.strerror}): an audit must write "
                "there; make it writable, or name another folder"
            ) from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        with self._guarded():
            if self._is_ours():
                self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Refuse to go on if another process has taken over.

        Raises:
            ResultsError: If so.
        """
        if not self._is_ours():
            raise ResultsError(
                f"another audit took over {self._path.parent} while this one stood still for more "
                f"than {self._expires:.0f} s: this one writes nothing; what it scanned is kept"
            )

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Look at the lease and change it as one act, among processes and threads."""
        with self._path.with_name(".lease.lock").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def _take(self) -> None:
        held = _read(self._path)
        age = time.time() - float(held.get("renewed", 0.0))
        if held and age < self._expires:
            raise ConfigError(
                f"another audit is at work in {self._path.parent} (process {held.get('pid')} on "
                f"{held.get('host')}, seen {max(0.0, age):.0f} s ago): wait for it; a lease that "
                f"is not renewed for {self._expires:.0f} s can be taken over"
            )
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_name(f".lease.{uuid.uuid4().hex[:8]}.tmp")
        content = {"token": self._token, "host": platform.node(), "pid": os.getpid(),
                   "renewed": time.time()}  # fmt: skip
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._path)

    def _is_ours(self) -> bool:
        return _read(self._path).get("token") == self._token

    def _keep(self) -> None:
        while not self._done.wait(self._renew):
            try:
                with self._guarded():
                    if not self._is_ours():
                        return
                    self._write()
            except OSError:
                continue  # a full or absent disk: expiry and `check` decide


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
