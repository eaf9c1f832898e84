"""The protocol that hides the model family."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scanner.methods import Need
from scanner.methods.observing import Level
from scanner.numerics.schedule import Prediction, Schedule


class Denoiser(Protocol):
    """A conditional generative model, seen through its network's output and its score.

    Every method of the package is written against this. Networks of every target (noise, clean
    latent, velocity, flow) are adapters; so are closed forms.
    """

    latent_shape: tuple[int, int, int]
    """Channels, height and width of a latent."""
    picture_size: tuple[int, int]
    """Height and width of a picture."""
    device: torch.device
    """Device of the latents."""

    @property
    def has(self) -> frozenset[Need]:
        """What of `scanner.methods.declaration.OF_NETWORK` it has, for methods that look inside."""
        ...

    def schedule(self, steps: int) -> Schedule:
        """Return the noise levels that the sampler of so many steps visits."""
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

    def predict(self, x: Tensor, level: Level, condition: Tensor) -> Prediction:
        """Return the network's output at ``x``, ``(B, C, H, W)`` float32; differentiable.

        Args:
            x: ``(B, C, H, W)`` float32.
            level: Timestep, alpha and sigma.
            condition: ``(B, *)`` from `encode`.
        """
        ...

    def score(self, x: Tensor, level: Level, condition: Tensor) -> Tensor:
        """Return the score at ``x``, ``(B, C, H, W)`` float32, in 1 / latent; differentiable.

        That of what `predict` returns. At alpha = 0 it says nothing of the model.

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
    """Addition to `Denoiser` of models with cross attention over text."""

    def end_tokens(self, captions: Sequence[str]) -> Tensor:
        """Return where each caption's end-of-text token stands among its states, ``(B,)``."""
        ...

    def attention(self, tokens: Tensor) -> AbstractContextManager[list[Tensor]]:
        """Collect the attention that the first samples pay to one token each.

        Of the evaluation inside; the list is filled at the end: ``(N, H, W)`` float32, 0 to 1.

        Args:
            tokens: Position of the token in each of the first N samples, ``(N,)``.
        """
        ...


@runtime_checkable
class HasLevels(Protocol):
    """Addition to `Denoiser` of less-trained networks with a noise schedule of their own."""

    def refuse_level(self, alpha: float) -> None:
        """Refuse a noise level that the network was not trained at.

        Raises:
            ConfigError: If it was not.
        """
        ...


@runtime_checkable
class ChecksCaptions(Protocol):
    """Addition to `Denoiser` of models that do not take every caption, as of classes."""

    def refusal(self, caption: str) -> str:
        """Return why a caption is no condition of the model, or ``""``."""
        ...


def taken_caption(denoiser: Denoiser, usual: str) -> str:
    """Return a caption that a model takes: of classes the first, of no captions the empty one.

    Args:
        denoiser: The model.
        usual: What is taken where any caption is.
    """
    if not isinstance(denoiser, ChecksCaptions):
        return usual
    return next(text for text in (usual, "0", "") if not denoiser.refusal(text))


@runtime_checkable
class Worded(Protocol):
    """What a baseline adds to `Denoiser` whose text encoders may be others than the model's."""

    @property
    def text_differs(self) -> bool:
        """Whether captions must be encoded by it."""
        ...


@runtime_checkable
class LooksAhead(Protocol):
    """Addition to `Denoiser` of models whose text encoders may be elsewhere than the network."""

    def expect(self, captions: Sequence[str]) -> None:
        """Prepare for captions that `encode` will be asked for, in this order."""
        ...


@runtime_checkable
class Spread(Protocol):
    """Addition to `Denoiser` of models that may lie on several devices."""

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices of the network."""
        ...


@runtime_checkable
class HasBottleneck(Protocol):
    """Addition to `Denoiser` of models with a bottleneck."""

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Collect what the bottleneck gives in every evaluation inside, ``(B, C, h, w)`` each."""
        ...


@runtime_checkable
class Checkpoints(Protocol):
    """Addition to `Denoiser` of models whose products can take less memory, for more time."""

    def checkpoint_blocks(self) -> bool:
        """Keep less for products from now on; return whether that is new."""
        ...


@runtime_checkable
class Compiles(Protocol):
    """Addition to `Denoiser` of models whose network can be compiled."""

    def compile_blocks(self, batch_size: int | None = None) -> None:
        """Have the network's repeated blocks compiled for batches of so many draws."""
        ...

    @property
    def not_compiled(self) -> str:
        """Why blocks that shall be compiled are not, or ``""``."""
        ...
