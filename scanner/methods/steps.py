"""Detectors that compare one step of the trajectory with the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanner.methods.declaration import Detector, Need
from scanner.methods.observing import ObserverBase

if TYPE_CHECKING:
    from torch import Tensor

    from scanner.methods.observing import Step


class ScoreMatching(ObserverBase):
    """Distance that the conditional noise moves from the second step to the third."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Tensor | None = None

    def update(self, step: Step) -> None:
        """Remember the second step's noise, compare the third's."""
        from scanner.numerics import detectors

        if step.index not in (1, 2):
            return
        noise = step.conditional * -step.level[2]
        if self.before is None:
            self.before = noise
        else:
            self.kept.append(detectors.squared_norm(noise - self.before))


class Increment(ObserverBase):
    """The largest step of the latent along the trajectory."""

    def update(self, step: Step) -> None:
        """Keep the length of the step."""
        from scanner.numerics import detectors

        self.kept.append(detectors.norm(step.after - step.x))

    def scores(self) -> Tensor:
        """Return the largest length, ``(B,)``."""
        import torch

        return torch.stack(self.kept).amax(dim=0)

    def per_step(self) -> Tensor | None:
        """Return the length of every step."""
        import torch

        return torch.stack(self.kept, dim=1)


DETECTORS = (
    Detector(
        name="dsm",
        title="change of the predicted noise",
        formula="`norm(e_c(x_2) - e_c(x_1))^2`",
        unit="noise^2",
        source="anonymous, submitted to ICML 2026",
        needs=frozenset({Need.TRAJECTORY}),
        least_steps=3,
        observer=lambda _: ScoreMatching(),
    ),
    Detector(
        name="increment",
        title="longest step",
        formula="largest `norm(x_{k+1} - x_k)`",
        unit="latent",
        source="Huang et al., KDD 2026 (Broken Memories)",
        notes="the lengths of all steps are kept in `increments`",
        needs=frozenset({Need.TRAJECTORY}),
        observer=lambda _: Increment(),
    ),
)
