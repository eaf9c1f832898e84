"""The one rule that chooses a device."""

from scanner.errors import ConfigError
from scanner.spec import DEVICES


def choose_device(wanted: str, gpus: int, where: str = "this machine") -> str:
    """Return the device to compute on.

    ``auto`` is ``cuda`` where there is a GPU and ``cpu`` elsewhere. It is never ``mps``: what runs
    there must be asked for by name.

    Args:
        wanted: One of `scanner.spec.DEVICES`.
        gpus: How many CUDA devices there are.
        where: Whose devices were counted, for the error.

    Raises:
        ConfigError: If there is no such device, or CUDA is wanted and there is no GPU.
    """
    if wanted not in DEVICES:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {wanted!r}")
    if wanted == "auto":
        return "cuda" if gpus else "cpu"
    if wanted == "cuda" and not gpus:
        raise ConfigError(f"device cuda needs a GPU and {where} has none: use --device cpu")
    return wanted


def local_device(wanted: str) -> str:
    """Return the device to compute on in this process.

    Raises:
        ConfigError: If there is no such device, or it is not on this machine.
    """
    import torch

    device = choose_device(wanted, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps needs a Mac with an Apple GPU: use --device cpu")
    return device
