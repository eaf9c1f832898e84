"""A device's time by part: the network, products with its Jacobian, and everything else."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function

PARTS = ("network", "product", "preparation", "autoencoder")
"""Parts that are timed: forward evaluations of networks (with tangents, if any), gradients back
through them, tokens, text states, noise and probes, and the autoencoder."""


class Clock:
    """Times parts of the work on one device.

    On CUDA a part lies between two events on the stream, so that nothing waits for the device
    and a part's time is the device's own: what the host does while the device is busy costs
    nothing. On other accelerators the device is waited for at both ends. On a CPU it is wall
    time. Parts must not contain one another.

    Args:
        device: Where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self._mark, self._between = _timing_functions(device)
        self._pending: list[tuple[str, object, object]] = []

    @contextmanager
    def span(self, part: str) -> Iterator[None]:
        """Time what is inside as one of `PARTS`; what fails is not counted.

        Traces (`scanner.scan.profiling`) show it under this name.
        """
        start = self._mark()
        with record_function(part):
            yield
        self._pending.append((part, start, self._mark()))

    def begin(self) -> object:
        """Return a mark for `end`."""
        return self._mark()

    def end(self, part: str, start: object) -> None:
        """Count the time since a mark."""
        self._pending.append((part, start, self._mark()))

    def collect(self) -> Counter[str]:
        """Return the seconds of every part since the last time.

        Call it when the device is through with them: else it is waited for.
        """
        found = Counter[str]()
        for part, start, end in self._pending:
            found.update({part: self._between(start, end)})
        self._pending.clear()
        return found

    def drop(self) -> None:
        """Forget what was not collected: a batch that failed."""
        self._pending.clear()


def _timing_functions(
    device: torch.device,
) -> tuple[Callable[[], object], Callable[[object, object], float]]:
    """Return how to mark a moment, and how to tell the seconds between two."""
    if device.type == "cuda":
        return _event, _between_events
    if device.type == "mps":
        return _mps_time, _between_times
    return time.perf_counter, _between_times


def _event() -> object:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between_events(start: object, end: object) -> float:
    if not isinstance(start, torch.cuda.Event) or not isinstance(end, torch.cuda.Event):
        raise TypeError(f"two events are needed, got {start!r} and {end!r}")
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _mps_time() -> float:
    torch.mps.synchronize()
    return time.perf_counter()


def _between_times(start: object, end: object) -> float:
    if not isinstance(start, float) or not isinstance(end, float):
        raise TypeError(f"two times are needed, got {start!r} and {end!r}")
    return end - start
