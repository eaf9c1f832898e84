"""What a model can serve, as its folder says it: read from its configurations, without weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanner import models
from scanner.errors import ConfigError

GAUSSIAN_TIMESTEPS = 1000
PREDICTIONS = ("epsilon", "v_prediction")
"""What networks may predict: memscan can turn these into a score."""
_SHARED = ("in_channels", "sample_size", "cross_attention_dim")
"""What a U-Net's configuration says of its latents and its text states."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a model decides which scans it can serve.

    Attributes:
        timesteps: How many training timesteps it has. No sampler has more steps, and an image is
            noised to one of them.
        attends: Whether its down blocks have cross attention over text.
        has_middle: Whether it has a middle block.
    """

    timesteps: int
    attends: bool
    has_middle: bool


def limits(model: str) -> Limits:
    """Return what a model can serve.

    Args:
        model: A diffusers pipeline folder, a hub id (downloaded if need be), or ``gaussian``.

    Raises:
        ConfigError: If it is not there, or of a class that memscan does not know.
    """
    if model == models.GAUSSIAN:
        return Limits(GAUSSIAN_TIMESTEPS, attends=False, has_middle=False)
    folder = models.folder_of(model)
    models.refuse_others(model, folder)
    unet = _config(model, folder / "unet" / "config.json")
    scheduler = _config(model, folder / "scheduler" / "scheduler_config.json")
    refuse_prediction(scheduler.get("prediction_type", "epsilon"))
    betas = scheduler.get("trained_betas")
    blocks = unet.get("down_block_types", ("CrossAttnDownBlock2D",))
    return Limits(
        timesteps=len(betas) if betas else int(scheduler.get("num_train_timesteps", 1000)),
        attends=any("CrossAttn" in str(block) for block in blocks),
        has_middle=unet.get("mid_block_type", "UNetMidBlock2DCrossAttn") is not None,
    )


def refuse_prediction(prediction: str) -> None:
    """Refuse a network that predicts what cannot be turned into a score.

    Raises:
        ConfigError: If it does.
    """
    if prediction not in PREDICTIONS:
        raise ConfigError(
            f"the network must predict epsilon or v_prediction, its scheduler says "
            f"{prediction!r}: memscan cannot turn that into a score yet"
        )


def refuse_baseline(model: str, baseline: str) -> None:
    """Refuse a less-trained network that cannot stand beside a model, by their folders.

    Raises:
        ConfigError: If one of them is not there, or they do not share a latent space.
    """
    folder = models.folder_of(baseline)
    if model == models.GAUSSIAN:
        raise ConfigError("a baseline network needs a Stable Diffusion model beside it")
    own = _config(model, models.folder_of(model) / "unet" / "config.json")
    alone = folder / "config.json"
    refuse_apart(own, _config(baseline, alone if alone.exists() else folder / "unet/config.json"))


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
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        part = f"{path.parent.name}/{path.name}"
        raise ConfigError(
            f"cannot load {model} as a Stable Diffusion pipeline: it has no {part}"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold an object, got {type(content).__name__}")
    return content
