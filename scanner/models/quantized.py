"""Refusal of quantized parts: maps are of derivatives, which their kernels do not promise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scanner.errors import ConfigError
from scanner.parsing import object_from_json

KEY = "quantization_config"
"""What the configuration of a quantized part has."""
_INSTEAD = (
    "give the folder that it was made from; --dtype bfloat16, --offload, --size and "
    "--gpus-per-actor save memory"
)


def refuse_quantized(model: str, part: Path, *, is_network: bool) -> None:
    """Refuse a part that is stored quantized, or that a library would quantize as it loads it.

    Rounded activations make a network's output a staircase: its derivative is zero almost
    everywhere, and what a library gives back instead is that of another function. Rounded weights
    alone leave derivatives right, but no kernel of theirs was compared with the network's own.

    Args:
        model: As it was named.
        part: Its folder.
        is_network: Whether it is the part that denoises.

    Raises:
        ConfigError: If it is.
    """
    try:
        said = object_from_json((part / "config.json").read_bytes()).get(KEY)
    except (OSError, ValueError):
        return  # a part without a configuration; loading says what is wrong with it
    if said is None:
        return
    config: Mapping[str, Any] = said if isinstance(said, dict) else {}
    if not is_network:
        reason = "what it makes is not what the model was trained with"
    elif _rounds_activations(config):
        reason = (
            "it rounds activations too, so its output is a staircase without a derivative, and "
            "maps are made of derivatives"
        )
    else:
        reason = "maps are made of derivatives, and those of its kernels were never verified"
    method = str(config.get("quant_method") or "no method named")[:40]
    raise ConfigError(f"{model} has a quantized {part.name} ({method}): {reason}; {_INSTEAD}")


def _rounds_activations(said: Mapping[str, Any]) -> bool:
    """Whether a quantization rounds activations, as far as its configuration says it."""
    if said.get("load_in_8bit") or said.get("activations") or said.get("activation_scheme"):
        return True
    text = str(said.get("quant_type") or said.get("quant_algo") or "").lower()
    return any(word in text for word in ("dynamicactivation", "dynamic_activation", "a8", "fp8dq"))
