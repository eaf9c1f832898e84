"""Counting what a scan costs: the evaluations that networks really made, and their time."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Event

import torch
from torch import Tensor
from torch.autograd import forward_ad

from scanner.errors import Stopped
from scanner.methods import Need
from scanner.models.base import (
    Checkpoints,
    Denoiser,
    HasAttention,
    HasBottleneck,
    HasLevels,
    Level,
    LooksAhead,
    Worded,
)
from scanner.numerics.schedule import Prediction, Schedule
from scanner.scan.clock import Clock


class EvaluationCounter:
    """A denoiser that counts its evaluations, each sample of a batch as one.

    ``forward``: a sample went through the network. ``vjp``: a gradient came back through it.
    ``jvp``: a tangent went along with a forward pass, which is counted too.

    Args:
        network: The denoiser.
        counts: Added to; may be shared by several denoisers.
        clock: Times what is called, if there is one; may be shared likewise.
        stopped: Once it is set, evaluations raise `scanner.errors.Stopped`.
    """

    def __init__(
        self, network: Denoiser, counts: Counter[str], clock: Clock | None = None,
        stopped: Event | None = None,
    ) -> None:  # fmt: skip
        self.network, self.counts, self.clock = network, counts, clock
        self._stopped = stopped
        self.latent_shape, self.device = network.latent_shape, network.device
        self.picture_size = network.picture_size

    @property
    def has(self) -> frozenset[Need]:
        """The network's own."""
        return self.network.has

    def schedule(self, steps: int) -> Schedule:
        """Return the network's own."""
        return self.network.schedule(steps)

    def single(self, timestep: int) -> Schedule:
        """Return the network's own."""
        return self.network.single(timestep)

    def compress(self, pictures: Tensor) -> Tensor:
        """Return the network's own; autoencoders are not counted."""
        with self.span("autoencoder"):
            return self.network.compress(pictures)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return the network's own; text encoders are not counted."""
        with self.span("preparation"):
            return self.network.encode(captions)

    def expect(self, captions: Sequence[str]) -> None:
        """Tell the network, if it looks ahead."""
        if isinstance(self.network, LooksAhead):
            with self.span("preparation"):
                self.network.expect(captions)

    def checkpoint_blocks(self) -> bool:
        """Have the network keep less for products, if it can; return whether that is new."""
        return isinstance(self.network, Checkpoints) and self.network.checkpoint_blocks()

    def decode(self, latents: Tensor) -> Tensor:
        """Return the network's own; autoencoders are not counted."""
        with self.span("autoencoder"):
            return self.network.decode(latents)

    @property
    def text_differs(self) -> bool:
        """Whether captions must be encoded by it, as the network says."""
        return isinstance(self.network, Worded) and self.network.text_differs

    def refuse_level(self, alpha: float) -> None:
        """Refuse a level that the network refuses.

        Raises:
            ConfigError: If it does.
        """
        if isinstance(self.network, HasLevels):
            self.network.refuse_level(alpha)

    def end_tokens(self, captions: Sequence[str]) -> Tensor:
        """Return the network's own.

        Raises:
            TypeError: If it has no cross attention.
        """
        with self.span("preparation"):
            return with_attention(self.network).end_tokens(captions)

    def score(self, x: Tensor, level: Level, condition: Tensor) -> Tensor:
        """Return the network's own, counted."""
        with self.span("network"):
            score = self.network.score(x, level, condition)
        return self._count(x, score)

    def predict(self, x: Tensor, level: Level, condition: Tensor) -> Prediction:
        """Return the network's own, counted."""
        with self.span("network"):
            prediction = self.network.predict(x, level, condition)
        return replace(prediction, output=self._count(x, prediction.output))

    def attention(self, tokens: Tensor) -> AbstractContextManager[list[Tensor]]:
        """Return the network's own.

        Raises:
            TypeError: If it has no cross attention.
        """
        return with_attention(self.network).attention(tokens)

    def bottleneck(self) -> AbstractContextManager[list[Tensor]]:
        """Return the network's own.

        Raises:
            TypeError: If it has none.
        """
        return with_bottleneck(self.network).bottleneck()

    def _count(self, x: Tensor, output: Tensor) -> Tensor:
        if self._stopped is not None and self._stopped.is_set():
            raise Stopped("the scan was stopped")
        self.counts["forward"] += len(x)
        if forward_ad.unpack_dual(x).tangent is not None:
            self.counts["jvp"] += len(x)
        if output.requires_grad and torch.is_grad_enabled():
            output.register_hook(lambda _: self.counts.update(vjp=len(x)))
            if self.clock is not None and x.requires_grad:
                _time_products(self.clock, x, output)
        return output

    def span(self, part: str) -> AbstractContextManager[None]:
        """Time what is inside as a part of `scanner.scan.clock.PARTS`, if there is a clock."""
        return nullcontext() if self.clock is None else self.clock.span(part)


def _time_products(clock: Clock, x: Tensor, output: Tensor) -> None:
    """Time gradients on their way back through a network, from its output to its input."""
    begun: list[object] = []

    def ended(_: Tensor) -> None:
        if begun:
            clock.end("product", begun.pop())

    output.register_hook(lambda _: begun.append(clock.begin()))
    x.register_hook(ended)


def preparing(denoiser: Denoiser) -> AbstractContextManager[None]:
    """Time what is inside as preparation, if the denoiser is timed."""
    return (
        denoiser.span("preparation") if isinstance(denoiser, EvaluationCounter) else nullcontext()
    )


def with_attention(denoiser: Denoiser) -> HasAttention:
    """Return a denoiser as one that has attention maps.

    Raises:
        TypeError: If it cannot; `Denoiser.has` says so before.
    """
    if not isinstance(denoiser, HasAttention):
        raise TypeError(f"{type(denoiser).__name__} must have {Need.CROSS_ATTENTION.label}")
    return denoiser


def with_bottleneck(denoiser: Denoiser) -> HasBottleneck:
    """Return a denoiser as one that has bottleneck features.

    Raises:
        TypeError: If it cannot; `Denoiser.has` says so before.
    """
    if not isinstance(denoiser, HasBottleneck):
        raise TypeError(f"{type(denoiser).__name__} must have {Need.MIDDLE_BLOCK.label}")
    return denoiser
