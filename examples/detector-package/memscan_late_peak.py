"""A detector for memscan: how large the noise difference still gets late in sampling."""

import torch

from scanner.methods import Detector, Need, ObserverBase, Setting, Step


class LatePeak(ObserverBase):
    """The largest norm of ``eps_c - eps_u`` below half of the first step's noise scale."""

    def __init__(self, _: Setting) -> None:
        super().__init__()
        self.first_sigma = 0.0

    def update(self, step: Step) -> None:
        """Keep the norm of a late step; noisier ones count as zero."""
        if step.index == 0:
            self.first_sigma = step.level[2]
        norms = step.difference.flatten(1).norm(dim=1)
        self.kept.append(norms if step.level[2] < self.first_sigma / 2 else norms * 0)

    def scores(self) -> torch.Tensor:
        """Return the largest norm, ``(B,)``."""
        return torch.stack(self.kept).amax(dim=0)


LATE_PEAK = Detector(
    name="late_peak",
    title="largest late noise difference",
    formula="largest `norm(d)` where `sigma < sigma_0 / 2`",
    unit="noise",
    source="an example",
    needs=frozenset({Need.TRAJECTORY}),
    observer=LatePeak,
)
