"""What an encoder of captions is: from captions to parts, from parts to a network's arguments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Parts = dict[str, Tensor]
"""Tensors with one row a caption, by the network's own argument names."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What a network's arguments depend on beside captions.

    Attributes:
        pipeline: The pipeline.
        batch: How many samples.
        latent: Channels, height and width of a latent.
        picture: Height and width of a picture, pixels.
        device: Where the arguments must be.
    """

    pipeline: Any
    batch: int
    latent: tuple[int, int, int]
    picture: tuple[int, int]
    device: torch.device


def device_of(pipeline: Any) -> torch.device:
    """Return where the text encoders are; a pipeline alone may name the device of another part."""
    parts = (getattr(pipeline, f"text_encoder{end}", None) for end in ("", "_2", "_3"))
    return next(part.device for part in parts if part is not None)


def is_exact(name: str) -> bool:
    """Return whether a part holds whole numbers, which half precision may not have."""
    return "mask" in name or "labels" in name


def _called(network: Any, x: Tensor, told: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    return network(x, timestep=told, **arguments, return_dict=False)[0]


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a family's captions reach its network.

    Attributes:
        encode: From a pipeline and captions to parts. A scan hands it one caption at a time, so
            that a row does not depend on what else is in a batch.
        arguments: From the parts of a batch and a grid to the network's arguments.
        call: From network, latents, what it is told of the level, ``(B,)``, and arguments to its
            output.
    """

    encode: Callable[[Any, Sequence[str]], Parts]
    arguments: Callable[[Parts, Grid], Mapping[str, Any]] = lambda parts, grid: parts
    call: Callable[[Any, Tensor, Tensor, Mapping[str, Any]], Tensor] = _called
