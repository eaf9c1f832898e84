"""The maps that localized captions can get.

`scanner.scan.stages` gives those that come from scores and curvatures; a map that is a function
of others has that function here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scanner.methods.declaration import Evaluation, Map, Need
from scanner.methods.products import LOW_NOISE, LOW_NOISE_PAIR

if TYPE_CHECKING:
    from torch import Tensor

PROBES = Evaluation(name="probes", forward=2, vjp_per_probe=2)
"""Products with the Jacobians of both branches, where the maps are taken."""
_KIM, _CHEN = "Kim & Lee, ICML 2026", "Chen et al., ICLR 2025"


def combined(delta_h: Tensor, attention: Tensor) -> Tensor:
    """Return `scanner.numerics.detectors.combined_map`."""
    from scanner.numerics import detectors

    return detectors.combined_map(delta_h, attention)


def combined_s(delta_h: Tensor, delta_s: Tensor) -> Tensor:
    """Return `scanner.numerics.detectors.combined_score_map`."""
    from scanner.numerics import detectors

    return detectors.combined_score_map(delta_h, delta_s)


MAPS = (
    Map(
        name="delta_s",
        title="score difference",
        formula="sum over channels of `(s_c - s_u)^2` at `k = K - 1`",
        unit="1 / latent^2",
        source=_KIM,
        is_default=True,
    ),
    Map(
        name="delta_h",
        title="curvature difference",
        formula="sum over channels of `diag(-H_c) - diag(-H_u)` at `k = K - 1`",
        unit="1 / latent^2",
        source=_KIM,
        notes="signed",
        evaluations=(PROBES,),
        is_default=True,
    ),
    Map(
        name="curvature",
        title="curvature",
        formula="sum over channels of `diag(-H_c)` at `k = K - 1`",
        unit="1 / latent^2",
        source=_KIM,
        notes="the control without a baseline",
        evaluations=(PROBES,),
        is_default=True,
    ),
    Map(
        name="anisotropy",
        title="direction of the noise difference",
        formula="cosine over channels of `e_u` and `d`, of `x_0` at the level of `k = K - 3`",
        unit="none, -1 to 1",
        source="Asthana & Belagiannis, ICLR 2026",
        notes="pure noise, undenoised: the mismatch is the method",
        evaluations=(LOW_NOISE_PAIR,),
        needs=frozenset({Need.TRAJECTORY}),
        least_steps=-LOW_NOISE,
        step=LOW_NOISE,
    ),
    Map(
        name="bright_ending",
        title="attention to the end of the text",
        formula="`m`: the attention that the caption's end-of-text token gets at `k = K - 1`",
        unit="none, 0 to 1",
        source=_CHEN,
        needs=frozenset({Need.CROSS_ATTENTION, Need.CAPTION}),
        step=-1,
    ),
    Map(
        name="combined",
        title="curvature difference, by attention",
        formula="`delta_h m / mean(m)`",
        unit="1 / latent^2",
        source="ours, of the two",
        notes="signed; flat attention changes nothing",
        evaluations=(PROBES,),
        needs=frozenset({Need.CROSS_ATTENTION, Need.CAPTION}),
        of=("delta_h", "bright_ending"),
        combine=combined,
    ),
    Map(
        name="combined_s",
        title="curvature difference, by score difference",
        formula="`sign(delta_h) sqrt(abs(delta_h) delta_s)`",
        unit="1 / latent^2",
        source="ours, of the two",
        notes="signed; large where both are",
        evaluations=(PROBES,),
        of=("delta_h", "delta_s"),
        combine=combined_s,
    ),
    Map(
        name="snap_back",
        title="denoising gain",
        formula="`log2(err_u / err_c)`, both errors averaged over a fifth of the side first",
        unit="bits",
        source="ours",
        notes="only where images are scored, see below",
        needs=frozenset({Need.IMAGE}),
    ),
)
"""In the order in which a spec lists them."""
