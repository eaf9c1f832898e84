"""How far a run is, from its record and the commits that are there; nothing is read twice."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from scanner.results import coverage
from scanner.results.commit_file import CommitFile
from scanner.results.folder import Results
from scanner.throughput import Throughput

FEW = 64
"""New commits up to which they are read one by one."""
TOTALS = ("samples", "scored", "flagged", "rejected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        status: As its record says; what a killed process left ``running`` stays so.
        counts: ``samples``, ``scored``, ``flagged`` and ``rejected``, of what is committed.
        chunks: Chunks committed whole.
        of: Chunks of the shards that were begun.
        shards: Shards that were begun.
        asked: Addresses that the scan was given.
        per_second: Samples a second since it was looked at; 0 where that is not known yet.
        quiet: Seconds since something new was seen.
    """

    status: str
    counts: Mapping[str, int]
    chunks: int
    of: int
    shards: int
    asked: int
    per_second: float
    quiet: float

    @property
    def is_running(self) -> bool:
        """Whether there may be more to come."""
        return self.status == "running"


class Live:
    """The progress of a run, each commit read once.

    Args:
        results: The results folder.
        run: The run.
    """

    def __init__(self, results: Results, run: str) -> None:
        self._results, self._run, self._lock = results, run, threading.Lock()
        self._commits: dict[str, CommitFile] = {}
        self._seen, self._rate = time.monotonic(), Throughput(time.monotonic())

    def progress(self) -> Progress:
        """Return how far the run is now.

        Raises:
            ResultsError: If the results cannot be read.
        """
        with self._lock:
            samples = self._samples()
            if self._read():
                now = time.monotonic()
                if samples:
                    self._rate.add(self._samples() - samples, now)
                self._seen = now
            record = self._results.verified_run(self._run, self._commits)
            begun, commits = coverage.committed(self._commits.values()), self._commits.values()
            shards = record.config.get("shards")
            return Progress(
                status=record.status,
                counts={n: sum(getattr(c.counts, n) for c in commits) for n in TOTALS},
                chunks=sum(len(own.whole) for own in begun.values()),
                of=sum(own.chunks for own in begun.values()), shards=len(begun),
                asked=len(shards) if isinstance(shards, list | tuple) else 0,
                per_second=self._per_second(),
                quiet=time.monotonic() - self._seen,
            )  # fmt: skip

    def _per_second(self) -> float:
        return self._rate.per_second(time.monotonic()) if self._rate.is_meaningful else 0.0

    def _samples(self) -> int:
        return sum(commit.counts.samples for commit in self._commits.values())

    def _read(self) -> bool:
        """Read the commits that are new; return whether there are any."""
        new = [n for n in self._results.committed(self._run) if n not in self._commits]
        if not new:
            return False
        found = {n: self._results.read_commit(self._run, n) for n in new} if len(new) <= FEW else {}
        if not found or None in found.values():  # many, or packed away meanwhile
            self._commits = self._results.commits(self._run)
        else:
            self._commits |= {name: each for name, each in found.items() if each is not None}
        return True
