"""A scheduler's configuration, read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scanner.errors import ConfigError

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What networks may predict: memscan can turn these into a score."""
SPACINGS = ("leading", "trailing", "linspace")
"""Timestep spacings of samplers."""
_NOISE = {
    "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02,
    "beta_schedule": "linear", "trained_betas": None, "rescale_betas_zero_snr": False,
}  # fmt: skip
"""Keys that decide alpha and sigma of a training timestep, with diffusers' defaults for DDIM."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """A scheduler's configuration, as a DDIM sampler reads it.

    Attributes:
        prediction: What the network predicts, one of `PREDICTIONS`.
        timesteps: How many training timesteps there are.
        spacing: How a sampler spaces its timesteps, one of `SPACINGS`.
        offset: Added to the timesteps of leading spacing.
        zero_snr: Whether the noisiest training timestep holds no signal (alpha is 0).
        noise: What decides alpha and sigma of a training timestep.
    """

    prediction: str
    timesteps: int
    spacing: str
    offset: int
    zero_snr: bool
    noise: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "SchedulerConfig":
        """Read a scheduler's configuration; what it leaves unsaid is diffusers' default for DDIM.

        Raises:
            ConfigError: If its network's output cannot be turned into a score, or its spacing
                is unknown.
        """
        refuse_scheduler(config)
        betas = config.get("trained_betas")
        return cls(
            prediction=config.get("prediction_type", "epsilon"),
            timesteps=len(betas) if betas else int(config.get("num_train_timesteps", 1000)),
            spacing=config.get("timestep_spacing", "leading"),
            offset=int(config.get("steps_offset", 0)),
            zero_snr=bool(config.get("rescale_betas_zero_snr", False)),
            noise=tuple(f"{name}={config.get(name, usual)}" for name, usual in _NOISE.items()),
        )

    def reads_like(self, other: "SchedulerConfig") -> bool:
        """Whether the outputs of two networks mean the same at every training timestep."""
        return (self.prediction, self.noise) == (other.prediction, other.noise)

    def sampled(self, steps: int) -> tuple[int, ...]:
        """Return the training timesteps that a DDIM sampler visits, noisiest first.

        Those of diffusers' ``DDIMScheduler``. For some numbers of steps its trailing spacing
        has one timestep too many, -1, by a rounding error; it is left out here.

        Raises:
            ConfigError: If there are more steps than training timesteps, or a timestep lies
                outside them.
        """
        if steps > self.timesteps:
            raise ConfigError(f"{steps} steps are more than the {self.timesteps} of the model")
        if self.spacing == "linspace":
            found = np.linspace(0, self.timesteps - 1, steps).round()[::-1]
        elif self.spacing == "trailing":
            stride = self.timesteps / steps
            found = np.round(np.arange(self.timesteps, 0, -stride))[:steps] - 1
        else:
            found = np.arange(steps)[::-1] * (self.timesteps // steps) + self.offset
        whole = tuple(int(t) for t in found)
        if not 0 <= whole[-1] <= whole[0] < self.timesteps:
            raise ConfigError(
                f"{steps} steps go from timestep {whole[0]} to {whole[-1]}, and the model has 0 to "
                f"{self.timesteps - 1} ({self.spacing} spacing, offset {self.offset}): use fewer "
                f"steps"
            )
        return whole

    def stride(self, steps: int) -> int:
        """Return how many training timesteps a step of diffusers' DDIM goes down."""
        return self.timesteps // steps

    def described(self, steps: int) -> str:
        """Return the sampler's timesteps in a sentence, for a person."""
        found, stride = self.sampled(steps), self.stride(steps)
        text = f"{self.spacing} spacing, {steps} steps: {found[0]}, "
        text += f"{found[1]} ... {found[-1]}" if steps > 2 else f"... {found[-1]}"
        if self.spacing != "leading":
            text += f", each going down {stride} timesteps"
        if not self.has_signal(found[0]):
            text += "; the first holds no signal"
        return text

    def has_signal(self, timestep: int) -> bool:
        """Whether a latent at this training timestep holds anything of the picture."""
        return not (self.zero_snr and timestep == self.timesteps - 1)


def refuse_few_steps(config: Mapping[str, Any]) -> None:
    """Refuse a scheduler that only samples networks distilled to few steps.

    Raises:
        ConfigError: If it is one.
    """
    kind = str(config.get("_class_name", ""))
    if "LCM" in kind or kind.startswith("TCD"):
        raise ConfigError(
            f"the model's scheduler is a {kind}, which samples networks that are distilled to few "
            f"steps, and those have no score at other levels: audit the model that it was "
            f"distilled from; if this network is not distilled, put the scheduler that it was "
            f"trained with into scheduler/scheduler_config.json"
        )


def refuse_scheduler(config: Mapping[str, Any]) -> None:
    """Refuse a scheduler whose network's output cannot be turned into a score.

    Raises:
        ConfigError: If its prediction, its family or its spacing is unknown, or it is of a
            distilled network.
    """
    refuse_few_steps(config)
    family = str(config.get("_class_name", ""))
    if "Flow" in family or family.startswith("EDM") or config.get("use_flow_sigmas"):
        raise ConfigError(
            f"the model's scheduler is a {family}: its noise levels are not those of Stable "
            f"Diffusion, and memscan cannot turn the network's output into a score yet"
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ConfigError(
            f"the network must predict {', '.join(PREDICTIONS)}, its scheduler says "
            f"{prediction!r}: memscan cannot turn that into a score yet"
        )
    spacing = config.get("timestep_spacing", "leading")
    if spacing not in SPACINGS:
        raise ConfigError(
            f"timestep_spacing must be one of {', '.join(SPACINGS)}, the scheduler says {spacing!r}"
        )
