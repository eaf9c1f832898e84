"""Detectors that measure how far guidance pulls: norms of the noise difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanner.methods.declaration import Detector, Need
from scanner.methods.observing import ObserverBase

if TYPE_CHECKING:
    from scanner.methods.observing import Step

_WEN = "Wen et al., ICLR 2024"


class Wen(ObserverBase):
    """The norm of the noise difference, averaged over the first steps or all of them.

    Args:
        steps: How many; null for all.
    """

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self.steps = steps

    def update(self, step: Step) -> None:
        """Keep the norm of an early enough step."""
        from scanner.numerics import detectors

        if self.steps is None or step.index < self.steps:
            self.kept.append(detectors.norm(step.difference))


DETECTORS = (
    Detector(
        name="wen_first",
        title="noise difference of the first step",
        formula="`norm(d)` at `k = 0`",
        unit="noise",
        source=_WEN,
        needs=frozenset({Need.FIRST_STEP}),
        observer=lambda _: Wen(1),
    ),
    Detector(
        name="wen_5",
        title="noise difference of the first five steps",
        formula="mean of `norm(d)` over `k = 0..4`",
        unit="noise",
        source=_WEN,
        needs=frozenset({Need.TRAJECTORY}),
        least_steps=5,
        observer=lambda _: Wen(5),
    ),
    Detector(
        name="wen",
        title="noise difference of all steps",
        formula="mean of `norm(d)` over all steps",
        unit="noise",
        source=_WEN,
        notes="depends on the guidance scale, as `x_k` does",
        needs=frozenset({Need.TRAJECTORY}),
        observer=lambda _: Wen(None),
    ),
)
