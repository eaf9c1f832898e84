"""A scan on Ray: an actor per GPU or CPU, shards counted in tasks."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import ray
from ray.exceptions import LocalRayletDiedError, RayError

from scanner.engine import heartbeat, score_index
from scanner.engine.cluster import cluster
from scanner.engine.failures import Failure
from scanner.engine.job import Event, Resources
from scanner.engine.metrics import Metrics
from scanner.engine.pool import DIED, IN_FLIGHT, NODE_DIED, UNREACHABLE
from scanner.engine.queue import Task
from scanner.engine.reports import ActorInfo
from scanner.engine.runtime import WorkerLost, WorkerSetup
from scanner.engine.worker import Worker as LocalWorker
from scanner.errors import ClusterError, ConfigError
from scanner.models.device import choose_device

MOST_INDEXING_TASKS = 32
"""Shards that are counted at a time, at most; a quarter of the CPUs if that is less."""


class Worker(LocalWorker):
    """A worker in a process of its own."""

    def open(self) -> ActorInfo | Failure:
        """Load the model; the collector of cycles visits it and the libraries no more.

        It took a seventh of an actor's processor time beside a network that costs nothing.
        """
        answer = super().open()
        gc.collect()
        gc.freeze()
        return answer


@contextmanager
def on_ray(resources: Resources) -> Iterator["RayRuntime"]:
    """Provide a runtime on the cluster at an address, or on a local Ray.

    Raises:
        ConfigError: If CUDA is asked for and no node has a GPU.
        ClusterError: If there is no cluster, Ray does not start, or it goes away.
    """
    with cluster(resources.address):
        runtime = RayRuntime(resources)
        try:
            yield runtime
        except RayError as error:
            raise ClusterError(f"Ray went away ({error}): run again to resume") from error
        finally:
            runtime.close()


class RayRuntime:
    """A `scanner.engine.runtime.Runtime` of Ray's processes.

    Args:
        resources: Where and how wide.
    """

    can_kill = True

    def __init__(self, resources: Resources) -> None:
        have = ray.cluster_resources()
        self._device, self.size, self._share, self._threads = placement(resources, have)
        self.one_gpu_each = self._share.get("num_gpus", 0.0) >= 1
        self.indexing_width = max(2, min(MOST_INDEXING_TASKS, int(have.get("CPU", 0)) // 4))
        self._joins, self._scores = resources.joins, None
        self._tasks: dict[Callable[..., Any], Any] = {}

    def start(self, setup: WorkerSetup) -> Any:
        """Start an actor, and with the first the index of scores that all of them ask."""
        actor = ray.remote(Worker).options(
            **self._share, max_restarts=0, max_task_retries=0, max_concurrency=IN_FLIGHT + 1
        )
        return actor.remote(
            setup.job, setup.run, self._device, self._threads, setup.build,
            setup.model if self._joins else "", self._finder(setup), setup.profiled,
        )  # fmt: skip

    def _finder(self, setup: WorkerSetup) -> score_index.ScoreIndexClient | None:
        if not setup.reusable:
            return None
        if self._scores is None:
            self._scores = score_index.start(setup.job.results, setup.reusable)
        return score_index.ScoreIndexClient(self._scores)

    def open(self, worker: Any) -> ray.ObjectRef:
        """Have an actor load its model."""
        return worker.open.remote()

    def scan(self, worker: Any, task: Task) -> ray.ObjectRef:
        """Hand a task to an actor."""
        return worker.scan.remote(task)

    def activity(self, worker: Any) -> ray.ObjectRef:
        """Ask an actor what it is at; one of its threads is left for the answer."""
        return worker.activity.remote()

    def kill(self, worker: Any) -> None:
        """Kill an actor's process."""
        ray.kill(worker)

    def submit(self, function: Callable[..., Any], *args: object) -> ray.ObjectRef:
        """Call a function in a task that needs no CPU of its own."""
        if function not in self._tasks:  # each one that is made is kept by the cluster
            self._tasks[function] = ray.remote(function).options(num_cpus=0, max_retries=2)
        return self._tasks[function].remote(*args)

    def cancel(self, ref: ray.ObjectRef) -> None:
        """Kill the process of a task."""
        ray.cancel(ref, force=True)

    def ready(self, refs: Sequence[ray.ObjectRef], seconds: float) -> set[ray.ObjectRef]:
        """Return the calls that are over; wait for the first of them, up to ``seconds``."""
        if not refs or not ray.wait(list(refs), timeout=seconds)[0]:
            return set()
        return set(ray.wait(list(refs), num_returns=len(refs), timeout=0)[0])

    def result(self, ref: ray.ObjectRef) -> Any:
        """Return what a call gave, waiting for it.

        Raises:
            WorkerLost: If its process is gone.
            ClusterLostError: If the node of this process is dead.
        """  # noqa: DOC501 - lost() returns it
        try:
            return ray.get(ref)
        except LocalRayletDiedError as error:  # says nothing of the call
            raise heartbeat.lost("the node that this process is connected to is dead") from error
        except RayError as error:
            raise WorkerLost(_reason(error), str(error)) from error

    def check(self) -> None:
        """Raise if the cluster is gone.

        Raises:
            ClusterLostError: With what is known of it.
        """
        heartbeat.check()

    def offer(self) -> str:
        """Return what the cluster has."""
        have = ray.cluster_resources()
        return f"{have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs"

    def metrics(self, run: str) -> Callable[[Event], None]:
        """Return what exports a run's events to Prometheus."""
        return Metrics(run)

    def close(self) -> None:
        """Stop the index of scores."""
        if self._scores is not None:
            ray.kill(self._scores)


