"""What a model can serve, as its folder says it: read from its configurations, without weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanner import models
from scanner.errors import ConfigError
from scanner.methods import Need
from scanner.models.levels import SchedulerConfig
from scanner.parsing import object_from_json

GAUSSIAN_TIMESTEPS = 1000
_LARGEST = 1e7
"""No setting of a network is a larger number."""
_RANGES = {
    "num_train_timesteps": (1, 100_000), "beta_start": (0, 1), "beta_end": (0, 1),
    "trained_betas": (0, 1), "steps_offset": (0, 100_000), "sample_size": (1, 4096),
    "in_channels": (1, 1024), "out_channels": (1, 1024), "latent_channels": (1, 1024),
    "block_out_channels": (1, 16_384), "layers_per_block": (1, 64),
}  # fmt: skip
"""Least and largest of a setting's number, or of the numbers in its list."""
_KINDS = {
    "num_train_timesteps": int, "prediction_type": str, "beta_schedule": str,
    "timestep_spacing": str, "trained_betas": list | None, "steps_offset": int,
    "down_block_types": list, "up_block_types": list, "block_out_channels": list,
    "sample_size": int | list, "in_channels": int, "out_channels": int,
}  # fmt: skip
_SHARED = ("in_channels", "sample_size", "cross_attention_dim")
"""What a U-Net's configuration says of its latents and its text states."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a model decides which scans it can serve.

    Attributes:
        timesteps: How many training timesteps it has. No sampler has more steps, and an image is
            noised to one of them.
        has: What its network has for methods that look inside it.
        scheduler: What its scheduler says; null of a model without one.
    """

    timesteps: int
    has: frozenset[Need]
    scheduler: SchedulerConfig | None = None


def limits(model: str) -> Limits:
    """Return what a model can serve.

    Args:
        model: A diffusers pipeline folder, a hub id (downloaded if need be), or ``gaussian``.

    Raises:
        ConfigError: If it is not there, or of a class that memscan does not know.
    """
    if model == models.GAUSSIAN:
        return Limits(GAUSSIAN_TIMESTEPS, has=frozenset())
    folder = models.folder_of(model)
    models.refuse_others(model, folder)
    unet = _config(model, folder / "unet" / "config.json")
    scheduler = SchedulerConfig.of(scheduler_of(model))
    blocks = unet.get("down_block_types", ("CrossAttnDownBlock2D",))
    parts = {
        Need.CROSS_ATTENTION: any("CrossAttn" in str(block) for block in blocks),
        Need.MIDDLE_BLOCK: unet.get("mid_block_type", "UNetMidBlock2DCrossAttn") is not None,
    }
    return Limits(
        timesteps=scheduler.timesteps,
        has=frozenset(need for need, is_there in parts.items() if is_there),
        scheduler=scheduler,
    )


def scheduler_of(model: str) -> dict[str, Any]:
    """Return the configuration of a pipeline's scheduler.

    Raises:
        ConfigError: If it is not there or cannot be read.
    """
    found = _config(model, models.folder_of(model) / "scheduler" / "scheduler_config.json")
    # diffusers' Stable Diffusion pipelines set the offset to 1 wherever a scheduler has one.
    return found | ({"steps_offset": 1} if "steps_offset" in found else {})


def baseline_scheduler(own: SchedulerConfig, baseline: str) -> dict[str, Any] | None:
    """Return the configuration of a baseline's scheduler; null where its folder has none.

    Args:
        own: What the model's scheduler says.
        baseline: A U-Net folder, or a pipeline folder or hub id.

    Raises:
        ConfigError: If the folder is the U-Net of a pipeline whose scheduler is not the model's:
            a run is named by what is in the folder, so the pipeline itself must be given.
    """
    folder = models.folder_of(baseline)
    file = folder / "scheduler" / "scheduler_config.json"
    if file.exists():
        return _config(baseline, file)
    beside = folder.parent / "scheduler" / "scheduler_config.json"
    if not (folder.parent / "model_index.json").exists() or not beside.exists():
        return None
    if not own.reads_like(SchedulerConfig.of(_config(baseline, beside))):
        raise ConfigError(
            f"{baseline} is a U-Net without its scheduler, and the one beside it is not the "
            f"model's: give the pipeline folder {folder.parent}"
        )
    return None


def refuse_baseline(model: str, baseline: str) -> None:
    """Refuse a less-trained network that cannot stand beside a model, by their folders.

    Raises:
        ConfigError: If one of them is not there, they do not share a latent space, or the
            baseline's output cannot be turned into a score.
    """
    folder = models.folder_of(baseline)
    if model == models.GAUSSIAN:
        raise ConfigError("a baseline network needs a Stable Diffusion model beside it")
    own = _config(model, models.folder_of(model) / "unet" / "config.json")
    alone = folder / "config.json"
    refuse_apart(own, _config(baseline, alone if alone.exists() else folder / "unet/config.json"))
    baseline_reading(model, baseline)


def baseline_reading(model: str, baseline: str) -> str:
    """Return how a baseline's output is read, in a sentence; ``""`` where that goes without saying.

    Raises:
        ConfigError: If one of them cannot be read.
    """
    own = SchedulerConfig.of(scheduler_of(model))
    scheduler = baseline_scheduler(own, baseline)
    if scheduler is None:
        return (
            f"the baseline {baseline} has no scheduler: its output is taken to be "
            f"{own.prediction}, at the model's own noise levels"
        )
    other = SchedulerConfig.of(scheduler)
    if own.reads_like(other):
        return ""
    return (
        f"the baseline {baseline} has another scheduler than the model: its output is read as "
        f"{other.prediction}, at its own timestep of the same noise level"
    )


def refuse_apart(model: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
    """Refuse a baseline whose latents or text states have another shape than the model's.

    Args:
        model: The configuration of its U-Net; what it leaves unsaid is not compared.
        baseline: The other one's.

    Raises:
        ConfigError: If they differ, naming in what.
    """
    for name in _SHARED:
        if name in model and name in baseline and model[name] != baseline[name]:
            raise ConfigError(
                f"the baseline's {name} is {baseline[name]}, the model's {model[name]}: a baseline "
                f"must share the latent space"
            )


def _config(model: str, path: Path) -> dict[str, Any]:
    """Return a part's configuration.

    Raises:
        ConfigError: If it is not there or cannot be read.
    """
    try:
        content = object_from_json(path.read_bytes())
    except FileNotFoundError as error:
        part = f"{path.parent.name}/{path.name}"
        raise ConfigError(
            f"cannot load {model} as a Stable Diffusion pipeline: it has no {part}"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if (wrong := _absurd(content)) is not None:
        raise ConfigError(f"{path} cannot be right: {wrong}")
    return content


def _absurd(config: dict[str, Any]) -> str | None:
    """Return which setting no network or noise schedule can have, null if there is none.

    Libraries answer these with hours, all of the memory, or errors of any kind.
    """
    for name, value in config.items():
        low, high = _RANGES.get(name, (-_LARGEST, _LARGEST))
        for number in value if isinstance(value, list) else [value]:
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if is_number and not low <= number <= high:
                return f"{name} must be from {low:g} to {high:g}, got {str(number)[:20]}"
            if name in _RANGES and not is_number and value is not None:
                return f"{name} must be made of numbers, got {json.dumps(number)[:40]}"
    for name, kind in _KINDS.items():
        if name in config and not isinstance(config[name], kind):
            return f"{name} has another form, got {json.dumps(config[name])[:40]}"
    return None
