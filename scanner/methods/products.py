"""Detectors that evaluate the network once more: gradients, tangents, or another noise level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanner.methods.declaration import Detector, Evaluation, Need
from scanner.methods.observing import ObserverBase

if TYPE_CHECKING:
    from torch import Tensor

    from scanner.methods.observing import Setting, Step

LOW_NOISE = -3
"""Step of the low noise level at which `Anisotropy` looks at pure noise: the third from the end."""
TANGENTS_AT_ONCE = 2
"""Samples of one forward-mode product: unfused attention takes gigabytes each at 64 x 64."""
LOW_NOISE_PAIR = Evaluation(name="pure noise at a low noise level", forward=2)
"""Shared by the detector and the map `anisotropy`."""
_CLEAN_PROBES = Evaluation(name="probes at the clean latents", forward=2, vjp_per_probe=2)
_ROSS = "Ross et al., ICLR 2025"


class Sharpness(ObserverBase):
    """The Hessian-score product at the first step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    def update(self, step: Step) -> None:
        """Take the product at the first step, a few samples at a time."""
        import torch

        from scanner.numerics import detectors

        if step.index > 0:
            return
        own, null = step.compared.chunk(2)
        tangent = own - null
        parts: list[Tensor] = []
        for start in range(0, len(tangent), TANGENTS_AT_ONCE):
            part = slice(start, start + TANGENTS_AT_ONCE)
            function = self.setting.of_samples(part).compared(step.level)
            parts.append(detectors.sharpness(function, step.x[part], tangent[part]))
        self.kept.append(torch.cat(parts))


class GradientGap(ObserverBase):
    """Metric 2, at the first step."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting

    def update(self, step: Step) -> None:
        """Take the gradients at the first step."""
        from scanner.numerics import detectors

        if step.index == 0:
            function = self.setting.compared(step.level)
            # A flow's outputs are compared as they are.
            scale = step.level[2] if step.outputs is None else 1.0
            gap = detectors.gradient_gap(function, step.x, step.compared, scale)
            self.kept.append(gap)


class Anisotropy(ObserverBase):
    """The first step's norm, and how the guidance of pure noise lies at a low noise level."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.cosines: Tensor | None = None

    def update(self, step: Step) -> None:
        """Evaluate the pure noise once more at the first step."""
        from scanner.numerics import detectors

        if step.index == 0:
            self.cosines = cosines(self.setting, step.x)
            first = detectors.norm(step.difference)
            self.kept.append(detectors.anisotropy(first, self.cosines))

    def maps(self) -> dict[tuple[str, str], Tensor]:
        """Return the cosines."""
        return {} if self.cosines is None else {("anisotropy", "null"): self.cosines}


def cosines(setting: Setting, noise: Tensor) -> Tensor:
    """Return the per-position cosines of pure noise at the low noise level, ``(B, H, W)``.

    The noise is that of the first step, unscaled and undenoised: the mismatch is the method's.
    Two evaluations a sample.
    """
    import torch

    from scanner.numerics import detectors

    pair = setting.scores(setting.level(LOW_NOISE))(torch.cat([noise, noise]))
    return detectors.cosine_map(*pair.chunk(2))


def flipd(score: Tensor, diagonal: Tensor, sigma: float) -> Tensor:
    """Return `scanner.numerics.detectors.flipd` of one branch."""
    from scanner.numerics import detectors

    return detectors.flipd(score, diagonal, sigma)


DETECTORS = (
    Detector(
        name="sharpness",
        title="Hessian-score product",
        formula="`norm((H_c - H_u)(s_c - s_u))^2` at `k = 0`",
        unit="1 / latent^6",
        source="Jeon et al., ICML 2025",
        notes="squared, as in the paper; its code reports the root",
        evaluations=(Evaluation(name="tangents", forward=2, jvp=2),),
        needs=frozenset({Need.FIRST_STEP}),
        observer=Sharpness,
    ),
    Detector(
        name="flipd",
        title="local intrinsic dimension",
        formula="`D - sigma tr(J_c) + norm(e_c)^2` at the denoised latent",
        unit="dimensions",
        source=_ROSS,
        evaluations=(_CLEAN_PROBES,),
        needs=frozenset({Need.LOCALIZATION}),
        low_is_suspicious=True,
        of_branch=flipd,
    ),
    Detector(
        name="flipd_null",
        title="local intrinsic dimension without the caption",
        formula="the same of `e_u` and `J_u`",
        unit="dimensions",
        source=_ROSS,
        notes="the point is the same; only the branch is not",
        evaluations=(_CLEAN_PROBES,),
        needs=frozenset({Need.LOCALIZATION}),
        low_is_suspicious=True,
        of_branch=flipd,
        branch=1,
    ),
    Detector(
        name="anisotropy",
        title="noise difference and its direction at low noise",
        formula="`norm(d)` at `k = 0` + mean of the map `anisotropy`",
        unit="noise",
        source="Asthana & Belagiannis, ICLR 2026",
        notes="weights 1 and 1",
        evaluations=(LOW_NOISE_PAIR,),
        needs=frozenset({Need.TRAJECTORY, Need.FIRST_STEP}),
        least_steps=-LOW_NOISE,
        step=LOW_NOISE,
        observer=Anisotropy,
    ),
    Detector(
        name="metric2",
        title="gap between the gradients of the noise's norm",
        formula="`norm(J_c^T e_c - J_u^T e_u)^2` at `k = 0`",
        unit="1 / latent^2",
        source="anonymous, submitted to ICML 2026",
        evaluations=(Evaluation(name="gradients", forward=2, vjp=2),),
        needs=frozenset({Need.FIRST_STEP}),
        observer=GradientGap,
    ),
)
