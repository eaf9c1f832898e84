"""Latents as an autoencoder, the scanner and a network see them."""

from typing import Any

import torch
from torch import Tensor


def packed(x: Tensor) -> Tensor:
    """Return squares of 2 x 2 positions as tokens, ``(B, C, H, W)`` to ``(B, H W / 4, 4 C)``."""
    squares = x.unfold(2, 2, 2).unfold(3, 2, 2)  # (B, C, H/2, W/2, 2, 2)
    return squares.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Tensor, latent: tuple[int, int, int]) -> Tensor:
    """Return tokens as `packed` made them of ``(B, C, H, W)`` latents.

    Args:
        tokens: ``(B, H W / 4, 4 C)``.
        latent: C, H and W.
    """
    channels, height, width = latent
    squares = tokens.unflatten(2, (channels, 2, 2)).unflatten(1, (height // 2, width // 2))
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)


def as_tokens(x: Tensor, packing: str) -> Tensor:
    """Return latents, ``(B, C, H, W)``, as a network takes them.

    Args:
        x: The latents.
        packing: As `scanner.models.families.Family` has it.
    """
    if packing == "patches":
        return packed(x)
    return x.flatten(2).transpose(1, 2) if packing == "tokens" else x


def as_latents(output: Tensor, packing: str, latent: tuple[int, int, int]) -> Tensor:
    """Return what a network gives as latents, ``(B, C, H, W)``; undoes `as_tokens`."""
    if packing == "patches":
        return unpacked(output, latent)
    return output.transpose(1, 2).reshape(-1, *latent) if packing == "tokens" else output


def sides_of(side: str | int, network: Any, vae: Any, factor: int) -> tuple[int, int]:
    """Return height and width of a latent.

    Args:
        side: Of the picture in pixels, or whose ``sample_size`` says it, ``network`` or ``vae``.
        network: The network's configuration.
        vae: The autoencoder, where it says it.
        factor: How many pixels a latent position is wide.
    """
    if side == "network":
        own = network["sample_size"]
        return (own, own) if isinstance(own, int) else (int(own[0]), int(own[1]))
    pixels = int(vae.config["sample_size"]) if side == "vae" else int(side)
    return pixels // factor, pixels // factor


class Pixels:
    """The autoencoder of models that have none: a latent is a picture, from -1 to 1."""

    scale, factor, channels = 1.0, 1, 3

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures, ``(B, height, width, 3)`` uint8 on the CPU."""
        return _as_pictures(latents.float())

    def encode(self, pictures: Tensor) -> Tensor:
        """Return latents of pictures, ``(B, 3, H, W)`` float32 on the CPU."""
        return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def _as_pictures(pixels: Tensor) -> Tensor:
    """Return pixels, ``(B, 3, H, W)`` from -1 to 1, as pictures; what lies outside is clipped."""
    pixels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu()


class Autoencoder:
    """An autoencoder with its latents as the network sees them.

    ``(z - shift) scale``, with a mean and a deviation a channel where its configuration has them.
    This is done in float32; only what the autoencoder itself takes is in its own precision.
    Those of videos take one frame. FLUX.2's gives squares of 2 x 2 positions as channels,
    normalized by the running statistics of its batch norm.

    Args:
        module: A diffusers autoencoder.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        config = module.config
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)
        self._mean, self._deviation = config.get("latents_mean"), config.get("latents_std")
        self._is_video = "temperal_downsample" in config
        self._is_squared = "batch_norm_eps" in config

    @property
    def factor(self) -> int:
        """How many pixels a latent position is wide."""
        config = self.module.config
        if (blocks := config.get("encoder_block_out_channels")) is not None:
            return 2 ** (len(blocks) - 1)
        if (halved := config.get("temperal_downsample")) is not None:
            return 2 ** len(halved)
        return 2 ** (len(config["block_out_channels"]) - 1 + self._is_squared)

    @property
    def channels(self) -> int:
        """Of a latent."""
        config = self.module.config
        own = int(config["z_dim"] if "z_dim" in config else config["latent_channels"])
        return 4 * own if self._is_squared else own

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures, ``(B, height, width, 3)`` uint8 on the CPU."""
        raw = latents.to(self.module.device).float() / self.scale + self.shift
        if self._mean is not None and self._deviation is not None:
            raw = raw * self._of_channels(self._deviation, raw) + self._of_channels(self._mean, raw)
        if self._is_squared:
            mean, deviation = self._statistics(raw)
            raw = torch.nn.functional.pixel_shuffle(raw * deviation + mean, 2)
        if self._is_video:
            raw = raw.unsqueeze(2)
        pixels = self.module.decode(raw.to(self.module.dtype), return_dict=False)[0].float()
        if self._is_video:
            pixels = pixels[:, :, 0]
        return _as_pictures(pixels)

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Return mean latents of pictures, ``(B, C, H, W)`` float32, as the network sees them."""
        module = self.module
        pixels = pictures.permute(0, 3, 1, 2).to(module.device).float() / 127.5 - 1
        if self._is_video:
            pixels = pixels.unsqueeze(2)
        found = module.encode(pixels.to(module.dtype))
        raw = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latent
        raw = (raw[:, :, 0] if self._is_video else raw).float()
        if self._mean is not None and self._deviation is not None:
            raw = (raw - self._of_channels(self._mean, raw)) / self._of_channels(
                self._deviation, raw
            )
        if self._is_squared:
            mean, deviation = self._statistics(raw)
            raw = (torch.nn.functional.pixel_unshuffle(raw, 2) - mean) / deviation
        return (raw - self.shift) * self.scale

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of the channels of squares, ``(1, C, 1, 1)`` each."""
        norm, epsilon = self.module.bn, self.module.config["batch_norm_eps"]
        mean, deviation = norm.running_mean, (norm.running_var + epsilon).sqrt()
        return tuple(part.view(1, -1, 1, 1).to(like) for part in (mean, deviation))

    def _of_channels(self, numbers: Any, like: Tensor) -> Tensor:
        return torch.tensor(numbers, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)
