"""Networks, condition and noise of a batch's trajectory, and the detectors that watch it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scanner.errors import ConfigError
from scanner.methods import Observer, Step, registry
from scanner.methods.observing import Level
from scanner.models.base import Denoiser
from scanner.models.memory import is_out_of_memory
from scanner.numerics.schedule import Prediction, Schedule


@dataclass(frozen=True, slots=True)
class TrajectorySetting:
    """Networks, condition and noise of a trajectory, and its two branches that are compared.

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

    def of_samples(self, samples: slice | Tensor) -> "TrajectorySetting":
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

    def predict(self, level: Level, pair: Tensor) -> Prediction:
        """Return the outputs at points of both branches, ``(2B, C, H, W)``, in one target."""
        if self.other is None:
            return self.denoiser.predict(pair, level, self.condition)
        (x, y), (own, empty) = pair.chunk(2), self.condition.chunk(2)
        mine = self.denoiser.predict(x, level, own)
        theirs = self.other.predict(y, level, empty).put_as(mine, y, *level[1:])
        return replace(mine, output=torch.cat([mine.output, theirs.output]))

    def compared(self, level: Level) -> Callable[[Tensor], Tensor]:
        """Return the function to what is compared between branches at the first step.

        Scores; of a flow the outputs, since its first step has no signal and its scores are the
        same under every caption. From points of both branches, ``(2B, C, H, W)``, to that shape.
        """
        if not self.schedule.flow:
            return self.scores(level)
        return lambda pair: self.predict(level, pair).output


def observers(setting: TrajectorySetting, names: Sequence[str]) -> dict[str, Observer]:
    """Return fresh observers for the detectors that look at trajectories.

    Raises:
        ConfigError: If a detector of another distribution cannot be made.
    """
    found = dict[str, Observer]()
    for name in names:
        make = registry.detector(name).observer
        if make is not None and (of := registry.packages([name])):
            found[name] = _Guarded(f"the detector {name} of {of[name]}", make, setting)
        elif make is not None:
            found[name] = make(setting)
    return found


class _Guarded:
    """An observer of another distribution, whose failures name it and end the scan.

    Args:
        title: What messages call it.
        make: Makes the observer.
        setting: For it.

    Raises:
        ConfigError: If it fails.
    """

    def __init__(
        self, title: str, make: Callable[[TrajectorySetting], Observer], setting: TrajectorySetting
    ) -> None:
        self._title, self._samples = title, 0
        with self._errors_named():
            self._observer = make(setting)

    def update(self, step: Step) -> None:
        """Pass a step on."""
        self._samples = len(step.x)
        with self._errors_named():
            self._observer.update(step)

    def scores(self) -> Tensor:
        """Return its scores, ``(B,)``.

        Raises:
            ConfigError: If its code fails, or returns something else.
        """  # noqa: DOC501 - made one of these
        with self._errors_named():
            found = self._observer.scores()
            if not isinstance(found, Tensor) or found.shape != (self._samples,):
                got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(f"scores must be a tensor of shape ({self._samples},), got {got}")
        return found.float()

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return none: maps are memscan's own."""
        return {}

    def per_step(self) -> Tensor | None:
        """Return none: calibrations compare memscan's own steps."""
        return None

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever another's code raises
            if is_out_of_memory(error):
                raise  # a smaller batch may do
            reason = (str(error).splitlines() or [""])[0]
            raise ConfigError(
                f"{self._title} failed ({type(error).__name__}: {reason}): repair it, or leave it "
                f"out"
            ) from error