def placement(
    resources: Resources, have: Mapping[str, float]
) -> tuple[str, int, dict[str, float], int]:
    """Return device, number of actors, what Ray reserves for each, and threads of each.

    More local actors than devices share them evenly; in a cluster that may grow, each actor
    asks for a whole one. An actor of several GPUs shares none of them.

    Args:
        resources: What is asked.
        have: What Ray has, by its names: ``CPU`` and ``GPU``.

    Raises:
        ConfigError: If CUDA is asked for and no node has a GPU, or fewer GPUs than all actors
            need.
    """
    cpus, gpus = max(1, int(have.get("CPU", 1))), int(have.get("GPU", 0))
    device = resources.device
    if device != "cuda" or not resources.joins:  # a cluster may still get its GPUs
        device = choose_device(device, gpus, "Ray")
    if resources.gpus_per_actor > 1:
        size = _several_gpus_each(resources, device, gpus)
        share = {"num_gpus": float(resources.gpus_per_actor), "num_cpus": 0}
        return device, size, share, resources.threads or max(1, cpus // size)
    units = max(1, gpus) if device == "cuda" else cpus
    size = resources.actors or units
    # Ray counts in ten thousandths and rounds: rounded up, the last actor would find no place.
    share = 1.0 if resources.joins else 10_000 // ceil(size / units) / 10_000
    threads = resources.threads or max(1, cpus // size)
    if device == "cuda":
        return device, size, {"num_gpus": share, "num_cpus": 0}, threads
    return device, size, {"num_cpus": share}, threads


def _several_gpus_each(resources: Resources, device: str, gpus: int) -> int:
    """Return how many actors there are of several GPUs each.

    Raises:
        ConfigError: If there are no GPUs, or too few.
    """
    each = resources.gpus_per_actor
    if device != "cuda":
        raise ConfigError(
            f"--gpus-per-actor {each} splits a model over GPUs, and Ray has none: leave it out, or "
            f"join a cluster that has them (--address)"
        )
    size = resources.actors or max(1, gpus // each)
    if not resources.joins and size * each > gpus:
        raise ConfigError(
            f"{size} actors of {each} GPUs need {size * each}, and Ray has {gpus}: fewer "
            f"--gpus-per-actor or --actors"
        )
    return size


def _reason(error: RayError) -> str:
    """Return one line for an error of Ray's."""
    known = {
        "ActorDiedError": DIED,
        "ActorUnavailableError": UNREACHABLE,
        "NodeDiedError": NODE_DIED,
        "OutOfMemoryError": "the worker was stopped because the node's memory ran out",
        "ActorUnschedulableError": "the worker could not be placed",
    }
    text = str(error)
    if "low on memory" in text:
        return known["OutOfMemoryError"]
    first = (text.strip().splitlines() or [""])[0]
    return known.get(type(error).__name__, f"{type(error).__name__}: {first}")
