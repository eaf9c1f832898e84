"""The one thread of an actor that uses the device, fed by those that read and write."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scanner.errors import Stopped
from scanner.records import Caption, ScoreRow

if TYPE_CHECKING:
    from scanner.scan.batcher import Finished
    from scanner.scan.scanner import Scanner
    from scanner.scan.state import ChunkState


@dataclass(slots=True, eq=False)
class ScanRequest:
    """A chunk that is read and waits for the device.

    Attributes:
        captions: What to scan.
        known: Rows of captions that were scored before, by hash.
        alone: Whether it must not share a batch.
        done: The scanned chunk, ready for its rows to be made.
    """

    captions: Sequence[Caption]
    known: Mapping[str, Sequence[ScoreRow]]
    alone: bool
    done: "Future[ChunkState]" = field(default_factory=Future)


class ComputeThread:
    """Scans chunks in the order in which they come; never waits while it holds one.

    Args:
        scanner: What it scans with.
        threads: Threads for work on the CPU.

    Attributes:
        waiting: Seconds that the device waited for a chunk so far, since the first receipt.
    """

    def __init__(self, scanner: "Scanner", threads: int) -> None:
        from scanner.scan.batcher import LocalizationBatcher

        self._scanner, self._threads = scanner, threads
        self._batcher = LocalizationBatcher(scanner)
        self._requests: queue.SimpleQueue[ScanRequest | None] = queue.SimpleQueue()
        self._unanswered: dict[ChunkState, ScanRequest] = {}
        self._first: float | None = None
        self._last = self._since = 0.0
        self._tasks, self._lock = 0, threading.Lock()
        self.waiting, self._closed = 0.0, False
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Wall time from the first chunk's receipt to the last one's end."""
        return 0.0 if self._first is None else max(0.0, self._last - self._first)

    @contextmanager
    def task(self) -> Iterator[None]:
        """Say that the actor has a task: from then on, a device that waits waits for it.

        Until its rows are committed; where another is read or committed, too.
        """
        with self._lock:
            self._tasks += 1
            if self._tasks == 1:
                self._since = time.perf_counter()
                self._first = self._since if self._first is None else self._first
        try:
            yield
        finally:
            with self._lock:
                self._tasks -= 1

    def scan(self, request: ScanRequest) -> "ChunkState":
        """Hand a chunk over and wait until it needs no more of the device.

        Raises:
            Exception: Whatever its captions, and no others', led to.
            Stopped: If the thread was closed.
        """
        with self._lock:
            if self._closed:
                raise Stopped("the scan was stopped")
            self._requests.put(request)
        return request.done.result()

    def close(self, seconds: float) -> None:
        """End the thread at the next evaluation of a network; who waits for it gets `Stopped`.

        Args:
            seconds: How long to wait for it.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self._scanner.stopped.set()
                self._requests.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        import torch

        torch.set_num_threads(self._threads)  # counts for the thread that says it
        while True:
            try:
                request = self._requests.get(block=not len(self._batcher))
            except queue.Empty:
                self._answer(self._batcher.flush())
                continue
            if request is None:
                break
            self._detect(request)
        for unanswered in self._unanswered.values():
            unanswered.done.set_exception(Stopped("the scan was stopped"))

    def _detect(self, request: ScanRequest) -> None:
        now, first = time.perf_counter(), self._first or self._since
        waited = now - max(self._last, self._since)
        self.waiting += now - max(self._last, first)
        try:
            chunk = self._scanner.detect(request.captions, request.known)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._last = time.perf_counter()
            request.done.set_exception(error)
            return
        chunk.cost.seconds += waited
        chunk.cost.parts.update({"waiting": waited})
        self._unanswered[chunk] = request
        self._answer(self._batcher.add(chunk))
        if request.alone:
            self._answer(self._batcher.flush())

    def _answer(self, done: "Finished") -> None:
        self._last = time.perf_counter()
        for chunk, error in done:
            request = self._unanswered.pop(chunk)
            if error is None:
                request.done.set_result(chunk)
            else:
                request.done.set_exception(error)
