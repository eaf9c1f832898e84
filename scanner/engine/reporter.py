"""Counts and events of a scan as it goes, for its summary, its record and its listeners."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from scanner.engine.job import ACTIVITY, Event
from scanner.engine.plan import Plan, WorkUnit
from scanner.engine.pool import ActorBusy, Pool
from scanner.engine.queue import Queue
from scanner.engine.record import RunRecord
from scanner.engine.reports import ChunkReport
from scanner.records import parts_of
from scanner.results.commit_file import CommitFile

_SUMS = ("samples", "scored", "localized", "screened", "flagged", "rejected", "recalled")


class Reporter:
    """Counts what the loop does, and says it to whoever listens.

    Args:
        record: The run's record, with the summary that is filled in.
        plan: Knows how many samples there are.
        queue: Knows what waits.
        pool: Knows what is at work.
        shards: How many shards there are.
        listeners: Called with every event.

    Attributes:
        summary: The scan's.
        shards_counted: Shards whose samples are known.
        shards_total: Shards of the scan.
    """

    def __init__(
        self, record: RunRecord, plan: Plan, queue: Queue, pool: Pool, shards: int,
        *listeners: Callable[[Event], None],
    ) -> None:  # fmt: skip
        self.summary, self.shards_counted, self.shards_total = record.summary, 0, shards
        self._record, self._plan, self._queue, self._pool = record, plan, queue, pool
        self._listeners = listeners
        self._seconds, self._parts = 0.0, Counter[str]()

    def emit(self, kind: str, text: str, **facts: Any) -> None:
        """Tell of something, with the counts at this moment."""
        done = self.summary
        event = Event(
            kind, done.samples, self._plan.total, done.flagged, done.rejected, text,
            run=done.run, scored=done.scored, localized=done.localized, retries=done.retries,
            quarantined=len(done.quarantined), shards_counted=self.shards_counted,
            shards_total=self.shards_total, waiting=len(self._queue),
            running=self._pool.in_flight, **facts,
        )  # fmt: skip
        for listener in self._listeners:
            listener(event)

    def skipped(self, record: CommitFile) -> None:
        """Count a chunk that an earlier scan committed."""
        self._count(record.content)
        self.summary.chunks_skipped += 1

    def committed(self, unit: WorkUnit, facts: Mapping[str, Any], actor: str) -> None:
        """Count a chunk that this scan committed.

        Args:
            unit: The chunk.
            facts: Its numbers, as its commit record has them.
            actor: Who scanned it.
        """
        self._count(facts)
        self._record.add_commit(unit.place)
        self.summary.chunks_done += 1
        counts = {name: facts[name] for name in ChunkReport.names() if name in facts}
        self.emit("chunk", unit.name, **about(unit), actor=actor, counts=counts)

    def incomplete(self, text: str, shard: str) -> None:
        """Note what is missing, once."""
        if text not in self.summary.incomplete:
            self.summary.incomplete.append(text)
            self.emit("problem", text, shard=shard)

    def activity(self, busy: ActorBusy) -> None:
        """Tell what an actor is at."""
        at = busy.activity
        self.emit(ACTIVITY, at.words(), actor=busy.actor, counts=asdict(at))

    def spent(self, counts: ChunkReport) -> None:
        """Add up where the time of the devices went."""
        self._seconds += counts.seconds
        self._parts.update(parts_of(counts.facts()))
        whole = max(self._seconds, 1e-9)
        shares = {name: seconds / whole for name, seconds in self._parts.items()}
        self.summary.denoiser_share = shares["network"] + shares["product"]
        self.summary.time_shares = shares

    def note_actors(self) -> None:
        """Take over what the actors said of themselves."""
        self._record.actors = list(zip(self._pool.facts, self._pool.efforts, strict=True))
        self.summary.actors = [
            {"name": f.name, "device": f.device, "gpu": f.gpu, "denoiser_share": effort.share}
            for f, effort in self._record.actors
        ]

    def _count(self, facts: Mapping[str, Any]) -> None:
        for name in _SUMS:
            if number := facts.get(name, 0):
                setattr(self.summary, name, getattr(self.summary, name) + number)
        for name, number in facts.get("evaluations", {}).items():
            self.summary.evaluations[name] = self.summary.evaluations.get(name, 0) + number


def about(unit: WorkUnit) -> dict[str, str]:
    """Return the shard and the chunk that an event is about."""
    return {"shard": unit.chunk.shard.url, "chunk": unit.name}
