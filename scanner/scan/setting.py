"""What a batch's trajectory goes through, and the detectors that watch it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scanner.methods import Observer, registry
from scanner.methods.observing import Level
from scanner.models.base import Denoiser
from scanner.numerics.schedule import Schedule


@dataclass(frozen=True, slots=True)
class TrajectorySetting:
    """What a trajectory goes through, and the two branches that are compared on the way.

    Attributes:
        denoiser: The model.
        condition: The captions' conditions, then as many unconditional ones, ``(2B, *)``.
        schedule: The levels.
        other: Whose unconditional branch it is; null for the model's own.
    """

    denoiser: Denoiser
    condition: Tensor
    schedule: Schedule
    other: Denoiser | None = None

    def level(self, step: int) -> Level:
        """Return the level of a step."""
        schedule = self.schedule
        step %= len(schedule.timesteps)
        return schedule.timesteps[step], schedule.alphas[step], schedule.sigmas[step]

    def of_samples(self, samples: slice) -> "TrajectorySetting":
        """Return the setting of some samples of the batch."""
        captions, empty = self.condition.chunk(2)
        return replace(self, condition=torch.cat([captions[samples], empty[samples]]))

    def scores(self, level: Level) -> Callable[[Tensor], Tensor]:
        """Return the function from points of both branches, ``(2B, C, H, W)``, to scores."""
        other = self.other
        if other is None:
            return lambda pair: self.denoiser.score(pair, level, self.condition)
        own, empty = self.condition.chunk(2)

        def apart(pair: Tensor) -> Tensor:
            x, y = pair.chunk(2)
            return torch.cat([self.denoiser.score(x, level, own), other.score(y, level, empty)])

        return apart


def observers(setting: TrajectorySetting, names: Sequence[str]) -> dict[str, Observer]:
    """Return fresh observers for the detectors that look at trajectories."""
    wanted = {name: registry.detector(name).observer for name in names}
    return {name: make(setting) for name, make in wanted.items() if make is not None}
