"""One scan from start to end: who the run is, where it runs, its record and its lease."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

from scanner.activity import Trace
from scanner.collection import without_collection
from scanner.engine.committed import CommittedRuntime, identities
from scanner.engine.identity import identify
from scanner.engine.job import CHUNK_SIZE, PHASE, Event, Job, Resources, Summary
from scanner.engine.loop import STALL_SECONDS, ScanLoop
from scanner.engine.packing import Packer
from scanner.engine.plan import CommitIndex
from scanner.engine.record import RunRecord
from scanner.engine.runtime import Runtime, WorkerSetup
from scanner.engine.worker import ScannerFactory, build_scanner
from scanner.errors import ConfigError
from scanner.results.folder import Committed, Results
from scanner.results.lease import Lease
from scanner.results.score_cache import runs_like
from scanner.text import counted


def scan(
    job: Job, resources: Resources, progress: Callable[[Event], None], *,
    stall_seconds: float = STALL_SECONDS, build: ScannerFactory = build_scanner,
    traces: Callable[[Trace], None] | None = None,
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
        traces: Called with what one actor recorded of its batches, each time with more of them;
            null has nothing recorded.

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

    def told(text: str, kind: str = "wait") -> None:
        progress(Event(kind, 0, 0, 0, 0, text, run=run))

    if job.compile and resources.gpus_per_actor > 1:
        raise ConfigError(
            "--compile and --gpus-per-actor exclude each other: a network over several GPUs is "
            "run block by block"
        )
    run = ""
    told(f"reading what {job.model} is", PHASE)
    who, results = identify(job), Results(job.results)
    run = who.run
    told("reading what is committed", PHASE)
    results.check()
    with (
        _interruptible(),
        Lease(results.store, f"leases/{run}", f"scan of run {run}", told=told) as lease,
        without_collection() as collect_again,
    ):
        record = RunRecord.begin(
            results, run, who.job, who.model, who.calibration, who.null_captions
        )
        committed = results.read_committed(run)
        record.add_commits(committed.records.values())
        commit_index, phase = CommitIndex(committed.records), partial(told, kind=PHASE)
        # Twice: Ray may take long to start, and then has a handler of its own.
        with (
            record,
            _runtime(who.job, resources, commit_index, phase) as runtime,
            _interruptible(),
        ):
            if not isinstance(runtime, CommittedRuntime):
                collect_again()
            job = replace(who.job, chunk_size=record.chunk_size or _known_size(committed))
            reusable = tuple[str, ...]()
            if job.spec.source == "generated":
                reusable = tuple(runs_like(results, who.run, record.identity))
            if resources.gpus_per_actor > 1:
                build = partial(build, gpus=resources.gpus_per_actor)
            setup = WorkerSetup(job, who.run, build, who.model, reusable)
            packer = Packer(runtime, job.results, who.run, committed)
            loop = ScanLoop(
                setup, commit_index, resources, runtime, results, record, packer, traces
            )
            loop.run(lease, progress, stall_seconds)
    return record.summary


def _known_size(committed: Committed) -> int | None:
    """Return the samples per chunk of a run whose record does not say them; null if it is new."""
    is_new = not committed.records
    return committed.history.chunk_size or (None if is_new else CHUNK_SIZE)


def _runtime(
    job: Job, resources: Resources, commit_index: CommitIndex, told: Callable[[str], None]
) -> AbstractContextManager[Runtime]:
    """Return where a scan runs; Ray is imported and started only where there is work for it."""
    urls = tuple(dict.fromkeys(job.shards))
    if not commit_index.is_empty:
        told(f"comparing {counted(len(urls), 'shard')} with what is committed")
        if (known := identities(urls, commit_index, job.limit)) is not None:
            return nullcontext(CommittedRuntime(known))
    if resources.local:
        from scanner.engine.local import LocalRuntime

        return closing(LocalRuntime(resources))
    told("joining the Ray cluster" if resources.joins else "starting Ray")
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
