"""The precision that ``auto`` stands for: float16 where it is fast and holds a model's numbers."""

from scanner import models
from scanner.errors import ConfigError
from scanner.models.device import local_device
from scanner.models.families import Family
from scanner.models.limits import opened
from scanner.models.overlay import precisions

AUTO = "auto"


def decided(
    dtype: str, model: str, device: str, *, joins: bool = False, weights: str | None = None
) -> tuple[str, str]:
    """Return a precision of `scanner.spec.DTYPES`, and why it is that one in a line.

    ``auto`` is float16 on CUDA and float32 elsewhere, and on CUDA for models whose numbers
    float16 does not hold. It is never bfloat16, which moves scores by several percent
    (docs/performance.md). A model of the hub is downloaded to be looked at, as a scan does.

    Args:
        dtype: What is asked; anything but ``auto`` is returned as it is, with ``""``.
        model: A folder, a hub id or ``gaussian``.
        device: Of `scanner.spec.DEVICES`.
        joins: Whether devices are those of a cluster, which is joined later.
        weights: A file that takes the place of the network's weights, or null.

    Raises:
        ConfigError: If the device is not known yet, or the model cannot be read.
    """
    if dtype != AUTO:
        return dtype, ""
    if joins and device == AUTO:
        raise ConfigError(
            "--dtype auto is part of a run's name and goes by the device, and what a cluster has "
            "is known when it is joined: give --device cuda or cpu, or a --dtype"
        )
    device = local_device(device) if device == AUTO else device
    if device != "cuda":
        return "float32", f"the device is {device}"
    if model == models.GAUSSIAN:
        return "float32", "the closed form has no other"
    family, _ = opened(model)
    if why := _beyond_half(model, family, weights):
        return "float32", why
    return "float16", "the device is cuda"


def _beyond_half(model: str, family: Family, weights: str | None) -> str:
    """Return why float16 does not hold a model's numbers, or ``""``."""
    if family.exceeds_half:
        return f"{family.exceeds_half}, so float16 may not hold its numbers"
    folder = models.folder_of(model) / family.network
    files = [weights] if weights else [str(path) for path in folder.glob("*.safetensors")]
    kinds = {kind for file in files for kind in precisions(file)}
    if kinds == {"BF16"}:
        return "its network was published in bfloat16 alone, whose range float16 does not have"
    return ""
