"""Batch size of a device: measured, kept, and halved when memory runs out."""

import gc
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

from scanner.errors import DeviceError, reproducible
from scanner.models.compiled import power_of_two
from scanner.models.memory import is_out_of_memory

T = TypeVar("T")

USUAL = 16
"""Draws at a time where memory is not measured."""
FIRST = 8
"""Draws of the batch that is measured."""
MOST = 256
"""Draws at a time, at most: beyond it a device gains nothing."""
MEASURED = 3
"""Batches that are measured, each at most four times the one before."""
SAFE = 0.8
"""Share of the free memory that is planned with."""
BATCHES_BEFORE_GROWTH = 64
"""Batches that must fit before a halved size is doubled again; twice as many each time."""


class MemoryGauge(Protocol):
    """Tells what a device's memory has to give."""

    def begin(self) -> None:
        """Start to watch a batch."""
        ...

    def peak(self) -> int:
        """Return the bytes that the batch took beyond what was there, at most."""
        ...

    def free(self) -> int:
        """Return the bytes that a batch could take."""
        ...


class CudaMemoryGauge:
    """CUDA devices of a network, shared with whoever else is on them; the scarcest counts.

    Args:
        devices: Theirs.
    """

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self._devices, self._before = devices, list[int]()

    def begin(self) -> None:
        """Start to watch a batch."""
        for device in self._devices:
            torch.cuda.reset_peak_memory_stats(device)
        self._before = [torch.cuda.memory_allocated(device) for device in self._devices]

    def peak(self) -> int:
        """Return the most that tensors took on a device beyond what was there."""
        pairs = zip(self._devices, self._before, strict=True)
        return max(torch.cuda.max_memory_allocated(device) - before for device, before in pairs)

    def free(self) -> int:
        """Return the least that a device has free, with what torch holds there without using it."""
        return min(map(_free, self._devices))


def _free(device: torch.device) -> int:
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def gauge_of(devices: Sequence[torch.device]) -> MemoryGauge | None:
    """Return what measures the memory of a network's devices; null where it is not measured."""
    return CudaMemoryGauge(devices) if devices[0].type == "cuda" else None


class BatchSize:
    """The size of one stage's batches, and what becomes of a batch that does not fit.

    Args:
        size: Draws at a time; null measures it, or takes `DEFAULT_RULES` without a gauge.
        gauge: What to measure with.
        proven: Whether one draw is known to fit.
        in_powers: Whether sizes that it finds are powers of two.

    Attributes:
        size: At present.
        shortages: Times that memory ran out.
    """

    def __init__(
        self, size: int | None, gauge: MemoryGauge | None = None, *, proven: bool = False,
        in_powers: bool = False,
    ) -> None:  # fmt: skip
        self._in_powers = in_powers
        self._gauge = gauge if size is None else None
        self._to_measure = MEASURED if self._gauge else 0
        self._wanted = size or (FIRST if self._gauge else USUAL)
        self.size, self.shortages = self._wanted, 0
        self._fitted_in_row, self._patience, self._proven = 0, BATCHES_BEFORE_GROWTH, proven

    @property
    def is_settled(self) -> bool:
        """Whether the size is found, and no further batch is measured for it."""
        return not (self._to_measure and self._gauge)

    def each(
        self, items: Sequence[T], work: Callable[[list[T]], None], relief: Callable[[], None],
        need_less: Callable[[], bool] = lambda: False,
    ) -> list[tuple[T, str]]:  # fmt: skip
        """Call ``work`` on batch after batch; one that does not fit is tried again in halves.

        Args:
            items: What to work on.
            work: Must leave no trace when it raises.
            relief: Called when memory ran out, to give back what can be spared.
            need_less: Called when an item does not fit alone; returns whether ``work`` takes less
                memory from now on, so that the item is tried again.

        Returns:
            The items that do not fit even alone, with what was said.

        Raises:
            DeviceError: If an item does not fit alone, and none ever did: then it is the device
                that is too small, or taken, and not the item that is to blame.
        """
        refused, start = list[tuple[T, str]](), 0
        while start < len(items):
            batch = list(items[start : start + self.size])
            if self._to_measure and self._gauge:
                self._gauge.begin()
            said = _try_batch(work, batch)
            if said is None:
                self._fitted(len(batch))
                start += len(batch)
                continue
            relief()
            release()
            if len(batch) > 1:
                self._halve(len(batch))
            elif need_less():
                continue
            elif self._proven:
                refused.append((batch[0], _cause(said)))
                start += 1
            else:
                raise DeviceError(f"not even one draw fits into memory: {said}")
        return refused

    def _fitted(self, number: int) -> None:
        self._proven = True
        if self._to_measure and self._gauge:
            self._to_measure -= 1
            each = max(1, self._gauge.peak() // number)
            room = int(SAFE * self._gauge.free()) // each
            found = max(1, min(room, 4 * number, MOST))
            self._wanted = self.size = power_of_two(found) if self._in_powers else found
            return
        self._fitted_in_row += 1
        if self.size < self._wanted and self._fitted_in_row >= self._patience:
            self.size = min(2 * self.size, self._wanted)
            self._fitted_in_row = 0

    def _halve(self, number: int) -> None:
        half = max(1, number // 2)
        self.size = power_of_two(half) if self._in_powers else half
        self.shortages += 1
        if self.shortages > 1:
            self._patience *= 2
        self._fitted_in_row = self._to_measure = 0


def release() -> None:
    """Give memory back that is only held for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _try_batch(work: Callable[[list[T]], None], batch: list[T]) -> str | None:
    """Work on a batch; return what was said if memory ran out, its frames already let go.

    Raises:
        MemoryError: If the batch does not fit.
        RuntimeError: If something else failed.
    """
    try:
        work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def _cause(said: str) -> str:
    """Return what failed and what was asked for; what CUDA says after it varies (what is free)."""
    return reproducible(". ".join(said.split(". ")[:2]))
