"""One scan from start to end: who the run is, where it runs, its record and its lease."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial

from scanner.engine.identity import identify
from scanner.engine.job import Event, Job, Resources, Summary
from scanner.engine.loop import STALL_SECONDS, ScanLoop
from scanner.engine.record import RunRecord
from scanner.engine.runtime import Runtime, WorkerSetup
from scanner.engine.worker import ScannerFactory, build_scanner
from scanner.results.folder import Results
from scanner.results.lease import Lease
from scanner.results.score_cache import runs_like


def scan(
    job: Job, resources: Resources, progress: Callable[[Event], None], *,
    stall_seconds: float = STALL_SECONDS, build: ScannerFactory = build_scanner,
) -> Summary:  # fmt: skip
    """Scan what is not yet scanned, and commit it chunk by chunk.

    Run again after any end, it goes on where the commits stop; no row comes twice. What cannot
    be scanned is in the summary and in the run's record, and does not stop the rest.

    Args:
        job: What to scan.
        resources: Where and how wide.
        progress: Called in this process with everything that happens.
        stall_seconds: How long one task may run.
        build: Makes a worker's scanner; must be picklable where Ray runs it.

    Returns:
        The summary, also of an incomplete scan.

    Raises:
        ConfigError: If the model, the baseline or the calibration cannot be used, or another
            process scans the same run.
        ResultsError: If results cannot be written.
        ClusterError: If processes die faster than they can be replaced.
        ClusterLostError: If the cluster goes away.
        LeaseError: If this process stood still and another one took the run over.
        KeyboardInterrupt: On SIGINT or SIGTERM, after the run is marked interrupted.
    """
    who, results = identify(job), Results(job.results)
    results.check()

    def told(text: str) -> None:
        progress(Event("wait", 0, 0, 0, 0, text, run=who.run))

    with (
        _interruptible(),
        Lease(results.store, f"leases/{who.run}", f"scan of run {who.run}", told=told) as lease,
    ):
        record = RunRecord.begin(results, who.run, who.job, who.model, who.calibration)
        # Twice: Ray may take long to start, and then has a handler of its own.
        with record, _runtime(resources) as runtime, _interruptible():
            job = replace(who.job, chunk_size=record.chunk_size)
            reusable = tuple[str, ...]()
            if job.spec.source == "generated":
                reusable = tuple(runs_like(results, who.run, record.identity))
            if resources.gpus_per_actor > 1:
                build = partial(build, gpus=resources.gpus_per_actor)
            setup = WorkerSetup(job, who.run, build, who.model, reusable)
            loop = ScanLoop(setup, resources, runtime, results, record)
            loop.run(lease, progress, stall_seconds)
    return record.summary


def _runtime(resources: Resources) -> AbstractContextManager[Runtime]:
    """Return where a scan runs; Ray is imported only where it is asked for."""
    if resources.local:
        from scanner.engine.local import LocalRuntime

        return closing(LocalRuntime(resources))
    from scanner.engine.ray_runtime import on_ray

    return on_ray(resources)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt for a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
