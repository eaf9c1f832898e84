"""Losses of the two ways to train: velocity under a noise schedule, and flow matching."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from scanner.testbed import flow, pipeline

Rng = np.random.Generator


class Objective(Protocol):
    """Loss that a family minimizes."""

    def timesteps(self, rng: Rng, number: int) -> Tensor:
        """Return random training timesteps, ``(number,)`` float32, 0 to 1000."""
        ...

    def states(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """Return what the network is told, a row a caption."""
        ...

    def errors(
        self, network: nn.Module, clean: Tensor, noise: Tensor, timesteps: Tensor,
        states: tuple[Tensor, ...],
    ) -> Tensor:  # fmt: skip
        """Return the mean squared error of every sample's predicted velocity, ``(B,)``."""
        ...


class Velocity:
    """The velocity loss of a U-Net under Stable Diffusion's noise schedule."""

    def __init__(self, words: CLIPTokenizer, text: CLIPTextModel, low_share: float) -> None:
        self.words, self.text, self.low_share = words, text, low_share
        self.alphas = pipeline.scheduler().alphas_cumprod

    def timesteps(self, rng: Rng, number: int) -> Tensor:
        """Return whole timesteps, some of them drawn from the first 120."""
        low = rng.random(number) < self.low_share
        drawn = np.where(low, rng.integers(0, 120, number), rng.integers(0, 1000, number))
        return torch.from_numpy(drawn).float()

    def states(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """Return text states, ``(B, tokens, width)``."""
        return (self.text(flow.tokens(self.words, captions)).last_hidden_state,)

    def errors(
        self, network: nn.Module, clean: Tensor, noise: Tensor, timesteps: Tensor,
        states: tuple[Tensor, ...],
    ) -> Tensor:  # fmt: skip
        """Return the error of the predicted ``alpha * noise - sigma * clean``."""
        alphas = self.alphas[timesteps.long()].view(-1, 1, 1, 1)
        alpha, sigma = alphas.sqrt(), (1 - alphas).sqrt()
        noised = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        predicted = network(noised, timesteps.long(), states[0], return_dict=False)[0]
        return (predicted - (alpha * noise - sigma * clean)).square().mean((1, 2, 3))


class Flow:
    """Flow matching along straight lines, as Stable Diffusion 3 is trained."""

    def __init__(self, words: CLIPTokenizer, text: CLIPTextModelWithProjection) -> None:
        self.words, self.text = words, text

    def timesteps(self, rng: Rng, number: int) -> Tensor:
        """Return timesteps, seven tenths logit-normal and the rest uniform."""
        bent = 1 / (1 + np.exp(-rng.standard_normal(number)))
        drawn = np.where(rng.random(number) < 0.7, bent, rng.random(number))
        return torch.from_numpy(1000 * drawn).float()

    def states(self, captions: Sequence[str]) -> tuple[Tensor, ...]:
        """Return text states and pooled states as the pipeline makes them."""
        with torch.no_grad():
            return flow.states(self.text, flow.tokens(self.words, captions))

    def errors(
        self, network: nn.Module, clean: Tensor, noise: Tensor, timesteps: Tensor,
        states: tuple[Tensor, ...],
    ) -> Tensor:  # fmt: skip
        """Return the error of the predicted ``noise - clean``."""
        sigma = (timesteps / 1000).view(-1, 1, 1, 1)
        predicted = network(
            hidden_states=(1 - sigma) * clean + sigma * noise, timestep=timesteps,
            encoder_hidden_states=states[0], pooled_projections=states[1], return_dict=False,
        )[0]  # fmt: skip
        return (predicted - (noise - clean)).square().mean((1, 2, 3))
