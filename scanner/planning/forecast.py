"""The cost of a scan, estimated before it starts. Uses no Ray and writes nothing."""

import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from scanner import models
from scanner.collection import without_collection
from scanner.engine.identity import identify, refuse, resolved
from scanner.engine.job import CHUNK_SIZE, Job
from scanner.engine.plan import CommitIndex, Plan
from scanner.errors import ClusterError, ConfigError
from scanner.models.device import local_device
from scanner.models.limits import limits
from scanner.planning.caption_hashes import REJECTED, DistinctCounter, ShardHashes, hash_captions
from scanner.results.folder import Results
from scanner.scan import cost, speed
from scanner.scan.speed import Speed
from scanner.shards.download_logs import failed_downloads
from scanner.spec import ScanSpec
from scanner.statistics import calibration

USUAL_BATCH = (16, 32)
"""Draws that are timed at a time where a scan would find out: on a CPU, on a GPU."""
VJP = 2.0
"""A gradient in forward evaluations, where nobody says it. An upper end: it has 1.1 to 1.4 of its
operations (benchmarks/real_sizes.py) and takes 1.4 to 1.9 of its time (docs/cluster.md)."""


@dataclass(slots=True)
class Forecast:
    """A corpus, the part that is done, the part that is left, and its cost.

    Attributes:
        run: The run's name, ``""`` if nobody asked for it.
        shards: How many there are.
        first: Address of the first.
        last: Address of the last.
        bytes: Of the shards whose size is known.
        unsized_shards: Those whose size a server does not tell.
        done_shards: Shards committed whole, not opened.
        done_samples: Samples committed.
        done_chunks: Chunks committed.
        samples: Samples left.
        captions: Of these, with a caption that can be scored.
        rejected: The others by reason.
        distinct: Distinct captions among those left: each is scored once. Where images are
            scored, all samples: no image is read to see which are the same, or are there.
        distinct_error: Relative standard error of that count, 0 if it is exact.
        draws: Samplings left.
        detection: Evaluations that detection takes.
        localization: Evaluations that localization takes, at ``flagged_share``.
        flagged_share: Share of the captions that is localized; an assumption unless 0 or 1.
        speed: What the hours are made of, or null.
        hours: Hours of one device in its network, or null.
        problems: What is wrong with shards, a line each.
        model_checked: Whether the model was looked at; if not, a scan may refuse it yet.
        probes: Products that a map and branch takes; those asked for, of a model not looked at.
        downloads: Images that img2dataset was to fetch for the shards, if it says so beside them.
        failed_downloads: Of these, those that are in no shard.
        is_probes_assumed: Whether the model decides that number, and was not looked at.
        dtype: Precision of the network.
    """

    run: str = ""
    shards: int = 0
    first: str = ""
    last: str = ""
    bytes: int = 0
    unsized_shards: int = 0
    done_shards: int = 0
    done_samples: int = 0
    done_chunks: int = 0
    samples: int = 0
    captions: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    distinct: int = 0
    distinct_error: float = 0.0
    draws: int = 0
    detection: dict[str, int] = field(default_factory=dict)
    localization: dict[str, int] = field(default_factory=dict)
    flagged_share: float = 0.0
    speed: Speed | None = None
    hours: float | None = None
    problems: list[str] = field(default_factory=list)
    model_checked: bool = True
    probes: int = 0
    is_probes_assumed: bool = False
    dtype: str = "float32"
    downloads: int = 0
    failed_downloads: int = 0


