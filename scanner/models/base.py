"""The protocol that hides the model family."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scanner.methods import Need
from scanner.numerics.schedule import Prediction, Schedule


class Denoiser(Protocol):
    """A conditional generative model, seen through its score.

    Every method of the package is written against this. Epsilon and velocity networks are
    adapters; so are closed forms.
    """

    latent_shape: tuple[int, int, int]
    """Channels, height and width of a latent."""
    picture_size: tuple[int, int]
    """Height and width of a picture."""
    device: torch.device
    """Where latents live."""

    @property
    def has(self) -> frozenset[Need]:
        """What of `scanner.methods.declaration.OF_NETWORK` it has, for methods that look inside."""
        ...

    def schedule(self, steps: int) -> Schedule:
        """Return the noise levels that a DDIM sampler of so many steps visits."""
        ...

    def single(self, timestep: int) -> Schedule:
        """Return the schedule of one step, from a training timestep to the last level.

        Raises:
            ValueError: If the model has no such timestep.
        """
        ...

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return conditions, ``(B, *)``. The empty caption is the unconditional one."""
        ...

    def compress(self, pictures: Tensor) -> Tensor:
        """Return the clean latents of pictures, ``(B, C, H, W)`` float32; undone by `decode`.

        Args:
            pictures: ``(B, height, width, 3)`` uint8, of `picture_size`.
        """
        ...

    def score(self, x: Tensor, level: tuple[int, float, float], condition: Tensor) -> Tensor:
        """Return the score at ``x``, ``(B, C, H, W)`` float32, in 1 / latent; differentiable.

        Args:
            x: ``(B, C, H, W)`` float32.
            level: Timestep, alpha and sigma.
            condition: ``(B, *)`` from `encode`.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return pictures, ``(B, height, width, 3)`` uint8 on the CPU."""
        ...


@runtime_checkable
class HasAttention(Protocol):
    """What a denoiser with cross attention over text adds to `Denoiser`."""

    def end_tokens(self, captions: Sequence[str]) -> Tensor:
        """Return where each caption's end-of-text token stands among its states, ``(B,)``."""
        ...

    def score_and_attention(
        self, x: Tensor, level: tuple[int, float, float], condition: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the score, and the attention that the first samples pay to one token each.

        Args:
            x: ``(B, C, H, W)`` float32.
            level: Timestep, alpha and sigma.
            condition: ``(B, *)`` from `Denoiser.encode`.
            tokens: Position of the token in each of the first N samples, ``(N,)``.

        Returns:
            The score as `Denoiser.score` gives it, and ``(N, H, W)`` float32, 0 to 1.
        """
        ...


@runtime_checkable
class HasPrediction(Protocol):
    """What a denoiser adds to `Denoiser` that can sample from a level without signal.

    At alpha = 0 the score is that of the noise alone, whatever the model; the network's output
    says more.
    """

    def predict(
        self, x: Tensor, level: tuple[int, float, float], condition: Tensor
    ) -> tuple[Tensor, Prediction]:
        """Return the score as `Denoiser.score` gives it, and the output behind it."""
        ...


@runtime_checkable
class HasLevels(Protocol):
    """What a less-trained network adds to `Denoiser` whose noise schedule may be another."""

    def refuse_level(self, alpha: float) -> None:
        """Refuse a noise level that the network was not trained at.

        Raises:
            ConfigError: If it was not.
        """
        ...


@runtime_checkable
class HasBottleneck(Protocol):
    """What a denoiser with a bottleneck adds to `Denoiser`."""

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Collect what the bottleneck gives in every evaluation inside, ``(B, C, h, w)`` each."""
        ...
