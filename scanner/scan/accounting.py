"""Evaluations and seconds of batches, charged to their chunks."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Event

import torch

from scanner.activity import Activity
from scanner.models.base import Denoiser
from scanner.scan.clock import Clock
from scanner.scan.evaluation_counter import EvaluationCounter
from scanner.scan.profiling import BatchProfiler
from scanner.scan.state import Cost


class Accounting:
    """Counts and times the evaluations of networks on one device.

    Args:
        device: Where the networks are.

    Attributes:
        evaluations: ``draws`` sampled so far, and the ``forward``, ``vjp`` and ``jvp``
            evaluations of networks.
        parts: Seconds of the device so far, by `scanner.scan.clock.PARTS`.
        stopped: Once it is set, evaluations raise `scanner.errors.Stopped`.
        profiler: Records batches, if one was asked for.
    """

    def __init__(self, device: torch.device) -> None:
        self.evaluations: Counter[str] = Counter(draws=0, forward=0, vjp=0, jvp=0)
        self.parts, self.stopped = Counter[str](), Event()
        self._clock = Clock(device)
        self._batch: _Batch | None = None
        self.profiler: BatchProfiler | None = None

    def counted(self, network: Denoiser) -> EvaluationCounter:
        """Return a network whose evaluations are counted and timed here."""
        return EvaluationCounter(network, self.evaluations, self._clock, self.stopped)

    def activity(self) -> Activity:
        """Return what the device is at; may be asked from any thread."""
        batch, done = self._batch, self.evaluations["draws"]
        if batch is None:
            return Activity(done=done)
        made = _made(self.evaluations) - batch.before
        share = min(1.0, made / batch.expected) if batch.expected else 0.0
        return Activity(batch.stage, batch.draws, share, done)

    @contextmanager
    def at(self, stage: str, draws: int, each: int, *, settled: bool = True) -> Iterator[None]:
        """Say what the device is at, and have it recorded if that was asked for.

        Args:
            stage: A word of `scanner.activity`.
            draws: Of the batch.
            each: Evaluations of networks that one draw takes there.
            settled: Whether the size of batches is found.
        """
        self._batch = _Batch(stage, draws, draws * each, _made(self.evaluations))
        profiler = self.profiler
        recorded = profiler.batch(stage, draws, settled=settled) if profiler else nullcontext()
        try:
            with recorded:
                yield
        finally:
            self._batch = None

    @contextmanager
    def batch(self, costs: Sequence[Cost]) -> Iterator[None]:
        """Charge the batch inside to its draws' chunks alike, when the device is through with it.

        A batch that fails is counted, but neither timed nor charged.

        Args:
            costs: Of each draw's chunk, or one for all draws.
        """
        self._clock.drop()
        before = self.evaluations.copy()
        yield
        parts = self._clock.collect()
        spent = {name: n - before[name] for name, n in self.evaluations.items()}
        self.parts.update(parts)
        for cost in costs:
            cost.parts.update({name: seconds / len(costs) for name, seconds in parts.items()})
            cost.evaluations.update({name: n // len(costs) for name, n in spent.items()})


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch at work: its evaluations in all, and those of the device before it."""

    stage: str
    draws: int
    expected: int
    before: int


def _made(evaluations: Counter[str]) -> int:
    return sum(evaluations[kind] for kind in ("forward", "vjp", "jvp"))