def forecast(
    job: Job, *, rate: float | None, flagged: float | None, device: str,
    progress: Callable[[int, int], None], local: bool = False, gradient: float = VJP,
    gpus: int = 1,
) -> Forecast:  # fmt: skip
    """Count what a job would scan and what that would take.

    Args:
        job: The scan. Without results (``""``) nothing counts as done.
        rate: Forward evaluations per second of one device; null loads the model and times it.
        flagged: Share of the captions that will be localized; null takes the job's
            false-positive rate, as of a corpus without memorization.
        device: Where to time: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: Told how many shards are counted of how many.
        local: Whether to count in this process, one shard after another.
        gradient: Forward evaluations that a gradient takes as long as, where ``rate`` is given.
        gpus: Over how many GPUs the model is spread where it is timed.

    Raises:
        ConfigError: If the model, the baseline, the calibration or an address cannot be used.
        ResultsError: If the results cannot be read.
        ClusterError: If a process that counts dies.
    """
    done, commit_index = Forecast(shards=len(job.shards), dtype=job.spec.dtype), CommitIndex({})
    is_here = job.model == models.GAUSSIAN or Path(job.model).is_dir()
    if job.results or rate is None or job.calibration or job.image_calibration:
        who = identify(job)
        job, done.run = who.job, who.run
    elif is_here:
        refuse(job)
        job = resolved(job)
    else:
        done.model_checked = False  # what a hub has is not downloaded to be counted with
    if job.results:
        results = Results(job.results)
        if results.exists() and done.run in results.runs():
            job = replace(job, chunk_size=results.run_file(done.run).chunk_size or job.chunk_size)
            commit_index = CommitIndex(results.commits(done.run))
    _count(done, job, commit_index, progress, local=local)
    done.failed_downloads, done.downloads = failed_downloads(job.shards)
    done.probes = job.spec.probes
    done.is_probes_assumed = job.auto_probes and job.spec.probe_design == "structured"
    if done.model_checked:
        done.probes = cost.probes_taken(job.spec, limits(job.model).channels)
    if rate is not None:
        done.speed = Speed(1 / rate, gradient / rate)
    elif done.distinct:
        done.speed = _measured(job, device, gpus)
    _cost_of(done, job, flagged)
    return done


@without_collection()
def _count(
    done: Forecast, job: Job, commit_index: CommitIndex, progress: Callable[[int, int], None],
    *, local: bool,
) -> None:  # fmt: skip
    """Fill in everything about shards and captions.

    Raises:
        ConfigError: If a shard is not usable for what the job asks.
    """
    urls = list(dict.fromkeys(job.shards))
    done.shards, done.first, done.last = len(urls), urls[0], urls[-1]
    plan, distinct, rejected = Plan(commit_index, job.limit), DistinctCounter(), Counter[str]()
    progress(0, len(urls))
    hashed = _hash_here if local else _hash_shards
    for number, (url, found) in enumerate(hashed(urls, job, commit_index.finished()), 1):
        if not found.is_usable:
            raise ConfigError(found.problem or url)
        if found.index is not None:
            captions, reasons = _left(found, plan)
            done.captions += len(captions)
            rejected.update(reasons)
            distinct.add(captions)
        elif found.shard is not None and found.problem is None:
            plan.skip(found.shard.id)
        done.problems += _problems(url, found)
        if found.shard is not None:
            done.bytes += max(0, found.shard.size)
            done.unsized_shards += found.shard.size < 0
            done.done_shards += found.index is None and found.problem is None
        progress(number, len(urls))
        if plan.is_full:
            break
    done.done_samples = sum(record.counts.samples for record in plan.skipped)
    done.done_chunks = len(plan.skipped)
    done.samples = plan.total - done.done_samples
    done.rejected = dict(rejected.most_common())
    done.distinct, done.distinct_error = distinct.count()
    if job.spec.source != "generated":
        done.distinct, done.distinct_error = done.captions, 0.0


def _left(found: ShardHashes, plan: Plan) -> tuple[np.ndarray, list[str]]:
    """Return the hashes of the captions of a shard that are left, and why others have none."""
    if found.index is None or found.hashes is None:
        return np.zeros(0, np.uint64), []
    starts = np.cumsum([0, *(chunk.samples for chunk in found.index.chunks)])
    wanted = np.zeros(len(found.hashes), bool)
    for piece in plan.work_units(found.index):
        first = starts[piece.chunk.number]
        wanted[first + piece.start : first + piece.stop] = True
    is_rejected = found.hashes == REJECTED
    reasons = np.array(found.reasons)[wanted[is_rejected]]
    return found.hashes[wanted & ~is_rejected], reasons.tolist()


