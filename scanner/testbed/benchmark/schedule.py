"""Batches of every step of a training, planned in full before the first one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scanner.testbed.benchmark.doses import Doses
from scanner.testbed.benchmark.items import generator


@dataclass(frozen=True, slots=True)
class Schedule:
    """All draws of a training.

    Attributes:
        items: ``(steps, batch)``: an item's place in the list, or -1 for the background.
        numbers: ``(steps, batch)``: which copy of the item, or which background sample; every
            copy and every sample is used once.
        captions: ``(steps, batch)``: a number in 0..1 that picks one of the item's captions.
        dropped: ``(steps, batch)``: whether the empty caption stands in; the same share of
            everything.
    """

    items: NDArray[np.int32]
    numbers: NDArray[np.int32]
    captions: NDArray[np.float32]
    dropped: NDArray[np.bool_]

    def draws(self, number: int) -> NDArray[np.int64]:
        """Return how often each of ``number`` items is really drawn."""
        return np.bincount(self.items[self.items >= 0], minlength=number)

    def background(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the background's samples of the steps from ``start`` to before ``stop``."""
        return self.numbers[start:stop][self.items[start:stop] < 0]


def plan(doses: Doses, steps: int, batch: int, dropout: float, *key: object) -> Schedule:
    """Plan a training.

    Args:
        doses: Expected draws of each item.
        steps: Steps.
        batch: Draws per step.
        dropout: Share of captions replaced by the empty one.
        key: What the plan depends on beside these.

    Raises:
        ValueError: If the doses leave no room for a background.
    """
    total = steps * batch
    if doses.total > 0.8 * total:
        raise ValueError(
            f"{doses.total:.0f} planted draws of {total} leave too few to the background: train "
            f"for more steps or scale the doses down"
        )
    rng = generator("schedule", *key)
    edges = np.cumsum(doses.expected) / total
    flat = np.searchsorted(edges, rng.random(total), side="right")
    items = np.where(flat < len(edges), flat, -1).astype(np.int32)
    return Schedule(
        items.reshape(steps, batch), _count(items).reshape(steps, batch),
        rng.random((steps, batch), np.float32), rng.random((steps, batch)) < dropout,
    )  # fmt: skip


def _count(items: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return for each draw how often the same was drawn before."""
    order = np.argsort(items, kind="stable")
    ranks = np.arange(len(items)) - np.searchsorted(items[order], items[order])
    counted = np.empty(len(items), np.int32)
    counted[order] = ranks
    return counted
