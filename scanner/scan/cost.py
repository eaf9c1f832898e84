"""Cost of a draw in evaluations of the network, from the methods' declarations."""

from collections import Counter

from scanner.methods import Evaluation, registry
from scanner.methods.maps import PROBES
from scanner.numerics.portions import num_probes
from scanner.spec import ScanSpec


def step_of(metric: str, spec: ScanSpec) -> int:
    """Return the step at which a map is taken, counted back from the end: -1 is the last."""
    own = registry.MAPS[metric].step
    return -1 - spec.map_back if own is None else own


def evaluations_of(spec: ScanSpec, *, localized: bool) -> set[Evaluation]:
    """Return what a draw needs beyond its trajectory."""
    early = [name for name in spec.detectors if name not in spec.late]
    methods = spec.methods if localized else registry.asked(early, ())
    return {evaluation for method in methods for evaluation in method.evaluations}


def takes_probes(spec: ScanSpec) -> bool:
    """Return whether a map is taken from products with the Jacobians."""
    return PROBES in evaluations_of(spec, localized=True)


def takes_products(metric: str) -> bool:
    """Return whether a map of this metric is taken from products with the Jacobians."""
    return PROBES in registry.MAPS[metric].evaluations


def probes_taken(spec: ScanSpec, channels: int) -> int:
    """Return how many products a map takes: of structured probes only whole rounds fit.

    Under a target error, at most.

    Args:
        spec: What is asked.
        channels: Of a latent.
    """
    return num_probes(
        channels, spec.probes, spec.probe_design, adaptive=spec.stops_early
    )  # fmt: skip


def evaluations(
    spec: ScanSpec, *, localized: bool, probes: int, baselines: int = 0
) -> Counter[str]:
    """Return what one draw costs.

    Args:
        spec: What is asked.
        localized: Whether the caption gets maps.
        probes: Products that the maps really take.
        baselines: How many there are beside the unconditional branch.

    Returns:
        ``forward``, ``vjp`` and ``jvp``, as `EvaluationCounter` counts them.
    """
    total = Counter(forward=2 if spec.source == "image" else 2 * spec.steps)
    if spec.flag_baseline is not None:
        total["forward"] += 1
    if localized and baselines and spec.captions:
        if takes_probes(spec):
            total.update({"forward": baselines, "vjp": probes * baselines})
        else:  # the model's own score under the caption, and each baseline's
            total["forward"] += 1 + baselines
    for evaluation in evaluations_of(spec, localized=localized):
        total.update(evaluation.cost(probes))
    return total
