"""Interface of a detector: steps of the sampler in, scores and maps out.

Importing this does not import torch, so a file may hold a detector's declaration and its code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Level = tuple[float, float, float]
"""Timestep, alpha and sigma."""


class Setting(Protocol):
    """The network that a batch goes through, for detectors that evaluate it once more.

    Every evaluation is counted, and must be declared in the method's ``evaluations``.
    """

    def level(self, step: int) -> Level:
        """Return the level of a step, counted from 0 or back from -1."""
        ...

    def scores(self, level: Level) -> Callable[[Tensor], Tensor]:
        """Return the function from points of both branches, ``(2B, C, H, W)``, to scores."""
        ...

    def compared(self, level: Level) -> Callable[[Tensor], Tensor]:
        """Return the function to what is compared between branches at the first step.

        Scores; of a flow the outputs, since its first step has no signal and its scores are the
        same under every caption. From points of both branches, ``(2B, C, H, W)``, to that shape.
        """
        ...

    def of_samples(self, samples: slice) -> Setting:
        """Return the setting of some samples of the batch."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trajectory.

    Attributes:
        index: Counted from 0, the noisiest.
        level: Its level.
        x: The latents before it, ``(B, C, H, W)``.
        conditional: Their conditional score, in 1 / latent.
        unconditional: Their unconditional score.
        after: The latents after it.
        outputs: What a flow's network put out, ``(2B, C, H, W)``, conditional first; null of
            other models.
        attention: What the conditional branch's end-of-text token gets, ``(B, H, W)``, 0 to 1;
            at the last step and only if a method needs cross attention.
        bottleneck: What the model's middle gave for the empty caption, ``(B, C, h, w)``; at the
            last step and only if a method needs a middle block.
    """

    index: int
    level: Level
    x: Tensor
    conditional: Tensor
    unconditional: Tensor
    after: Tensor
    outputs: Tensor | None = None
    attention: Tensor | None = None
    bottleneck: Tensor | None = None

    @property
    def difference(self) -> Tensor:
        """``eps_c - eps_u``, ``(B, C, H, W)``; of a flow that of the outputs, ``o_c - o_u``.

        The two differ by the factor alpha, which is 0 at a flow's first step.
        """
        from scanner.numerics import detectors

        if self.outputs is not None:
            own, null = self.outputs.chunk(2)
            return own - null
        return detectors.noise_difference(self.conditional, self.unconditional, self.level[2])

    @property
    def compared(self) -> Tensor:
        """The outputs of `Setting.compared` here, ``(2B, C, H, W)``, conditional first."""
        import torch

        if self.outputs is not None:
            return self.outputs
        return torch.cat([self.conditional, self.unconditional])


class Observer(Protocol):
    """A detector on its way along one batch's trajectory."""

    def update(self, step: Step) -> None:
        """Take a step in; steps come in order."""
        ...

    def scores(self) -> Tensor:
        """Return the scores, ``(B,)``, after the last step."""
        ...

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return maps that fell off, ``(B, H, W)`` by (metric, baseline)."""
        ...

    def per_step(self) -> Tensor | None:
        """Return a number per step, ``(B, K)``, that a calibration compares; null of most."""
        ...


class ObserverBase:
    """An observer without maps, that keeps a number per sample from some of the steps.

    Attributes:
        kept: Those numbers, ``(B,)`` each.
    """

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def scores(self) -> Tensor:
        """Return the mean of what was kept, ``(B,)``."""
        import torch

        return torch.stack(self.kept).mean(dim=0)

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return none."""
        return {}

    def per_step(self) -> Tensor | None:
        """Return none."""
        return None
