"""Detectors that look inside the network: its cross attention, its middle block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanner.methods.declaration import Detector, Need
from scanner.methods.observing import ObserverBase

if TYPE_CHECKING:
    from torch import Tensor

    from scanner.methods.observing import Step


class BrightEnding(ObserverBase):
    """The noise difference where the end-of-text token is looked at, over all steps."""

    def __init__(self) -> None:
        super().__init__()
        self.attention: Tensor | None = None

    def update(self, step: Step) -> None:
        """Keep every step's energies, and the attention of the last."""
        self.kept.append(step.difference.square().sum(dim=1))
        self.attention = step.attention

    def scores(self) -> Tensor:
        """Return the local detection score, ``(B,)``.

        Raises:
            ValueError: If the last step came without attention.
        """
        import torch

        from scanner.numerics import detectors

        if self.attention is None:
            raise ValueError("the last step must come with attention")
        return detectors.focused_norm(torch.stack(self.kept), self.attention)


class Spread(ObserverBase):
    """Spread over channels of the bottleneck's response to the sampled picture."""

    def update(self, step: Step) -> None:
        """Take the unconditional branch at the last step, which alone comes with features."""
        from scanner.numerics import detectors

        if step.bottleneck is not None:
            self.kept.append(detectors.spread(step.bottleneck))


DETECTORS = (
    Detector(
        name="bright_ending",
        title="noise difference where the end of the text is looked at",
        formula="mean over steps of `norm(d m)`, over `mean(m)`",
        unit="noise",
        source="Chen et al., ICLR 2025",
        notes="`m` is the map `bright_ending`",
        needs=frozenset({Need.CROSS_ATTENTION, Need.CAPTION}),
        observer=lambda _: BrightEnding(),
    ),
    Detector(
        name="spread",
        title="spread of the middle block's channels",
        formula="standard deviation over channels of the largest value of each, in the U-Net's "
        "middle block, of `u` at `k = K - 1`",
        unit="features",
        source="Zhang et al., ICLR 2026",
        notes="suspicious where high",
        needs=frozenset({Need.MIDDLE_BLOCK}),
        observer=lambda _: Spread(),
    ),
)
