"""Full batches for localization: the few flagged draws of several chunks go together."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from scanner.scan.scanner import Scanner
from scanner.scan.state import ChunkState, DrawState

LONGEST_WAIT_CHUNKS = 2
"""Further chunks that a chunk waits for, at most, while its draws fill no batch."""

Finished = list[tuple[ChunkState, Exception | None]]
"""Chunks that need no more of the device, and what went wrong with each, if anything."""


@dataclass(slots=True, eq=False)
class _Waiting:
    chunk: ChunkState
    age: int = 0
    error: Exception | None = None


class LocalizationBatcher:
    """Holds detected chunks until their draws are localized.

    Args:
        scanner: Localizes and finishes.
    """

    def __init__(self, scanner: Scanner) -> None:
        self._scanner, self._held = scanner, deque[_Waiting]()

    def __len__(self) -> int:
        """Chunks held."""
        return len(self._held)

    def add(self, chunk: ChunkState) -> Finished:
        """Take a detected chunk in; return those that are done."""
        for held in self._held:
            held.age += 1
        self._held.append(_Waiting(chunk))
        while len(waiting := self._waiting()) >= self._batch_size:
            self._localize(waiting[: self._batch_size])
        while self._held and self._held[0].age >= LONGEST_WAIT_CHUNKS and _waiting(self._held[0]):
            self._localize(self._waiting()[: self._batch_size])
        return self._finish_localized()

    def flush(self) -> Finished:
        """Localize whatever waits; return all chunks."""
        while waiting := self._waiting():
            self._localize(waiting[: self._batch_size])
        return self._finish_localized()

    @property
    def _batch_size(self) -> int:
        return self._scanner.sizes["localize"].size

    def _waiting(self) -> list[DrawState]:
        return [item for held in self._held for item in _waiting(held)]

    def _localize(self, items: Sequence[DrawState]) -> None:
        """Localize a batch; if that fails, its chunks apart, so that none answers for another."""
        try:
            self._scanner.localize(items)
        except Exception:  # noqa: BLE001 - any error recurs below, in its own chunk
            wanted = {id(item) for item in items}
            for held in self._held:
                if any(id(item) in wanted for item in _waiting(held)):
                    self._localize_apart(held)

    def _localize_apart(self, held: _Waiting) -> None:
        try:
            self._scanner.localize(_waiting(held))
        except Exception as error:  # noqa: BLE001 - the chunk's own, handed to whoever waits for it
            held.error = error

    def _finish_localized(self) -> Finished:
        done: Finished = []
        for held in list(self._held):
            if _waiting(held):
                continue
            self._held.remove(held)
            if held.error is None:
                try:
                    self._scanner.finish(held.chunk)
                except Exception as error:  # noqa: BLE001 - the chunk's own, handed to whoever waits for it
                    held.error = error
            done.append((held.chunk, held.error))
        return done


def _waiting(held: _Waiting) -> list[DrawState]:
    if held.error is not None:
        return []
    return [item for item in held.chunk.waiting if not item.localized and item.failure is None]
