"""The configurations in a model's folder, read without believing them."""

import json
import math
from pathlib import Path
from typing import Any

from scanner.errors import ConfigError
from scanner.parsing import object_from_json

_LARGEST = 1e7
"""No setting of a network is a larger number."""
_RANGES = {
    "num_train_timesteps": (1, 100_000), "beta_start": (0, 1), "beta_end": (0, 1),
    "trained_betas": (0, 1), "steps_offset": (0, 100_000), "sample_size": (1, 4096),
    "in_channels": (1, 1024), "out_channels": (1, 1024), "latent_channels": (1, 1024),
    "block_out_channels": (1, 16_384), "layers_per_block": (1, 64), "num_layers": (0, 1000),
    "num_single_layers": (0, 1000), "attention_head_dim": (1, 4096), "patch_size": (1, 64),
    "num_attention_heads": (1, 1024), "lambda_min_clipped": (-math.inf, _LARGEST),
}  # fmt: skip
"""Least and largest of a setting's number, or of the numbers in its list."""
_KINDS = {
    "num_train_timesteps": int, "prediction_type": str, "beta_schedule": str,
    "timestep_spacing": str, "trained_betas": list | None, "steps_offset": int,
    "down_block_types": list, "up_block_types": list, "block_out_channels": list,
    "sample_size": int | list, "in_channels": int, "out_channels": int | None,
}  # fmt: skip


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, with the next one where it ends in a colon."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(map(str.strip, lines[: 2 if lines[0].endswith(":") else 1]))


def read_config(model: str, path: Path) -> dict[str, Any]:
    """Return a part's configuration.

    Raises:
        ConfigError: If it is not there or cannot be read.
    """
    try:
        content = object_from_json(path.read_bytes())
    except FileNotFoundError as error:
        part = f"{path.parent.name}/{path.name}"
        raise ConfigError(
            f"cannot load {model} as a pipeline that memscan serves: it has no {part}"
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
    # A network without an embedding table of its own timesteps says null.
    kinds = _KINDS | ({"num_train_timesteps": int | None} if "in_channels" in config else {})
    for name, kind in kinds.items():
        if name in config and not isinstance(config[name], kind):
            return f"{name} has another form, got {json.dumps(config[name])[:40]}"
    return None
