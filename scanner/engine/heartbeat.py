"""Notices that a Ray cluster is gone, and ends the work in bounded time with one line.

Ray itself waits 60 s for a GCS that does not answer and then ends the process with exit code 1, or
waits forever. So a thread asks for the list of nodes every second. When the answer stays away, or
says that this process's own node is dead, the scan stops with a `ClusterLostError`. Where the main
thread is stuck inside Ray, the process is ended from here.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import ray
from ray.exceptions import RayError

from scanner.errors import ClusterLostError

SILENCE_SECONDS = 20.0
"""Seconds that the GCS may be silent."""
GRACE_SECONDS = 5.0
"""Seconds that the main thread may take to leave Ray after a loss, before the process is ended."""
RECONNECT_SETTING = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's own setting; after that many seconds Ray would end the process. If it is set, the loss is
declared after four fifths of it."""
RAYS_RECONNECT_SECONDS = 60.0
"""Ray's default for the setting."""
_ASK_SECONDS = 1.0
_TICK_SECONDS = 0.25


def limits() -> tuple[float, float]:
    """Return how many seconds of silence are a loss, and how many more end the process."""
    if (ends := _reconnect_seconds()) is None:
        return SILENCE_SECONDS, GRACE_SECONDS
    return 0.8 * ends, min(GRACE_SECONDS, 0.1 * ends)


def join_seconds() -> float:
    """Return how long a cluster may take to let this process in."""
    return 0.75 * (_reconnect_seconds() or RAYS_RECONNECT_SECONDS)


def _reconnect_seconds() -> float | None:
    try:
        return float(os.environ.get(RECONNECT_SETTING, ""))
    except ValueError:
        return None


class HeadWatch:
    """Watches the cluster that this process is connected to.

    Args:
        last_act: Called before the process is ended; null where it must not be ended, because
            somebody else connected it to Ray.
    """

    def __init__(self, last_act: Callable[[], None] | None) -> None:
        self._last_act = last_act
        self._limit, self._grace = limits()
        self._silence, self._reason = 0.0, ""
        self._over = threading.Event()
        self._asker = threading.Thread(target=self._ask, daemon=True)
        self._asker.start()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether the cluster is gone."""
        return bool(self._reason)

    def check(self) -> None:
        """Raise if the cluster is gone.

        Raises:
            ClusterLostError: With what is known of it.
        """  # noqa: DOC501 - lost() returns it
        if self._reason:
            raise lost(self._reason)

    def stop(self) -> None:
        """Ask no more, so that Ray can stop; a question that is on its way is waited for."""
        self._over.set()
        if not self._reason:
            self._asker.join(self._limit)
            if self._asker.is_alive():
                self._reason = self._silence_text()

    def _silence_text(self) -> str:
        return f"its GCS did not answer for {self._limit:g} s"

    def _ask(self) -> None:
        own = ""
        while not self._over.is_set():
            try:
                own = own or ray.get_runtime_context().get_node_id()
                alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            except (RayError, OSError, RuntimeError):
                pass  # no answer either
            else:
                if own not in alive:
                    self._reason = "the node that this process is connected to is dead"
                    return
                self._silence = 0.0
            self._over.wait(_ASK_SECONDS)

    def _wait(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            # Ticks and not a clock: a process that was stopped for a while has missed no answer.
            self._silence += _TICK_SECONDS
            if self._silence > self._limit:
                self._reason = self._reason or self._silence_text()
            if self._reason:
                break
        if self._last_act is None or not self._reason or self._over.wait(self._grace):
            return
        self._last_act()
        _end_process(str(lost(self._reason)))


_current: HeadWatch | None = None


@contextmanager
def watched(last_act: Callable[[], None] | None) -> Iterator[HeadWatch]:
    """Watch the cluster for a while; inside another watch, that one is used."""
    global _current
    if _current is not None:
        yield _current
        return
    _current = HeadWatch(last_act)
    try:
        yield _current
    finally:
        _current.stop()
        _current = None


def check() -> None:
    """Raise if the cluster is gone.

    Raises:
        ClusterLostError: With what is known of it.
    """
    if _current is not None:
        _current.check()


@contextmanager
def bounded(seconds: float, text: str) -> Iterator[None]:
    """End the process with one line if what is inside, a call into Ray, does not come back."""
    over = threading.Event()

    def wait() -> None:
        if not over.wait(seconds):
            _end_process(text)

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def lost(reason: str) -> ClusterLostError:
    """Return the error for a cluster that is gone."""
    return ClusterLostError(f"the Ray cluster went away: {reason}; run the same command to resume")


def _end_process(text: str) -> NoReturn:
    """End the process from a thread, for the main thread cannot be reached."""
    stream = sys.__stderr__
    if stream is not None:
        shown = "\r\x1b[?25h" if stream.isatty() else ""  # a progress display hides the cursor
        stream.write(f"{shown}memscan: {text}\n")
        stream.flush()
    os._exit(ClusterLostError.exit_code)
