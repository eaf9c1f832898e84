"""A scan in this process, without Ray: one worker on one device, its tasks in threads."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import Any

from scanner.engine.job import Event, Resources
from scanner.engine.queue import Task
from scanner.engine.runtime import WorkerSetup
from scanner.engine.worker import Worker
from scanner.models.device import local_device
from scanner.results.folder import Results
from scanner.results.score_cache import BackgroundScoreIndex

STOP_SECONDS = 60.0
"""Seconds that a worker may take to leave the network evaluation and the commits that it is at."""


class LocalRuntime:
    """A `scanner.engine.runtime.Runtime` of threads.

    It isolates nothing: what ends the worker (a segmentation fault, the kernel's out-of-memory
    killer) ends the scan, and a task that hangs is waited for. What is committed stays; the same
    scan goes on from there.

    Args:
        resources: Device and threads.
    """

    size = 1
    indexing_width = 2
    one_gpu_each = False
    can_kill = False

    def __init__(self, resources: Resources) -> None:
        self._device, self._threads = resources.device, resources.threads
        self._scans: list[Thread] = []
        self._workers: list[Worker] = []

    def start(self, setup: WorkerSetup) -> Worker:
        """Make the worker; `open` loads its model.

        Raises:
            ConfigError: If there is no such device.
        """
        import torch

        device, finder = local_device(self._device), None
        threads = self._threads or torch.get_num_threads()  # as the environment has it
        if setup.reusable:
            finder = BackgroundScoreIndex(Results(setup.job.results), setup.reusable)
        worker = Worker(
            setup.job, setup.run, device, threads, setup.build, finder=finder,
            profiled=setup.profiled,
        )  # fmt: skip
        self._workers.append(worker)
        return worker

    def open(self, worker: Worker) -> Future[Any]:
        """Have the worker load its model."""
        return self.submit(worker.open)

    def scan(self, worker: Worker, task: Task) -> Future[Any]:
        """Hand the worker a task, beside those that it has."""
        future, thread = _call_in_thread(worker.scan, task)
        self._scans = [each for each in self._scans if each.is_alive()] + [thread]
        return future

    def activity(self, worker: Worker) -> Future[Any]:
        """Return what the worker is at."""
        answer = Future[Any]()
        answer.set_result(worker.activity())
        return answer

    def kill(self, worker: Worker) -> None:
        """Stop the worker at its next network evaluation."""
        worker.close(STOP_SECONDS)

    def submit(self, function: Callable[..., Any], *args: object) -> Future[Any]:
        """Call a function in a thread."""
        return _call_in_thread(function, *args)[0]

    def cancel(self, ref: Future[Any]) -> None:
        """Forget a call: a thread that waits for a server cannot be stopped, and holds up none."""

    def ready(self, refs: Sequence[Future[Any]], seconds: float) -> set[Future[Any]]:
        """Return the calls that are over; wait for the first of them, up to ``seconds``."""
        return wait(refs, timeout=seconds, return_when=FIRST_COMPLETED).done

    def result(self, ref: Future[Any]) -> Any:
        """Return what a call gave, waiting for it."""
        return ref.result()

    def check(self) -> None:
        """Do nothing: this process is there."""

    def offer(self) -> str:
        """Return what there is to run on."""
        return f"{os.cpu_count()} CPUs"

    def metrics(self, run: str) -> Callable[[Event], None]:
        """Return what ignores events: metrics are exported by Ray."""
        return lambda event: None

    def close(self) -> None:
        """Stop the workers, and wait for the commits that are being written."""
        for worker in self._workers:
            worker.close(STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._scans:
            thread.join(max(0.0, deadline - time.monotonic()))


def _call_in_thread(function: Callable[..., Any], *args: object) -> tuple[Future[Any], Thread]:
    """Call a function in a daemon thread, which does not keep the process at its end."""
    future = Future[Any]()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:  # noqa: BLE001 - handed to who asks for the result
            future.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    return future, thread
