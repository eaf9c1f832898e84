"""Stable Diffusion 1 and 2 and their kin: their network is told one timestep and text states."""

from typing import Any

import torch
from torch import Tensor

from scanner.models.families import FAMILIES
from scanner.models.unet import UNetDiffusion


class StableDiffusion(UNetDiffusion):
    """A `scanner.models.base.Denoiser` over a Stable Diffusion pipeline, its weights frozen.

    Args:
        pipeline: Anything with ``vae``, ``unet``, ``text_encoder``, ``tokenizer``, ``scheduler``.
        device: Where it runs.
        side: Of its pictures, in pixels; null takes what its configuration says.

    Raises:
        ConfigError: If the network's output cannot be turned into a score, or its scheduler
            cannot be followed.
    """

    def __init__(self, pipeline: Any, device: str, side: int | None = None) -> None:
        super().__init__(pipeline, FAMILIES["StableDiffusionPipeline"], device, side)

    @property
    def unet(self) -> Any:
        """The network."""
        return self.network

    def _output(self, inputs: Tensor, timestep: float, condition: Tensor) -> Tensor:
        # A number would be copied to the device at every step, and waited for.
        dtype = torch.int64 if isinstance(timestep, int) else torch.float64
        if inputs.device.type == "mps":  # which has no float64
            dtype = torch.int32 if isinstance(timestep, int) else torch.float32
        time = torch.full((1,), timestep, dtype=dtype, device=inputs.device)
        return self.network(inputs, time, condition.to(inputs.dtype), return_dict=False)[0]