def _problems(url: str, found: ShardHashes) -> list[str]:
    problem = found.problem or (found.index and found.index.problem)
    if not problem:
        return []
    return [problem if url in problem else f"{url}: {problem}"]


def _hash_here(
    urls: Sequence[str], job: Job, finished: Mapping[str, Set[str]]
) -> Iterator[tuple[str, ShardHashes]]:
    """Yield every shard's hashes in order, counted in this process."""
    for url in urls:
        known = frozenset(finished.get(url, ()))
        size = job.chunk_size or CHUNK_SIZE
        yield url, hash_captions(url, size, known, captions=job.spec.captions)


def _hash_shards(
    urls: Sequence[str], job: Job, finished: Mapping[str, Set[str]]
) -> Iterator[tuple[str, ShardHashes]]:
    """Yield every shard's hashes in order, counted by several processes.

    Raises:
        ClusterError: If a process that counts dies.
    """
    width = min(len(urls), os.cpu_count() or 1)
    left, running = deque(urls), deque[tuple[str, Future[ShardHashes]]]()
    with _processes(width) as pool:
        while left or running:
            while left and len(running) < 4 * width:
                url = left.popleft()
                known = frozenset(finished.get(url, ()))
                look = partial(hash_captions, captions=job.spec.captions)
                running.append((url, pool.submit(look, url, job.chunk_size or CHUNK_SIZE, known)))
            url, future = running.popleft()
            try:
                yield url, future.result()
            except BrokenProcessPool as error:
                raise ClusterError(f"a process died while it counted {url} or one near") from error


@contextmanager
def _processes(width: int) -> Iterator[ProcessPoolExecutor]:
    """Provide processes that leave an interrupt to this one."""
    ignore = (signal.SIGINT, signal.SIG_IGN)
    context = get_context("spawn")
    pool = ProcessPoolExecutor(width, context, initializer=signal.signal, initargs=ignore)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _measured(job: Job, device: str, gpus: int) -> Speed:
    """Return the model's speed on a device here."""
    denoiser = models.load(
        job.model, device=local_device(device), dtype=job.spec.dtype, side=job.spec.size,
        overlay=job.overlay, offload=job.offload, gpus=gpus,
    )  # fmt: skip
    size = job.batch_size or USUAL_BATCH[denoiser.device.type == "cuda"]
    return speed.measure(denoiser, job.spec, size)


def _cost_of(done: Forecast, job: Job, flagged: float | None) -> None:
    """Fill in evaluations and hours."""
    spec = job.spec
    detection = cost.evaluations(spec, localized=False, probes=done.probes)
    whole = cost.evaluations(spec, localized=True, probes=done.probes, baselines=len(job.baselines))
    done.draws, done.flagged_share = done.distinct * len(spec.seeds), _share(job, flagged)
    localized = round(done.draws * done.flagged_share)
    done.detection = {name: round(n * done.draws) for name, n in detection.items()}
    if spec.screen is not None:
        going = _passing(job)
        done.detection = {name: round(n * going) for name, n in done.detection.items()}
        done.detection["forward"] += round(2 * done.draws * (1 - going))
    done.localization = {name: (n - detection[name]) * localized for name, n in whole.items()}
    if done.speed is None:
        return
    # A tangent goes along with a forward pass and about doubles it.
    seconds = {"forward": done.speed.forward, "jvp": done.speed.forward, "vjp": done.speed.vjp}
    both = Counter(done.detection)
    both.update(done.localization)
    done.hours = sum(seconds[name] * n for name, n in both.items()) / 3600


def _passing(job: Job) -> float:
    """Return the share of captions that passes the screen: the null captions', if that is known."""
    null = None if job.calibration is None else calibration.load(job.calibration)
    return 1.0 if null is None or null.screen is None else null.screen.passing


def _share(job: Job, flagged: float | None) -> float:
    """Return the share of captions that gets maps."""
    spec: ScanSpec = job.spec
    if spec.localize != "flagged":
        return float(spec.localize == "all")
    if flagged is not None:
        return flagged
    return 0.0 if job.calibration is None and spec.threshold is None else spec.candidate_rate
