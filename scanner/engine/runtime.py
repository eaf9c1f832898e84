"""Interface between the scan loop and the place where it runs: Ray's processes, or this one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scanner.engine.job import Event, Job
from scanner.engine.queue import Task
from scanner.engine.worker import ScannerFactory

Ref = Any
"""A call that was made: hashable, and known to the runtime that made it."""


class WorkerLost(Exception):  # noqa: N818 - an event to act on, no error of the program
    """The process that had a call is gone.

    Attributes:
        reason: What is known of it, one line.
        details: All that was said.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.reason, self.details = reason, details


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Settings that every worker of a scan is made from.

    Attributes:
        job: The scan.
        run: Name of the run to commit under.
        build: Makes the worker's scanner.
        model: The model's fingerprint, for workers that may have other files.
        reusable: Runs whose scores do for this scan; none where images are scored.
        profiled: Whether the worker records some of its batches.
    """

    job: Job
    run: str
    build: ScannerFactory
    model: str
    reusable: tuple[str, ...]
    profiled: bool = False


class Runtime(Protocol):
    """Starts workers and makes calls that go on by themselves.

    Attributes:
        size: Workers at a time, at most.
        indexing_width: Shards that are counted at a time.
        one_gpu_each: Whether two workers on one GPU are a mistake.
        can_kill: Whether a worker can be stopped whatever it is at.
    """

    size: int
    indexing_width: int
    one_gpu_each: bool
    can_kill: bool

    def start(self, setup: WorkerSetup) -> Any:
        """Start a worker.

        Raises:
            ConfigError: If there is no such device.
        """
        ...

    def open(self, worker: Any) -> Ref:
        """Have a worker load its model: `scanner.engine.worker.Worker.open`."""
        ...

    def scan(self, worker: Any, task: Task) -> Ref:
        """Hand a task to a worker: `scanner.engine.worker.Worker.scan`."""
        ...

    def activity(self, worker: Any) -> Ref:
        """Ask a worker what it is at: `scanner.engine.worker.Worker.activity`."""
        ...

    def kill(self, worker: Any) -> None:
        """Stop a worker; what it had is lost."""
        ...

    def submit(self, function: Callable[..., Any], *args: object) -> Ref:
        """Call a function beside the workers."""
        ...

    def cancel(self, ref: Ref) -> None:
        """Stop a submitted call, if that can be."""
        ...

    def ready(self, refs: Sequence[Ref], seconds: float) -> set[Ref]:
        """Return the calls that are over; wait for the first of them, up to ``seconds``."""
        ...

    def result(self, ref: Ref) -> Any:
        """Return what a call gave, waiting for it.

        Raises:
            WorkerLost: If its process is gone.
            ClusterLostError: If this process can reach none any more.
        """
        ...

    def check(self) -> None:
        """Raise if no call can come back any more.

        Raises:
            ClusterLostError: With what is known of it.
        """
        ...

    def offer(self) -> str:
        """Return what there is to run on, for a message."""
        ...

    def metrics(self, run: str) -> Callable[[Event], None]:
        """Return what exports a run's events to monitoring."""
        ...
