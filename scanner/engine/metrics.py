"""A scan's events as Ray metrics, which every node exports to Prometheus.

Ray puts ``ray_`` before a name. All are of the driver's process: a count that it took back
from a lost actor, or found committed, is right here and nowhere else.
"""

from ray.util.metrics import Counter, Gauge, Histogram

from scanner.engine.job import TRANSIENT, Event
from scanner.records import parts_of
from scanner.throughput import Throughput

CHUNK_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0)
"""Upper bounds of the histogram's buckets."""

COUNTERS = {
    "memscan_samples_total": "Samples committed: scored and rejected",
    "memscan_scored_total": "Samples with scores",
    "memscan_localized_total": "Samples with maps",
    "memscan_flagged_total": "Samples flagged",
    "memscan_chunks_total": "Chunks committed",
    "memscan_retries_total": "Attempts that failed and were repeated",
    "memscan_quarantined_chunks_total": "Chunks given up",
    "memscan_problems_total": "Shards unreadable, cut short or changed",
    "memscan_actors_lost_total": "Actors that died, were stopped or could not open",
}
"""Tagged ``run``; what this scan did, without what earlier ones had committed."""

GAUGES = {
    "memscan_run_samples": "Samples committed, those of earlier scans of the run included",
    "memscan_run_samples_known": "Samples of the shards that are counted",
    "memscan_shards_counted": "Shards whose samples are known",
    "memscan_shards": "Shards of the scan",
    "memscan_tasks_waiting": "Tasks that no actor has yet",
    "memscan_tasks_running": "Tasks that actors have",
}
"""Tagged ``run``."""

REJECTED = "memscan_rejected_total"
"""Samples that could not be scored, tagged ``run`` and ``reason``."""
CHUNK = "memscan_chunk_seconds"
"""Histogram of a task's time, tagged ``run``."""
ACTOR_SECONDS = "memscan_actor_seconds_total"
"""Time of the tasks, tagged ``run`` and ``actor``."""
DENOISER_SECONDS = "memscan_denoiser_seconds_total"
"""Time of them in the networks, products included, tagged ``run`` and ``actor``."""
PART_SECONDS = "memscan_actor_part_seconds_total"
"""Time of them by part, tagged ``run``, ``actor`` and ``part``: network, product, preparation,
autoencoder, waiting and other."""
ACTOR_RATE = "memscan_actor_captions_per_second"
"""Over the last two minutes, tagged ``run`` and ``actor``; 0 when the actor is gone."""
ACTOR_SHARE = "memscan_actor_denoiser_share"
"""Share of the last task's time in the networks, tagged ``run`` and ``actor``."""

NAMES = (
    *COUNTERS, *GAUGES, REJECTED, CHUNK, ACTOR_SECONDS, DENOISER_SECONDS, PART_SECONDS, ACTOR_RATE,
    ACTOR_SHARE,
)  # fmt: skip
"""Every metric there is."""

_SUMS = ("samples", "scored", "localized", "flagged")
_EVENTS = {
    "retry": "memscan_retries_total",
    "quarantine": "memscan_quarantined_chunks_total",
    "problem": "memscan_problems_total",
    "lost": "memscan_actors_lost_total",
}


class Metrics:
    """Turns events into metrics.

    Args:
        run: The run, a tag of every metric.
    """

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._counters = {name: Counter(name, text, ("run",)) for name, text in COUNTERS.items()}
        self._gauges = {name: Gauge(name, text, ("run",)) for name, text in GAUGES.items()}
        self._rejected = Counter(REJECTED, "Samples that could not be scored", ("run", "reason"))
        self._chunk = Histogram(CHUNK, "Time of a task", list(CHUNK_SECONDS), ("run",))
        by_actor = ("run", "actor")
        self._seconds = Counter(ACTOR_SECONDS, "Time of the tasks", by_actor)
        self._denoiser = Counter(DENOISER_SECONDS, "Time of them in the denoiser", by_actor)
        self._part = Counter(PART_SECONDS, "Time of them by part", (*by_actor, "part"))
        self._rate = Gauge(ACTOR_RATE, "Captions per second over two minutes", by_actor)
        self._share = Gauge(ACTOR_SHARE, "Denoiser's share of the last task", by_actor)
        self._throughputs: dict[str, Throughput] = {}

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        if event.kind in TRANSIENT:
            return
        for name, value in (
            ("memscan_run_samples", event.samples_done),
            ("memscan_run_samples_known", event.samples_total),
            ("memscan_shards_counted", event.shards_counted),
            ("memscan_shards", event.shards_total),
            ("memscan_tasks_waiting", event.waiting),
            ("memscan_tasks_running", event.running),
        ):
            self._gauges[name].set(value, self._run)
        if event.kind in _EVENTS:
            self._counters[_EVENTS[event.kind]].inc(1, self._run)
        if event.kind == "chunk":
            self._chunk_done(event)
        elif event.actor:
            self._actor_came_or_went(event)

    def _chunk_done(self, event: Event) -> None:
        self._counters["memscan_chunks_total"].inc(1, self._run)
        for name in _SUMS:
            if amount := event.counts.get(name, 0):
                self._counters[f"memscan_{name}_total"].inc(amount, self._run)
        for reason, amount in event.counts.get("reasons", {}).items():
            self._rejected.inc(amount, self._run | {"reason": reason})
        seconds = event.counts.get("seconds", 0.0)
        if event.actor in self._throughputs and seconds > 0:
            self._actor_returned(event, seconds)

    def _actor_returned(self, event: Event, seconds: float) -> None:
        tags = self._run | {"actor": event.actor}
        denoiser = event.counts.get("denoiser_seconds", 0.0)
        self._chunk.observe(seconds, self._run)
        self._seconds.inc(seconds, tags)
        if denoiser > 0:
            self._denoiser.inc(denoiser, tags)
        for part, spent in parts_of(event.counts).items():
            if spent > 0:
                self._part.inc(spent, tags | {"part": part})
        throughput = self._throughputs[event.actor]
        throughput.add(event.counts.get("samples", 0), event.time)
        self._rate.set(throughput.per_second(event.time), tags)
        self._share.set(denoiser / seconds, tags)

    def _actor_came_or_went(self, event: Event) -> None:
        self._throughputs.pop(event.actor, None)
        if event.kind == "worker":
            self._throughputs[event.actor] = Throughput(event.time)
        self._rate.set(0.0, self._run | {"actor": event.actor})
