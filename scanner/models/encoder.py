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


def is_exact(name: str) -> bool:
    """Return whether a part holds whole numbers, which half precision may not have."""
    return "mask" in name or "labels" in name


def _called(network: Any, x: Tensor, told: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    return network(x, timestep=told, **arguments, return_dict=False)[0]


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a family's captions reach its network.

    Attributes:
        encode: From a pipeline and captions to parts. Rows are what each caption alone would
            give: what pads to the longest of a batch encodes one by one.
        arguments: From the parts of a batch and a grid to the network's arguments.
        call: From network, latents, what it is told of the level, ``(B,)``, and arguments to its
            output.
    """

    encode: Callable[[Any, Sequence[str]], Parts]
    arguments: Callable[[Parts, Grid], Mapping[str, Any]] = lambda parts, grid: parts
    call: Callable[[Any, Tensor, Tensor, Mapping[str, Any]], Tensor] = _called
