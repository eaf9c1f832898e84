"""Devices of a model's parts, and which of them are on a device only while they run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from scanner.errors import ConfigError
from scanner.spec import OFFLOADS


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the parts of a model lie.

    Attributes:
        device: Such as ``cpu`` or ``cuda``.
        offload: Of `scanner.spec.OFFLOADS`: which parts lie on the CPU and are moved to the
            device only while they run.
        gpus: Over how many CUDA devices the network is spread, from the first on.
    """

    device: str = "cpu"
    offload: str = "none"
    gpus: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If so, or the network is to be spread over what are no GPUs.
        """
        if self.offload not in OFFLOADS:
            raise ConfigError(f"offload must be one of {', '.join(OFFLOADS)}, got {self.offload!r}")
        if self.gpus < 1:
            raise ConfigError(f"gpus must be at least 1, got {self.gpus}")
        if self.gpus > 1 and torch.device(self.device).type != "cuda":
            raise ConfigError(
                f"a model is split over GPUs alone, got {self.gpus} of device {self.device}: use "
                f"--device cuda, or leave out --gpus-per-actor"
            )

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The devices of the network; the first has the latents."""
        if self.gpus == 1:
            return (torch.device(self.device),)
        return tuple(torch.device("cuda", number) for number in range(self.gpus))

    def rests(self, part: str) -> torch.device:
        """Return where a part beside the network lies while it does not run.

        Args:
            part: Its name in the pipeline.
        """
        moves = {"none": False, "text": part != "vae", "all": True}
        return torch.device("cpu") if moves[self.offload] else self.devices[-1]

    @contextmanager
    def running(self, parts: dict[str, nn.Module]) -> Iterator[None]:
        """Have parts beside the network on the last device, for as long as they run.

        Args:
            parts: By their names in the pipeline.
        """
        device = self.devices[-1]
        moved = [part for name, part in parts.items() if self.rests(name) != device]
        try:
            for part in moved:
                part.to(device)
            yield
        finally:
            for part in moved:
                part.to("cpu")
            if moved and device.type == "cuda":
                torch.cuda.empty_cache()  # else what they took stays with this process


def bytes_of(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of the weights and buffers of modules."""
    return sum(
        tensor.numel() * tensor.element_size()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    )
